import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from photoz.card import CardSection, CardTable, ModelCard
from photoz.evaluation import evaluate
from photoz.importance import Importance
from photoz.pdf import RedshiftPDF
from photoz.report import EstimatorDetails, write_report

N_GALAXIES = 200
VOID = {"meta", "br", "img", "link"}
HOSTILE = "<script>alert('x')</script>"


def make_evaluation(sigma):
    generator = np.random.default_rng(0)
    mean = generator.uniform(0.2, 1.5, (N_GALAXIES, 1))
    grid = np.linspace(0, 2.5, 126)
    pz = RedshiftPDF.from_mixture(grid, np.ones_like(mean), mean, np.full_like(mean, sigma))
    z_spec = np.clip(mean[:, 0] + 0.05 * generator.normal(size=N_GALAXIES), 0, None)
    conditions = {"i (AB mag)": generator.uniform(18, 24, N_GALAXIES)}
    return evaluate(z_spec, pz, conditions=conditions, n_bootstrap=20)


@pytest.fixture(scope="module")
def evaluations():
    return {"network": make_evaluation(0.05), "forest": make_evaluation(0.1)}


@pytest.fixture
def report(evaluations):
    return {
        "name": "my survey",
        "created": "2026-11-22T10:00:00+00:00",
        "photoz_version": "0.1.0",
        "data": {
            "n_train": 1234,
            "n_validation": 300,
            "n_test": N_GALAXIES,
            "n_test_off_grid": 7,
            "dropped": {"redshift missing": 11},
            "sha256": "ab" * 32,
        },
        "split_sha256": "cd" * 32,
        "estimators": {
            name: {
                "parameters": {"n_trees": 200, "kernel": "gaussian"},
                "validation": result.metrics,
                "test": result.metrics,
                "test_interval": {key: list(ends) for key, ends in result.intervals.items()},
                "fit_seconds": 3.21,
                "search_seconds": 83.0,
                "trials": 3,
                "timed_out": False,
                "bundle": f"models/{name}",
                "mlflow_run_id": "0f3a",
            }
            for name, result in evaluations.items()
        },
        "champion": "network",
    }


class Page(HTMLParser):
    """Text and tags of a page, and whether every tag is closed in its turn."""

    def __init__(self, source):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(source)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)


@pytest.fixture(autouse=True)
def _no_plots(request, monkeypatch):
    """Draw no plots, of which test_plots.py takes care, but for the test of images."""
    if request.node.name != "test_page_needs_no_other_file":
        monkeypatch.setattr("photoz.report.plot_evaluation", lambda _: {})
        monkeypatch.setattr("photoz.report.compare_estimators", lambda _: None)
        for name in ("plot_importance", "plot_search"):
            monkeypatch.setattr(f"photoz.report.{name}", lambda *_: None)
        monkeypatch.setattr("photoz.report.to_png", lambda _: b"")


def render(report, tmp_path, details=None, **options):
    return write_report(report, details or {}, tmp_path / "report.html", **options).read_text(
        encoding="utf-8"
    )


def test_page_needs_no_other_file(report, evaluations, tmp_path):
    details = {name: EstimatorDetails(found) for name, found in evaluations.items()}

    source = render(report, tmp_path, details)
    page = Page(source)
    addresses = [attrs[key] for _, attrs in page.tags for key in ("src", "href") if key in attrs]

    assert page.open == []
    assert len(addresses) == 1 + 2 * 5
    assert all(address.startswith("data:image/png;base64,") for address in addresses)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    assert not re.search(r"url\(|@import|https?://", source)


def test_held_out_table_gives_every_metric_with_its_interval(report, tmp_path):
    text = Page(render(report, tmp_path)).text
    value, (low, high) = (
        report["estimators"]["network"][key]["crps"] for key in ("test", "test_interval")
    )

    assert all(f" {metric} " in text for metric in report["estimators"]["forest"]["test"])
    # Some 0.028, 0.026 to 0.030: two digits of the half width.
    digits = 4 if (high - low) / 2 < 0.0099 else 3
    assert f"{value:.{digits}f} {low:.{digits}f} to {high:.{digits}f}" in text


def test_best_estimator_of_a_metric_stands_out(report, tmp_path):
    report["estimators"]["trainz"] = report["estimators"]["forest"] | {
        "test": dict.fromkeys(report["estimators"]["forest"]["test"], -100.0)
    }
    row = re.search(r"<tr><td [^>]*>crps</td>.*?</tr>", render(report, tmp_path), re.DOTALL)[0]

    # The network is better than the forest; a floor is never called the best.
    assert re.findall(r"<td( class=\"best\")?>", row) == [' class="best"', "", ""]


def test_best_coverage_is_the_closest_to_nominal(report, tmp_path):
    for name, value in (("network", 0.95), ("forest", 0.66)):
        entry = report["estimators"][name]
        entry["test"] = entry["test"] | {"coverage_68": value}
        entry["test_interval"] = {}
    row = re.search(
        r"<tr><td [^>]*>coverage_68</td>.*?</tr>",
        render_without_intervals(report, tmp_path),
        re.DOTALL,
    )[0]

    assert re.findall(r"<td( class=\"best\")?>", row) == ["", ' class="best"']


def render_without_intervals(report, tmp_path):
    """Page of values alone."""
    for entry in report["estimators"].values():
        entry["test_interval"] = {key: [value, value] for key, value in entry["test"].items()}
    return render(report, tmp_path)


def test_champion_is_marked_and_comes_first(report, evaluations, tmp_path):
    report["champion"] = "forest"
    details = {name: EstimatorDetails(found) for name, found in evaluations.items()}
    page = Page(render(report, tmp_path, details, metric="crps"))
    sections = [attrs for tag, attrs in page.tags if tag == "details"]

    assert "Champion: forest , chosen for the best crps on validation rows" in page.text
    assert [section["id"] for section in sections] == ["forest", "network"]
    assert ["open" in section for section in sections] == [True, False]


@pytest.mark.parametrize("simulated", [True, False])
def test_simulated_galaxies_are_called_simulated(report, tmp_path, simulated):
    report["data"]["simulated"] = simulated
    text = Page(render(report, tmp_path)).text

    assert ("simulated galaxies" in text) is simulated
    assert ("galaxies of this experiment are simulated" in text) is simulated


def test_rows_left_out_are_listed_by_reason(report, tmp_path):
    text = Page(render(report, tmp_path)).text

    assert "redshift missing 11" in text
    assert (
        "training 1,234 validation 300 held-out test 200 of these beyond the redshift grid 7"
        in text
    )
    assert "ab" * 32 in text
    assert "cd" * 32 in text


@pytest.mark.parametrize("n_kept", [None, 321])
def test_page_claims_finite_sample_coverage_only_where_galaxies_were_kept(
    report, tmp_path, n_kept
):
    if n_kept is not None:
        report["data"]["n_conformal"] = n_kept

    text = Page(render(report, tmp_path)).text

    assert ("is not a finite-sample guarantee" in text) == (n_kept is None)
    assert ("ranks of 321 galaxies that nothing else has seen" in text) == (n_kept is not None)
    assert ("kept for conformal coverage" in text) == (n_kept is not None)


def test_a_search_cut_by_its_timeout_is_marked(report, tmp_path):
    assert "cut by timeout" not in render(report, tmp_path)
    report["estimators"]["forest"]["timed_out"] = True

    assert "forest 1 min 23 s 3 cut by timeout 3.2 s" in Page(render(report, tmp_path)).text


def test_mean_redshifts_are_held_against_their_bar(report, tmp_path, evaluations):
    """Within 0.002 (1 + z) and two standard errors it is met; a shift of 0.1 misses it."""
    good = evaluations["network"]
    shifted = [replace(bin_, mean_pz=bin_.mean_pz + 0.1) for bin_ in good.tomography]
    details = {
        "network": EstimatorDetails(replace(good, tomography=good.tomography[:1])),
        "forest": EstimatorDetails(replace(good, tomography=tuple(shifted))),
    }
    bin_ = good.tomography[0]
    twice = 2 * bin_.standard_error / (1 + bin_.mean_z_spec)

    text = Page(render(report, tmp_path, details)).text

    assert f"{bin_.bias:+.4f} ± {twice:.4f} met" in text
    assert text.count(" missed") == len(shifted)


def test_worst_cells_of_all_estimators_stand_side_by_side(report, tmp_path, evaluations):
    details = {name: EstimatorDetails(found) for name, found in evaluations.items()}
    text = Page(render(report, tmp_path, details)).text
    worst = evaluations["forest"].worst_cell

    assert worst.miscoverage > 0  # twice too wide on purpose
    assert f"forest {worst.condition} {worst.label} {worst.n_galaxies}" in text
    assert text.index("worst cell galaxies") < text.index("Data training")


def test_worst_cell_is_named(report, tmp_path, evaluations):
    details = {"forest": EstimatorDetails(evaluations["forest"])}
    worst = evaluations["forest"].worst_cell

    text = Page(render(report, tmp_path, details)).text

    assert f"Worst cell: {worst.condition} {worst.label}, where coverage_68 is" in text


def test_card_of_the_champion_bands_and_what_decided_are_shown(report, tmp_path, evaluations):
    table = CardTable(["band", "AB mag"], [["g", "18 to 24"]])
    card = ModelCard("x", [CardSection("Metrics", "TWICE"), CardSection("Limits", "here", table)])
    details = {
        name: EstimatorDetails(
            found,
            importance=[Importance("g", 0.5, 0.1)],
            decided={"min_leaf": 0.75, "n_trees": 0.25},
            card=card,
        )
        for name, found in evaluations.items()
    }

    text = Page(render(report, tmp_path, details)).text

    assert "Model card: network Limits here band AB mag g 18 to 24" in text
    assert "TWICE" not in text
    assert text.count("What each band is worth") == 2
    assert "min_leaf 75 % n_trees 25 %" in text


def test_search_history_and_failures_are_shown(report, tmp_path, evaluations):
    trials = [(0, 1.0, "complete"), (1, None, "failed"), (2, 0.9, "complete")]
    errors = {1: "ValueError: too <deep>"}
    details = {"forest": EstimatorDetails(evaluations["forest"], trials, errors)}

    page = Page(render(report, tmp_path, details))

    assert "Trials: 2 complete, 1 failed." in page.text
    assert "1 ValueError: too <deep>" in page.text
    assert "Search history." in page.text


def test_every_text_is_escaped(report, tmp_path, evaluations):
    report["name"] = report["created"] = report["data"]["sha256"] = HOSTILE
    report["data"]["dropped"] = {HOSTILE: 1}
    entry = report["estimators"].pop("forest")
    entry |= {"parameters": {HOSTILE: HOSTILE}, "bundle": HOSTILE, "mlflow_run_id": HOSTILE}
    report["estimators"][HOSTILE] = entry
    details = {HOSTILE: EstimatorDetails(evaluations["forest"], errors={0: HOSTILE})}

    source = render(report, tmp_path, details)

    assert "<script" not in source
    assert Page(source).text.count(HOSTILE) >= 9


def test_a_missing_key_is_an_error_rather_than_a_gap(report, tmp_path):
    del report["split_sha256"]

    with pytest.raises(Exception, match="split_sha256"):
        render(report, tmp_path)

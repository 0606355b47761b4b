import subprocess
import sys

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from numpy.testing import assert_allclose

from photoz import plots
from photoz.errors import InputError
from photoz.evaluation import evaluate
from photoz.importance import Importance
from photoz.pdf import RedshiftPDF

N_GALAXIES = 500


def make_evaluation(sigma):
    generator = np.random.default_rng(0)
    mean = generator.uniform(0.2, 1.5, (N_GALAXIES, 1))
    grid = np.linspace(0, 2.5, 251)
    pz = RedshiftPDF.from_mixture(grid, np.ones_like(mean), mean, np.full_like(mean, sigma))
    z_spec = np.clip(mean[:, 0] + sigma * generator.normal(size=N_GALAXIES), 0, None)
    magnitude = generator.uniform(18, 24, N_GALAXIES)
    magnitude[:40] = np.nan
    return evaluate(z_spec, pz, conditions={"i (AB mag)": magnitude}, n_bootstrap=20)


@pytest.fixture(scope="module")
def evaluation():
    return make_evaluation(0.05)


@pytest.fixture(scope="module")
def figures(evaluation):
    return plots.plot_evaluation(evaluation)


def test_every_curve_has_its_plot_by_a_name_fit_for_a_file(figures):
    assert list(figures) == [
        "z_phot_against_z_spec",
        "pit",
        "n_of_z",
        "metrics_against_i",
        "metrics_against_z_phot",
    ]


def test_every_axis_of_data_is_labelled(figures):
    for name, figure in figures.items():
        for axes in figure.axes:
            assert axes.get_ylabel() or axes.get_title(loc="left"), name
    assert figures["metrics_against_i"].axes[-1].get_xlabel() == "i (AB mag)"


def test_figures_become_images(figures):
    for figure in figures.values():
        assert plots.to_png(figure).startswith(b"\x89PNG")


def test_scatter_shows_every_galaxy_within_its_axes(evaluation, figures):
    axes = figures["z_phot_against_z_spec"].axes[0]
    (hexagons,) = (c for c in axes.collections if isinstance(c, PolyCollection))
    top = axes.get_xlim()[1]
    shown = (evaluation.losses.z_spec <= top) & (evaluation.losses.z_phot <= top)

    assert hexagons.get_array().sum() == shown.sum()
    assert shown.mean() > 0.99


def test_curve_runs_through_the_values_of_the_cells(evaluation, figures):
    axes = figures["metrics_against_z_phot"].axes[1]
    (line,) = axes.lines
    cells = evaluation.curve("z_phot")

    assert_allclose(line.get_ydata(), [cell.metrics["sigma_nmad"] for cell in cells])
    assert_allclose(line.get_xdata(), [cell.center for cell in cells])


def test_unknown_condition_is_named_with_the_known_ones(evaluation):
    with pytest.raises(InputError, match=r"against 'u' was evaluated; there are i \(AB mag\), z_"):
        plots.plot_condition(evaluation, "u")


def test_importance_is_a_bar_per_band_in_their_order():
    axes = plots.plot_importance([Importance("u", 0.1, 0.01), Importance("g", 0.4, 0.02)]).axes[0]

    assert [bar.get_width() for bar in axes.patches] == [0.1, 0.4]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["u", "g"]


def lines_by_label(figure):
    return {line.get_label(): line for line in figure.axes[0].lines}


def test_search_shows_every_state_of_a_trial_and_the_best_so_far():
    trials = [
        (0, 2.0, "complete"),
        (1, None, "failed"),
        (2, 1.0, "complete"),
        (3, 1.5, "pruned"),
        (4, 1.2, "complete"),
    ]
    lines = lines_by_label(plots.plot_search(trials, "crps"))

    assert_allclose(lines["complete"].get_xdata(), [0, 2, 4])
    assert_allclose(lines["best so far"].get_ydata(), [2.0, 1.0, 1.0])
    assert_allclose(lines["pruned"].get_xdata(), [3])
    assert_allclose(lines["failed"].get_xdata(), [1])


def test_search_without_a_finished_trial_is_drawn():
    figure = plots.plot_search([(0, None, "failed")])

    assert list(lines_by_label(figure)) == ["failed"]


def test_hopeless_trials_are_marked_at_the_edge():
    trials = [(n, 1.0 + 0.01 * n, "complete") for n in range(20)] + [(20, 1e6, "complete")]
    axes = plots.plot_search(trials).axes[0]

    assert axes.get_ylim()[1] < 2
    assert any(line.get_marker() == "^" and line.get_xdata()[0] == 20 for line in axes.lines)


def test_comparison_draws_each_interval(evaluation):
    several = {"network": evaluation, "forest": make_evaluation(0.07)}

    axes = plots.compare_estimators(several, ["crps"]).axes[0]
    drawn = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2]

    assert_allclose(drawn, [several[name].intervals["crps"] for name in several])


def test_a_far_floor_is_given_as_a_number_at_the_edge(evaluation):
    several = {"network": evaluation, "forest": make_evaluation(0.06), "floor": make_evaluation(1)}

    axes = plots.compare_estimators(several, ["crps"]).axes[0]

    assert axes.get_xlim()[1] < several["floor"].metrics["crps"]
    assert [text.get_text() for text in axes.texts] == [f"{several['floor'].metrics['crps']:.3g}"]


def test_plots_leave_global_state_alone():
    code = "import sys, photoz.plots; sys.exit('matplotlib.pyplot' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""A version becomes the champion only where its losses show that it is better."""

import json
import tempfile
from dataclasses import fields
from io import BytesIO

import numpy as np
import pandas as pd
import pytest

from photoz.bootstrap import Losses
from photoz.errors import InputError
from photoz.tracking import ROW_LOSSES, Store, list_versions, promote, row_losses
from photoz.tracking.registry import register

N_GALAXIES = 800


def losses(**columns):
    some = next(iter(columns.values()))
    return Losses(**{f.name: columns.get(f.name, np.zeros(len(some))) for f in fields(Losses)})


@pytest.fixture
def noise(rng):
    """Losses of single galaxies, which scatter far more than models differ."""
    return rng.normal(size=N_GALAXIES)


@pytest.fixture
def add(client, tmp_path):
    """Register a version whose run holds these losses; return its number."""
    place = tmp_path / "mlruns" / "artifacts" / "mock"
    experiment = client.create_experiment("mock", artifact_location=place.as_uri())

    def add(log_loss=None, *, ids=None, metric="log_loss", groups=None, **others):
        run_id = client.create_run(experiment, tags={"metric": metric}).info.run_id
        client.log_metric(run_id, "test/crps", 0.03)
        if log_loss is not None:
            table = losses(log_loss=log_loss, **others)
            ids = np.arange(len(log_loss)) if ids is None else ids
            (tmp_path / ROW_LOSSES).write_bytes(row_losses(ids.astype(str), table, groups))
            client.log_artifact(run_id, tmp_path / ROW_LOSSES)
        model_id = client.create_logged_model(experiment, "forest", run_id).model_id
        about = {"run_id": run_id, "family": "forest", "description": "crps 0.03"}
        return register(client, "photoz-mock", model_id, **about)

    return add


@pytest.fixture
def client(mlruns):
    return Store.find("", mlruns).client()


def aliases(client):
    return {k: str(v) for k, v in client.get_registered_model("photoz-mock").aliases.items()}


def description(client, version):
    return client.get_model_version("photoz-mock", version).description


def test_the_first_version_is_the_champion(add, client, noise):
    verdict = promote(client, "photoz-mock", add(noise))

    assert (verdict.alias, verdict.grounds) == ("champion", "the first one")
    assert aliases(client) == {"champion": "1"}


def test_a_version_that_is_better_for_sure_replaces_the_champion(add, client, noise, rng):
    promote(client, "photoz-mock", add(noise))
    verdict = promote(client, "photoz-mock", add(noise - 0.02 + 0.1 * rng.normal(size=len(noise))))

    assert verdict.alias == "champion"
    assert aliases(client) == {"champion": "2"}
    assert "against version 1 on 800 shared out-of-fold galaxies" in description(client, "2")
    assert "replaced as champion by version 2" in description(client, "1")
    assert description(client, "2").endswith("\n\ncrps 0.03")


@pytest.mark.parametrize("gain", [-0.02, 0.002])
def test_a_version_that_may_be_worse_stays_the_challenger(add, client, noise, rng, gain):
    promote(client, "photoz-mock", add(noise))
    scatter = 0.1 * rng.normal(size=len(noise))
    verdict = promote(client, "photoz-mock", add(noise - gain + scatter - scatter.mean()))

    assert verdict.alias == "challenger"
    assert aliases(client) == {"champion": "1", "challenger": "2"}
    assert f"log_loss {-gain:+.4g} (95 %: " in description(client, "2")


def test_versions_are_compared_on_the_galaxies_they_share(add, client, rng):
    """Each has galaxies of its own, which say the opposite of those that are shared."""
    shared, own = rng.normal(size=600), rng.normal(size=600)
    order = rng.permutation(1200)
    promote(client, "photoz-mock", add(np.r_[shared, own - 9]))
    ids = np.r_[np.arange(600), np.arange(5000, 5600)]
    better = np.r_[shared - 0.1, own + 9]
    verdict = promote(client, "photoz-mock", add(better[order], ids=ids[order]))

    assert verdict.alias == "champion"
    assert "log_loss -0.1 (95 %: -0.1 to -0.1) against version 1 on 600 shared" in verdict.grounds


def test_too_few_shared_galaxies_prove_nothing(add, client, noise):
    promote(client, "photoz-mock", add(noise))
    verdict = promote(client, "photoz-mock", add(noise - 1, ids=np.arange(301, 301 + N_GALAXIES)))

    assert verdict.alias == "challenger"
    assert verdict.grounds == (
        "version 1 shares 499 out-of-fold galaxies with it, at least 500 are needed"
    )


def test_a_galaxy_that_occurs_twice_counts_once(add, client, noise):
    ids = np.arange(N_GALAXIES) // 2
    promote(client, "photoz-mock", add(noise, ids=ids))
    verdict = promote(client, "photoz-mock", add(noise - 1, ids=ids))

    assert "version 1 shares 400 out-of-fold galaxies" in verdict.grounds


def test_groups_are_resampled_whole(add, client, rng):
    """Ten fields differ more than galaxies: what looks certain by galaxy is not by field."""
    field = np.arange(N_GALAXIES) % 10
    gain = 0.02 + 0.1 * rng.normal(size=10)[field]
    noise = rng.normal(size=N_GALAXIES)
    promote(client, "photoz-mock", add(noise))
    by_field = promote(client, "photoz-mock", add(noise - gain, groups=field))
    by_galaxy = promote(client, "photoz-mock", add(noise - gain))

    def width(verdict):
        low, high = verdict.grounds.split("95 %: ")[1].split(")")[0].split(" to ")
        return float(high) - float(low)

    assert by_field.alias == "challenger"
    assert width(by_field) > 3 * width(by_galaxy)


def test_the_metric_of_the_search_decides(add, client, noise):
    promote(client, "photoz-mock", add(noise, crps=noise))
    verdict = promote(client, "photoz-mock", add(noise + 1, crps=noise - 1, metric="crps"))

    assert verdict.alias == "champion"
    assert verdict.grounds.startswith("crps -1 ")


def test_a_metric_of_no_single_galaxy_gives_way_to_the_log_loss(add, client, noise):
    promote(client, "photoz-mock", add(noise))
    verdict = promote(client, "photoz-mock", add(noise - 1, metric="sigma_nmad"))

    assert verdict.grounds.startswith("log_loss -1 ")


def test_a_champion_without_losses_is_replaced_by_hand_only(add, client, noise):
    promote(client, "photoz-mock", add())
    verdict = promote(client, "photoz-mock", add(noise))

    assert verdict.alias == "challenger"
    assert verdict.grounds == "version 1 has no losses of single galaxies to compare by"

    forced = promote(client, "photoz-mock", "2", by_hand_of="ada")

    assert (forced.alias, forced.grounds) == ("champion", "by hand of ada")
    assert aliases(client) == {"champion": "2"}
    assert "champion: by hand of ada.\n\n" in description(client, "2")


def test_promoting_the_champion_changes_nothing(add, client, noise):
    promote(client, "photoz-mock", add(noise))
    before = description(client, "1")

    verdict = promote(client, "photoz-mock", "1", by_hand_of="ada")

    assert (verdict.alias, verdict.grounds) == ("champion", "the champion already")
    assert description(client, "1") == before


def test_descriptions_stay_as_short_as_a_database_takes(add, client, noise):
    promote(client, "photoz-mock", add(noise))
    promote(client, "photoz-mock", add(noise))
    client.update_model_version("photoz-mock", "2", description="x" * 4990)
    promote(client, "photoz-mock", "2")

    assert len(description(client, "2")) == 5000


def test_versions_are_listed_newest_first_with_their_metrics(add, client, noise):
    promote(client, "photoz-mock", add(noise))
    promote(client, "photoz-mock", add(noise))
    newest, first = list_versions(client, "mock")

    assert (newest.version, newest.aliases, newest.family) == ("2", ("challenger",), "forest")
    assert (first.version, first.aliases) == ("1", ("champion",))
    assert first.metrics == {"crps": 0.03}
    assert first.grounds.endswith("champion: the first one.")


def test_losses_of_galaxies_name_no_redshift(noise):
    file = row_losses(np.arange(N_GALAXIES).astype(str), losses(log_loss=noise))
    table = pd.read_parquet(BytesIO(file))

    assert list(table) == ["id", "log_loss", "cde_loss", "crps"]


def test_models_shows_who_is_champion_and_why(add, client, noise, command):
    promote(client, "photoz-mock", add(noise))
    promote(client, "photoz-mock", add(noise))

    status, shown, _ = command("models")
    _, as_json, _ = command("models", "mock", "--json")

    assert status == 0
    assert "photoz-mock version 1: " in shown
    assert "champion: the first one" in shown
    assert [version["aliases"] for version in json.loads(as_json)] == [
        ["challenger"],
        ["champion"],
    ]


def test_promote_says_what_it_did(add, client, noise, command):
    promote(client, "photoz-mock", add(noise))
    promote(client, "photoz-mock", add(noise))

    status, shown, _ = command("promote")
    assert status == 1
    assert shown.startswith("photoz-mock version 2, challenger: log_loss +0 (95 %")
    assert aliases(client) == {"champion": "1", "challenger": "2"}

    status, shown, _ = command("promote", "photoz-mock", "--version", "2", "--force", "--json")
    assert status == 0
    assert json.loads(shown)["alias"] == "champion"
    assert aliases(client) == {"champion": "2"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["promote", "other"], "no registered model photoz-other; there are: photoz-mock."),
        (["promote"], "photoz-mock has no challenger; give --version; the versions are: 1."),
        (["promote", "--version", "9"], "photoz-mock has no version 9; the versions are: 1."),
    ],
)  # fmt: skip
def test_what_cannot_be_promoted_is_named(add, client, noise, command, arguments, message):
    promote(client, "photoz-mock", add(noise))

    status, _, error = command(*arguments)

    assert status == 2
    assert message in error


def test_without_any_model_or_store_the_command_says_so(command, mlruns):
    assert "name of a registered model; there are: none." in command("promote")[2]

    (mlruns / "mlflow.db").unlink()
    status, _, error = command("models")

    assert status == 2
    assert "expected an MLflow store, found no " in error
    assert not (mlruns / "mlflow.db").exists()


def test_a_server_that_is_not_there_is_named_without_its_password(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    store = Store.find("http://me:Pa55w0rd@127.0.0.1:1")

    with pytest.raises(InputError, match="cannot be used") as caught, store.opened() as client:
        list_versions(client)

    assert "Pa55w0rd" not in str(caught.value)


def test_other_galaxies_of_the_same_numbers_prove_nothing(add, client, noise, rng):
    promote(client, "photoz-mock", add(noise))
    verdict = promote(client, "photoz-mock", add(rng.permutation(noise) - 1))

    assert verdict.alias == "challenger"
    assert "800 identities are shared with version 1, but their losses are" in verdict.grounds
    assert "they seem to name other galaxies" in verdict.grounds


def test_many_models_of_others_hide_none_of_ours(add, client, noise, command):
    for number in range(101):
        client.create_registered_model(f"aa-{number:03d}")
    promote(client, "photoz-mock", add(noise))

    assert [version.model for version in list_versions(client)] == ["photoz-mock"]
    status, shown, _ = command("models")
    assert status == 0
    assert all(word in shown for word in ("photoz-mock", "champion", "0.03"))
    assert "…" not in shown


def test_a_comparison_leaves_no_file_behind(add, client, noise, tmp_path, monkeypatch):
    promote(client, "photoz-mock", add(noise))
    version = add(noise)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))

    promote(client, "photoz-mock", version)

    assert list((tmp_path / "scratch").iterdir()) == []

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from photoz.datasets import DatasetFiles
from photoz.errors import InputError
from photoz.mock import make_mock_catalogue
from photoz.samples import load_samples
from photoz.settings import Experiment


def experiment(path, **tables):
    catalogue = {"path": str(path), "survey": "lsst"} | tables.pop("catalogue", {})
    return Experiment(name="try", catalogue=catalogue, **tables)


@pytest.fixture
def with_columns(catalogue_file, tmp_path):
    """The catalogue with further columns."""

    def write(**columns):
        table = pq.read_table(catalogue_file)
        for name, values in columns.items():
            table = table.append_column(name, pa.array(values))
        path = tmp_path / "more.parquet"
        pq.write_table(table, path)
        return path

    return write


def test_every_galaxy_has_one_part(catalogue_file, mock):
    samples = load_samples(experiment(catalogue_file))
    summary = samples.summary()

    sizes = [summary[f"n_{part}"] for part in ("train", "validation", "test")]
    assert sum(sizes) == len(mock)
    assert len(samples.train) + len(samples.validation) == len(samples.fitted)
    names = [*samples.fitted_id.tolist(), *samples.test_id.astype(str).tolist()]
    assert sorted(names) == sorted(mock.object_id.astype(str).tolist())


def test_official_test_file_is_the_test_part(catalogue_file, tmp_path):
    other = make_mock_catalogue(60, random_state=9)
    columns = other.to_columns() | {"object_id": np.arange(10_000, 10_060)}
    path = tmp_path / "test.parquet"
    pq.write_table(pa.table(columns), path)
    samples = load_samples(experiment(catalogue_file, catalogue={"test_path": str(path)}))

    assert samples.test_id.tolist() == list(range(10_000, 10_060))
    assert len(samples.fitted) == 700


def test_a_test_file_of_ones_own_takes_the_place_of_that_of_a_named_set(
    catalogue_file, tmp_path, monkeypatch
):
    own = make_mock_catalogue(60, random_state=9).to_columns()
    columns = own | {"object_id": np.arange(10_000, 10_060)}
    path = tmp_path / "test.parquet"
    pq.write_table(pa.table(columns), path)
    files = DatasetFiles(catalogue_file, catalogue_file, "lsst", {})
    monkeypatch.setattr("photoz.samples.fetch", lambda *_: files)
    named = Experiment(
        name="try",
        catalogue={"dataset": "lsst-dc2"},
        survey={"bands": list("ugrizy"), "id": "object_id"},
    )

    samples = load_samples(named.replaced(test=path))

    assert samples.test_id.tolist() == list(range(10_000, 10_060))


def test_grid_reaches_beyond_the_fitted_redshifts_in_small_steps(catalogue_file):
    samples = load_samples(experiment(catalogue_file))

    assert samples.z_max == pytest.approx(1.05 * (1 + samples.fitted.z_spec.max()) - 1)
    assert samples.z_max / (samples.n_z - 1) <= 0.004


def test_fitted_galaxies_are_known_by_their_ids(catalogue_file, mock):
    samples = load_samples(experiment(catalogue_file))
    redshift = dict(zip(mock.to_columns()["object_id"].astype(str), mock.z_spec, strict=True))

    assert [redshift[name] for name in samples.fitted_id] == samples.fitted.z_spec.tolist()
    assert samples.fitted_groups is None


def test_weight_and_reliability_follow_their_galaxies(with_columns, mock):
    weight = 1 + np.arange(len(mock), dtype=float)
    path = with_columns(w=weight, r=weight / 1000)
    samples = load_samples(experiment(path, catalogue={"weight": "w", "reliability": "r"}))
    row = {z: k for k, z in enumerate(mock.z_spec.tolist())}
    rows = np.array([row[z] for z in samples.fitted.z_spec.tolist()])

    assert samples.fitted.weight.tolist() == weight[rows].tolist()
    assert samples.fitted.reliability.tolist() == (weight[rows] / 1000).tolist()


def test_one_reliability_serves_all(catalogue_file):
    samples = load_samples(experiment(catalogue_file, catalogue={"reliability": 0.95}))

    assert set(samples.fitted.reliability) == {0.95}


def test_groups_stay_together_in_parts_and_folds(with_columns, mock):
    field = np.arange(len(mock)) % 40
    path = with_columns(field=field)
    samples = load_samples(experiment(path, split={"by": "field"}))
    row = {z: k for k, z in enumerate(mock.z_spec.tolist())}
    fields = field[[row[z] for z in samples.fitted.z_spec.tolist()]]

    for value in np.unique(fields):
        assert len(np.unique(samples.folds[fields == value])) == 1
        assert len(np.unique(samples.is_validation[fields == value])) == 1
        assert len(np.unique(samples.fitted_groups[fields == value])) == 1
    assert samples.test_groups is not None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([np.nan] * 700, r"finite numbers from 0, found \d+ rows without"),
        ([-1.0] * 700, r"finite numbers from 0, found \d+ rows without"),
        ([0.0] * 700, "expected galaxies of weight above 0 to fit, found none in the column 'w'"),
        (["a"] * 700, r"must hold numbers, row 0 \(the first is 0\) holds 'a'"),
        ([None, "a"] * 350, r"must hold numbers, row \d+ \(the first is 0\) holds 'a'"),
    ],
)
def test_bad_weights_are_refused(with_columns, values, message):
    with pytest.raises(InputError, match=message):
        load_samples(experiment(with_columns(w=values), catalogue={"weight": "w"}))


def test_a_reliability_above_1_is_refused(with_columns):
    path = with_columns(r=np.full(700, 99.0))

    with pytest.raises(InputError, match="finite numbers from 0 to 1, found"):
        load_samples(experiment(path, catalogue={"reliability": "r"}))


@pytest.mark.parametrize("share", ["weight", "reliability"])
def test_galaxies_that_do_not_count_do_not_widen_the_grid(with_columns, mock, share):
    counts = mock.z_spec < np.quantile(mock.z_spec, 0.9)
    path = with_columns(s=counts.astype(float))

    samples = load_samples(experiment(path, catalogue={share: "s"}))

    farthest = samples.fitted.z_spec[samples.fitted.counts].max()
    assert samples.z_max == pytest.approx(1.05 * (1 + farthest) - 1)
    assert farthest < samples.fitted.z_spec.max()


@pytest.mark.parametrize("is_weighted", [False, True])
def test_a_band_that_no_fit_can_see_is_told_before_the_search(
    catalogue_file, with_columns, mock, is_weighted
):
    """It was observed in test galaxies only, or in galaxies of weight 0."""
    test_id = load_samples(experiment(catalogue_file)).test_id
    is_seen = np.isin(mock.object_id, test_id) | (is_weighted & (mock.object_id % 2 == 0))
    path = with_columns(w=np.where(is_seen, 0.0, 1.0))
    table = pq.read_table(path)
    magnitude = np.where(is_seen, table["mag_u"].to_numpy(), -99.0)
    place = table.column_names.index("mag_u")
    pq.write_table(table.set_column(place, "mag_u", pa.array(magnitude)), path)
    weight = {"weight": "w"} if is_weighted else {}

    with pytest.raises(InputError, match="observed in every band, found none in u; bring such"):
        load_samples(experiment(path, catalogue=weight))


@pytest.mark.parametrize("share", [0.2, 0.4])
def test_galaxies_kept_for_conformal_coverage_are_seen_by_nothing_else(catalogue_file, share):
    whole = load_samples(experiment(catalogue_file))
    samples = load_samples(experiment(catalogue_file, calibration={"conformal": share}))

    parts = [samples.train.z_spec, samples.validation.z_spec, samples.kept.z_spec]
    assert sorted(np.concatenate(parts)) == sorted(whole.fitted.z_spec)
    assert len(samples.kept) / len(whole.fitted) == pytest.approx(share, abs=0.06)
    assert samples.test_id.tolist() == whole.test_id.tolist()
    assert samples.summary()["n_conformal"] == len(samples.kept)
    assert f"conformal: {len(samples.kept)} rows" in samples.describe()
    assert len(samples.folds) == len(samples.fitted_id) == len(samples.fitted)


def test_a_part_that_conformal_coverage_leaves_empty_is_told(with_columns):
    """Groups stay together: the one of the validation part may be among those kept."""
    path = with_columns(field=(list("ABCDEFGH") * 100)[:700])
    settings = {"split": {"by": "field"}, "calibration": {"conformal": 0.2}}
    messages = []
    for seed in range(30):
        try:
            samples = load_samples(experiment(path, seed=seed, **settings))
        except InputError as error:
            messages.append(str(error))
        else:
            assert len(samples.train) > 0
            assert len(samples.validation) > 0

    empty = [text for text in messages if "found none in validation" in text]
    assert any("dropped (kept for conformal coverage)" in text for text in empty)


def test_too_few_galaxies_for_conformal_coverage_are_told_before_any_fit(catalogue_file):
    with pytest.raises(InputError, match="conformal coverage needs 39 galaxies or more"):
        load_samples(experiment(catalogue_file, calibration={"conformal": 0.02}))


def test_rows_left_out_are_counted(catalogue_file):
    samples = load_samples(experiment(catalogue_file, catalogue={"where": "redshift > 0.5"}))

    assert samples.dropped["where: redshift > 0.5"] == 700 - len(samples.fitted) - len(
        samples.test
    )
    assert "redshift > 0.5" in samples.describe()


def test_other_catalogue_has_another_hash(catalogue_file, with_columns):
    a = load_samples(experiment(catalogue_file))
    b = load_samples(experiment(with_columns(more=np.zeros(700))))

    assert a.sha256 != b.sha256
    assert a.split_sha256 == b.split_sha256

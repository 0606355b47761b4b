"""A split keeps its promises: stable, without leaks, groups together."""

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from photoz.errors import InputError
from photoz.photometry import Photometry, State
from photoz.split import folds, split

N = 600


@dataclass(frozen=True)
class Sky:
    """What `split` needs of a catalogue."""

    photometry: Photometry
    z_spec: np.ndarray
    object_id: np.ndarray
    ra: np.ndarray | None
    dec: np.ndarray | None
    extra: dict = field(default_factory=dict)

    def __len__(self):
        return len(self.z_spec)

    def __getitem__(self, rows):
        return Sky(
            self.photometry[rows],
            self.z_spec[rows],
            self.object_id[rows],
            None if self.ra is None else self.ra[rows],
            None if self.dec is None else self.dec[rows],
            {name: values[rows] for name, values in self.extra.items()},
        )


def make(n=N, seed=0, n_bands=5):
    rng = np.random.default_rng(seed)
    flux = rng.lognormal(5, 1, (n, n_bands))
    state = np.full(flux.shape, State.DETECTED, dtype=np.uint8)
    return Sky(
        Photometry(tuple("ugrizyJH"[:n_bands]), flux, 0.1 * flux, state),
        z_spec=rng.uniform(0.01, 2, n),
        object_id=seed * 10**6 + np.arange(n),
        ra=rng.uniform(0, 20, n),
        dec=rng.uniform(-10, 10, n),
        extra={"field": rng.integers(0, 40, n)},
    )


def stack(*catalogues):
    return Sky(
        Photometry.concatenate([c.photometry for c in catalogues]),
        *(
            np.concatenate([getattr(c, name) for c in catalogues])
            for name in ("z_spec", "object_id", "ra", "dec")
        ),
        {"field": np.concatenate([c.extra["field"] for c in catalogues])},
    )


def with_flux(catalogue, flux):
    return replace(catalogue, photometry=replace(catalogue.photometry, flux=flux))


def part_of(parts, n):
    """Part of each row; -1 if it is in none."""
    part = np.full(n, -1)
    for number, rows in enumerate((parts.train, parts.validation, parts.test)):
        part[rows] = number
    return part


BY = ["random", "sky", "field"]


@pytest.mark.parametrize("declared_ids", [True, False])
@pytest.mark.parametrize("by", BY)
def test_every_row_is_in_one_part(by, declared_ids):
    parts = split(make(), by=by, declared_ids=declared_ids)
    rows = np.concatenate([parts.train, parts.validation, parts.test])

    assert sorted(rows) == list(range(N))
    assert parts.dropped == {}


def test_shares_are_as_asked():
    parts = split(make(20_000), declared_ids=True, validation=0.1, test=0.3)

    # Three standard deviations of a binomial.
    assert abs(len(parts.validation) - 2000) < 3 * (20_000 * 0.1 * 0.9) ** 0.5
    assert abs(len(parts.test) - 6000) < 3 * (20_000 * 0.3 * 0.7) ** 0.5


def test_parts_are_independent_of_redshift():
    catalogue = make(20_000)
    parts = split(catalogue, declared_ids=False)
    z_test, z_train = catalogue.z_spec[parts.test], catalogue.z_spec[parts.train]
    error = catalogue.z_spec.std() * (1 / len(z_test) + 1 / len(z_train)) ** 0.5

    assert abs(z_test.mean() - z_train.mean()) < 3 * error


@pytest.mark.parametrize("declared_ids", [True, False])
@pytest.mark.parametrize("by", BY)
def test_adding_rows_moves_none(by, declared_ids):
    catalogue, more = make(), make(300, seed=1)
    before = part_of(split(catalogue, by=by, declared_ids=declared_ids), N)
    after = split(stack(more, catalogue), by=by, declared_ids=declared_ids)

    assert (part_of(after, N + 300)[300:] == before).all()


@pytest.mark.parametrize("declared_ids", [True, False])
@pytest.mark.parametrize("by", BY)
def test_row_order_changes_nothing(by, declared_ids):
    catalogue = make()
    order = np.random.default_rng(3).permutation(N)
    parts = split(catalogue, by=by, declared_ids=declared_ids)
    shuffled = split(catalogue[order], by=by, declared_ids=declared_ids)

    assert (part_of(shuffled, N) == part_of(parts, N)[order]).all()
    assert shuffled.sha256 == parts.sha256


def test_parts_never_change_between_versions():
    """Pinned: whoever changes the hash gives every user another test set."""
    k = np.arange(24)
    flux = 2.0 ** np.add.outer(k, [0.25, 0.5, 0.75])
    numbers = Sky(
        Photometry(("g", "r", "i"), flux, 0.1 * flux, np.full(flux.shape, 2, dtype=np.uint8)),
        z_spec=0.05 * (1 + k),
        object_id=k,
        ra=15.0 * k,
        dec=7.0 * k - 80,
        extra={"field": np.array([f"F{number // 2}" for number in k])},
    )
    texts = replace(numbers, object_id=np.array([f"J{number:04d}" for number in k]))

    def parts(catalogue, by="random", *, declared_ids=True):
        part = part_of(split(catalogue, by=by, declared_ids=declared_ids), 24)
        return "".join("Tvt"[number] for number in part)

    assert parts(numbers) == "TTTTtTvtTTTTTTTtTTTTvTvT"
    assert parts(texts) == "TtTTTTTTtTTTTTTTtTTTTvTT"
    assert parts(numbers, declared_ids=False) == "TTTTvTvtTTTTTvttTTTTTTTT"
    assert parts(numbers, "sky") == "TvttTTtTTtTvtTTvTtTTTTTT"
    assert parts(numbers, "field") == "ttTTTTvvTTTTvvttTTTTTTvv"
    fold = folds(split(numbers, declared_ids=True).groups)
    assert "".join(map(str, fold)) == "014324133341223112244134"


def test_another_seed_is_another_split():
    first, second = (split(make(), declared_ids=True, seed=seed) for seed in (0, 1))

    assert first.sha256 != second.sha256
    assert 0.3 < np.isin(first.train, second.train).mean() < 0.9


def test_the_type_of_an_id_does_not_matter():
    catalogue = make()
    numbers = split(catalogue, declared_ids=True)
    for texts in (catalogue.object_id.astype(str), catalogue.object_id.astype(bytes)):
        parts = split(replace(catalogue, object_id=texts), declared_ids=True)

        assert parts.sha256 == numbers.sha256


def test_rows_without_ids_depend_on_photometry_not_on_their_number():
    catalogue = make()
    renumbered = replace(catalogue, object_id=catalogue.object_id[::-1])

    assert (
        split(renumbered, declared_ids=False).sha256 == split(catalogue, declared_ids=False).sha256
    )


def test_a_missing_id_counts_as_undeclared():
    catalogue = make()
    some = np.where(np.arange(N) % 2, catalogue.object_id.astype(float), np.nan)
    none = split(catalogue, declared_ids=False)
    parts = split(replace(catalogue, object_id=some), declared_ids=True)

    assert (part_of(parts, N)[::2] == part_of(none, N)[::2]).all()


def test_sha256_is_of_sorted_lines():
    catalogue = make(60)
    parts = split(catalogue, declared_ids=True)
    names = np.array(["train", "validation", "test"])[part_of(parts, 60)]
    lines = sorted(f"{i},{name}\n" for i, name in zip(catalogue.object_id, names, strict=True))

    assert parts.sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_a_repeated_id_stays_in_one_part():
    """A second spectrum, with other photometry, of every galaxy."""
    again = replace(make(seed=1), object_id=make().object_id)
    parts = part_of(split(stack(make(), again), declared_ids=True), 2 * N)

    assert (parts >= 0).all()
    assert (parts[:N] == parts[N:]).all()


@pytest.mark.parametrize("by", ["sky", "field"])
def test_a_repeated_id_in_another_group_is_dropped(by):
    again = replace(make(seed=1), object_id=make().object_id)
    catalogue = stack(make(), again)
    parts = split(catalogue, declared_ids=True, by=by)
    part = part_of(parts, 2 * N)
    both = part[N:] >= 0

    assert (part[:N] >= 0).all()
    assert (parts.groups[:N][both] == parts.groups[N:][both]).all()
    assert parts.dropped == {"id was seen before in another group": int((~both).sum())}


@pytest.mark.parametrize("bands", [(0, 1, 2), (0, 2, 4), (1, 3, 4), (0, 1, 2, 3, 4)])
def test_later_photometric_twins_are_dropped(bands):
    catalogue, twins = make(), make(50, seed=1)
    flux = twins.photometry.flux.copy()
    flux[:, bands] = catalogue.photometry.flux[100:150, bands]
    parts = split(stack(catalogue, with_flux(twins, flux)), declared_ids=True)
    part = part_of(parts, N + 50)

    assert (part[:N] >= 0).all()
    assert (part[N:] == -1).all()
    assert parts.dropped == {"photometric twin under another id": 50}


def rounded(catalogue):
    magnitude = np.round(catalogue.photometry.magnitude, 2) + 0.0123456 * np.arange(5)
    return 10 ** (0.4 * (31.4 - magnitude))


@pytest.mark.parametrize(("equal", "dropped"), [(4, 0), (5, 50)])
def test_coarse_magnitudes_must_be_equal_in_every_band(equal, dropped):
    """Magnitudes of two decimals coincide by chance; a constant of the band hides no decimal."""
    catalogue, others = (with_flux(made, rounded(made)) for made in (make(), make(50, seed=1)))
    flux = others.photometry.flux.copy()
    flux[:, :equal] = catalogue.photometry.flux[100:150, :equal]
    parts = split(stack(catalogue, with_flux(others, flux)), declared_ids=True)

    assert sum(parts.dropped.values()) == dropped


def test_two_equal_bands_make_no_twin():
    catalogue, others = make(), make(50, seed=1)
    flux = others.photometry.flux.copy()
    flux[:, :2] = catalogue.photometry.flux[100:150, :2]
    parts = split(stack(catalogue, with_flux(others, flux)), declared_ids=True)

    assert parts.dropped == {}


def test_bands_equal_to_different_galaxies_make_no_twin():
    catalogue, others = make(), make(50, seed=1)
    flux = others.photometry.flux.copy()
    flux[:, :2] = catalogue.photometry.flux[100:150, :2]
    flux[:, 2] = catalogue.photometry.flux[200:250, 2]
    parts = split(stack(catalogue, with_flux(others, flux)), declared_ids=True)

    assert parts.dropped == {}


def test_swapped_bands_make_no_twin():
    catalogue = make()
    swapped = with_flux(make(seed=1), catalogue.photometry.flux[:, [1, 2, 3, 4, 0]])
    parts = split(stack(catalogue, swapped), declared_ids=True)

    assert parts.dropped == {}


@pytest.mark.parametrize("state", [State.NOT_OBSERVED, State.NOT_DETECTED])
def test_unmeasured_bands_make_no_twin(state):
    """Two dropouts are not the same galaxy because nothing was seen of either."""
    catalogue = make()
    flux, states = catalogue.photometry.flux.copy(), catalogue.photometry.state.copy()
    flux[:, :3], states[:, :3] = (0, state) if state else (np.nan, state)
    photometry = replace(catalogue.photometry, flux=flux, state=states)
    parts = split(replace(catalogue, photometry=photometry), declared_ids=True)

    assert parts.dropped == {}


@pytest.mark.parametrize("declared_ids", [True, False])
@pytest.mark.parametrize("by", BY)
def test_rows_that_are_there_twice_count_once(by, declared_ids):
    alone = split(make(), by=by, declared_ids=declared_ids)
    parts = split(stack(make(), make()[:200]), by=by, declared_ids=declared_ids)

    assert (part_of(parts, N + 200)[:N] == part_of(alone, N)).all()
    assert (part_of(parts, N + 200)[N:] == -1).all()
    assert parts.sha256 == alone.sha256
    assert parts.dropped == {"repeat of an earlier row": 200}


def test_rows_that_are_twice_in_the_test_file_count_once():
    official = make(200, seed=1)
    twice = stack(official, official[:50])
    parts = split(stack(make(), official[:30]), declared_ids=True, official_test=twice)

    assert parts.test.tolist() == list(range(200))
    assert parts.dropped == {"id is in the test file": 30, "repeat of an earlier row": 50}


def other_redshift(catalogue):
    return replace(catalogue, z_spec=catalogue.z_spec + 0.01)


def other_errors(catalogue):
    photometry = catalogue.photometry
    return replace(
        catalogue, photometry=replace(photometry, flux_error=1.1 * photometry.flux_error)
    )


@pytest.mark.parametrize("other", [other_redshift, other_errors])
def test_a_second_measurement_of_a_galaxy_is_no_repeat(other):
    parts = split(stack(make(), other(make())), declared_ids=True)
    part = part_of(parts, 2 * N)

    assert (part[:N] == part[N:]).all()
    assert parts.dropped == {}


def test_missing_inputs_are_equal_to_each_other():
    size = {"extra": np.full((N, 1), np.nan), "extra_names": ("size",)}
    sized = replace(make(), photometry=replace(make().photometry, **size))
    parts = split(stack(sized, sized), declared_ids=True)

    assert parts.dropped == {"repeat of an earlier row": N}


@pytest.mark.parametrize(("declared_ids", "n_repeats"), [(True, N), (False, 0)])
def test_two_bands_make_a_repeat_of_declared_ids_only(declared_ids, n_repeats):
    """Without them, galaxies whose magnitudes have few decimals are equal by chance."""
    catalogue = make(n_bands=2)
    parts = split(stack(catalogue, catalogue), declared_ids=declared_ids)

    assert sum(parts.dropped.values()) == n_repeats


def test_groups_stay_together():
    catalogue = make()
    by_field = part_of(split(catalogue, by="field", declared_ids=True), N)

    for value in np.unique(catalogue.extra["field"]):
        assert len(set(by_field[catalogue.extra["field"] == value])) == 1


def test_sky_cells_stay_together_and_have_equal_area():
    rng = np.random.default_rng(0)
    n = 60_000
    catalogue = replace(
        make(n),
        ra=rng.uniform(-180, 180, n),
        dec=np.degrees(np.arcsin(rng.uniform(-1, 1, n))),
    )
    parts = split(catalogue, by="sky", cell_degrees=15.0, declared_ids=True)
    part = part_of(parts, n)
    _, cell, counts = np.unique(parts.groups, return_inverse=True, return_counts=True)

    # 24 cells of 15 degrees in ra; 2 / sin(15 degrees) rounds to 8 in sin(dec).
    assert len(counts) == 24 * 8
    assert np.abs(counts / counts.mean() - 1).max() < 5 / counts.mean() ** 0.5
    assert all(len(set(part[cell == k])) == 1 for k in range(0, len(counts), 10))


def test_right_ascension_wraps():
    catalogue = make()
    turned = replace(catalogue, ra=catalogue.ra - 360)
    before = split(catalogue, by="sky", declared_ids=True)

    assert split(turned, by="sky", declared_ids=True).sha256 == before.sha256


def test_poles_are_on_the_sky():
    dec = np.where(np.arange(N) % 2, 90.0, -90.0)
    catalogue = replace(make(), dec=dec, ra=np.arange(N) // 2 + 0.5)
    parts = split(catalogue, by="sky", declared_ids=True)

    # 300 of the 360 cells around each pole.
    assert len(np.unique(parts.groups)) == 600


def test_the_last_cells_reach_to_the_edge():
    ra, dec = np.full(N, 359.99), np.zeros(N)
    # The remainder of the first by 360 is 360 itself, for want of digits.
    ra[:2], dec[2:4] = (-1e-20, 359.99), (90.0, 89.99)
    spread = make()
    ra[4:], dec[4:] = spread.ra[4:], spread.dec[4:]
    groups = split(replace(spread, ra=ra, dec=dec), by="sky", declared_ids=True).groups

    assert groups[0] == groups[1]
    assert groups[2] == groups[3]


def test_groups_of_the_test_galaxies_are_known():
    parts = split(make(), by="field", declared_ids=True)

    assert (parts.test_groups == parts.groups[parts.test]).all()
    assert split(make(), declared_ids=True).test_groups is None


def test_official_test_is_kept_whole():
    official = make(200, seed=1)
    parts = split(make(), declared_ids=True, official_test=official, validation=0.2)

    assert parts.test.tolist() == list(range(200))
    assert sorted([*parts.train, *parts.validation]) == list(range(N))
    assert 0.1 < len(parts.validation) / N < 0.3


def test_training_rows_of_an_official_test_galaxy_go():
    catalogue = make()
    ids = np.r_[catalogue.object_id[:10], 10**7 + np.arange(190)]
    flux = make(200, seed=1).photometry.flux.copy()
    flux[50:80, :3] = catalogue.photometry.flux[100:130, :3]
    official = replace(with_flux(make(200, seed=1), flux), object_id=ids)
    parts = split(catalogue, declared_ids=True, official_test=official)
    part = part_of(replace(parts, test=parts.test[:0]), N)

    assert np.flatnonzero(part == -1).tolist() == [*range(10), *range(100, 130)]
    assert parts.dropped == {
        "id is in the test file": 10,
        "photometric twin of a galaxy in the test file": 30,
    }


def test_row_numbers_of_an_official_test_are_no_ids():
    catalogue, official = make(), replace(make(seed=1), object_id=make().object_id)
    parts = split(catalogue, declared_ids=False, official_test=official)

    assert parts.dropped == {}


def test_groups_of_an_official_test_are_optional():
    official = replace(make(200, seed=1), ra=None, dec=None)
    parts = split(make(), by="sky", declared_ids=True, official_test=official)

    assert parts.test_groups is None
    located = split(make(), by="sky", declared_ids=True, official_test=make(200, seed=1))
    assert located.test_groups.shape == (200,)


def test_folds_keep_groups_together_and_are_even():
    groups = split(make(20_000), declared_ids=True).groups
    fold = folds(np.repeat(groups, 2))

    assert (fold[::2] == fold[1::2]).all()
    assert np.abs(np.bincount(fold) / 40_000 - 0.2).max() < 0.02


def test_folds_are_stable_when_rows_are_added():
    groups = split(make(), declared_ids=True).groups
    more = split(make(500, seed=1), declared_ids=True).groups

    assert (folds(np.r_[more, groups])[500:] == folds(groups)).all()


def test_folds_are_independent_of_the_parts():
    parts = split(make(20_000), declared_ids=True)
    share = np.bincount(folds(parts.groups)[parts.test]) / len(parts.test)

    assert np.abs(share - 0.2).max() < 0.03


@pytest.mark.parametrize(("n_groups", "n_folds"), [(2, 2), (4, 4), (5, 5), (7, 5)])
def test_few_groups_fill_every_fold(n_groups, n_folds):
    labels = split(make(n_groups * 20), declared_ids=True).groups[:n_groups]
    fold = folds(np.repeat(labels, 30))

    assert set(fold) == set(range(n_folds))
    assert all(len(set(fold[k * 30 : (k + 1) * 30])) == 1 for k in range(n_groups))


def test_one_group_cannot_be_folded():
    with pytest.raises(InputError, match="at least two groups to cut into folds, found 1"):
        folds(np.zeros(10, dtype=np.uint64))


def test_an_empty_part_is_an_error():
    single = replace(make(), extra={"field": np.zeros(N, dtype=int)})

    with pytest.raises(InputError, match=r"found none in .*(train|test).*choose other shares"):
        split(single, by="field", declared_ids=True)
    with pytest.raises(InputError, match="expected galaxies in every part of the split"):
        split(make(2), declared_ids=True)
    with pytest.raises(InputError, match=r"found none in train and validation.*600 dropped \(id"):
        split(make(), declared_ids=True, official_test=make())


@pytest.mark.parametrize("side", [0.0, -1.0, float("nan")])
def test_cells_have_a_side(side):
    with pytest.raises(InputError, match="expected cells of the sky with a side above 0 degrees"):
        split(make(60), declared_ids=True, by="sky", cell_degrees=side)


@pytest.mark.parametrize("shares", [(0.0, 0.2), (0.2, 0.0), (0.5, 0.5), (-0.1, 0.2)])
def test_shares_must_leave_something_everywhere(shares):
    with pytest.raises(InputError, match="expected shares validation and test above 0"):
        split(make(), declared_ids=True, validation=shares[0], test=shares[1])


def test_an_unknown_column_names_the_known_ones():
    with pytest.raises(InputError, match="random, sky, field, found no column 'feild'"):
        split(make(), by="feild", declared_ids=True)


def test_sky_needs_coordinates():
    with pytest.raises(InputError, match="expected coordinates to split by sky"):
        split(replace(make(), ra=None, dec=None), by="sky", declared_ids=True)


@pytest.mark.parametrize(("ra", "dec"), [(np.nan, 0.0), (10.0, np.nan), (10.0, 91.0)])
def test_sky_needs_every_position(ra, dec):
    catalogue = make()
    catalogue.ra[7], catalogue.dec[7] = ra, dec

    with pytest.raises(InputError, match="found 1 rows that have no such position"):
        split(catalogue, by="sky", declared_ids=True)


def test_redshifts_are_needed():
    with pytest.raises(InputError, match="expected spectroscopic redshifts"):
        split(replace(make(), z_spec=None), declared_ids=True)

"""Photometry: AB flux, 1-sigma error and state of every measurement of every galaxy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photoz.columns import as_numbers, by_name, missing_columns
from photoz.errors import InputError
from photoz.measurements import ZERO_POINT, BandRules, State, is_any
from photoz.pdf import FloatArray
from photoz.survey import Survey

__all__ = ["ZERO_POINT", "Photometry", "State", "photometry_from_columns"]

BLOCK = 8192
"""Rows that are converted at once."""

# Features are of single precision.
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class Photometry:
    """Fluxes of `n_galaxies` galaxies in `n_bands` bands.

    Parameters
    ----------
    bands
        Names of the bands, in the order of the columns below.
    flux
        AB flux (nJy) of shape ``(n_galaxies, n_bands)``: any sign where detected, 0 where
        not detected, NaN where not observed.
    flux_error
        1-sigma error of the flux (nJy), same shape: above 0 where detected; where not
        detected the depth of the band, or NaN as long as that is not known; NaN where not
        observed.
    state
        `State` of each measurement, same shape.
    extra
        Further inputs that are no fluxes (size, shape, seeing), of shape
        ``(n_galaxies, n_extra)``, NaN where unknown.
    extra_names
        Names of the columns of `extra`.
    """

    bands: tuple[str, ...]
    flux: FloatArray
    flux_error: FloatArray
    state: NDArray[np.uint8]
    extra: FloatArray = field(default_factory=lambda: np.empty((0, 0)))
    extra_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.extra_names and self.extra.shape != (len(self.flux), 0):
            object.__setattr__(self, "extra", np.empty((len(self.flux), 0)))
        shape = (len(self.flux), len(self.bands))
        for name in ("flux", "flux_error", "state"):
            if getattr(self, name).shape != shape:
                msg = f"{name} must have shape {shape}, got {getattr(self, name).shape}."
                raise ValueError(msg)
        if self.extra.shape != (shape[0], len(self.extra_names)):
            msg = (
                f"extra must have shape {(shape[0], len(self.extra_names))}, "
                f"got {self.extra.shape}."
            )
            raise ValueError(msg)

    def __len__(self) -> int:
        return len(self.flux)

    def __getitem__(self, rows: slice | NDArray[np.integer] | NDArray[np.bool_]) -> Photometry:
        return replace(
            self,
            flux=self.flux[rows],
            flux_error=self.flux_error[rows],
            state=self.state[rows],
            extra=self.extra[rows],
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Photometry]) -> Photometry:
        """Stack photometry of the same bands, in the order given."""
        first = parts[0]
        if any((p.bands, p.extra_names) != (first.bands, first.extra_names) for p in parts):
            msg = "photometry can only be stacked if it has the same bands and extra columns."
            raise ValueError(msg)
        return replace(
            first,
            flux=np.concatenate([part.flux for part in parts]),
            flux_error=np.concatenate([part.flux_error for part in parts]),
            state=np.concatenate([part.state for part in parts]),
            extra=np.concatenate([part.extra for part in parts]),
        )

    @property
    def n_observed(self) -> NDArray[np.intp]:
        """Number of bands in which each galaxy was observed, shape ``(n_galaxies,)``."""
        observed: NDArray[np.intp] = np.count_nonzero(self.state, axis=1)
        return observed

    @property
    def magnitude(self) -> FloatArray:
        """AB magnitudes, NaN where the flux is not positive; shape ``(n_galaxies, n_bands)``."""
        positive = np.where(self.flux > 0, self.flux, np.nan)
        magnitude: FloatArray = ZERO_POINT - 2.5 * np.log10(positive)
        return magnitude

    @property
    def magnitude_error(self) -> FloatArray:
        """1-sigma errors of `magnitude` (AB mag), NaN where that is NaN."""
        positive = np.where(self.flux > 0, self.flux, np.nan)
        error: FloatArray = 2.5 / np.log(10) * self.flux_error / positive
        return error

    def luptitude(self, softening: FloatArray) -> FloatArray:
        """Asinh magnitudes (AB mag), finite for a flux of any sign.

        Parameters
        ----------
        softening
            Flux b (nJy) of each band, shape ``(n_bands,)``, below which the scale turns
            from logarithmic to linear.

        References
        ----------
        Lupton, Gunn & Szalay (1999), https://arxiv.org/abs/astro-ph/9903081
        """
        asinh = np.arcsinh(self.flux / (2 * softening)) + np.log(softening)
        luptitude: FloatArray = ZERO_POINT - 2.5 / np.log(10) * asinh
        return luptitude

    @property
    def unobserved_bands(self) -> tuple[str, ...]:
        """Bands in which no galaxy was observed."""
        unobserved = (self.state == State.NOT_OBSERVED).all(axis=0)
        return tuple(band for band, none in zip(self.bands, unobserved, strict=True) if none)

    def check_columns(self, bands: Sequence[str], extra_names: Sequence[str]) -> None:
        """Raise `InputError` unless these are the bands and further inputs, in that order."""
        expected = [*bands, *extra_names]
        found = [*self.bands, *self.extra_names]
        if found != expected:
            msg = (
                f"expected the bands and extra columns {', '.join(expected)}, found "
                f"{', '.join(found)}; give a survey of those, in that order."
            )
            raise InputError(msg)

    def with_depth(self, depth: FloatArray) -> Photometry:
        """Give measurements that were not detected the band's depth as their error.

        Parameters
        ----------
        depth
            1-sigma flux error (nJy) of each band, shape ``(n_bands,)``. Errors that are
            known already stay as they are.
        """
        unknown = (self.state == State.NOT_DETECTED) & np.isnan(self.flux_error)
        return replace(self, flux_error=np.where(unknown, depth, self.flux_error))

    def without(self, hidden: NDArray[np.bool_]) -> Photometry:
        """The photometry with some measurements as if they had not been observed.

        Parameters
        ----------
        hidden
            Which ones, shape ``(n_galaxies, n_bands)``.
        """
        return replace(
            self,
            flux=np.where(hidden, np.nan, self.flux),
            flux_error=np.where(hidden, np.nan, self.flux_error),
            state=np.where(hidden, np.uint8(State.NOT_OBSERVED), self.state),
        )


def photometry_from_columns(
    columns: Mapping[str, Any], survey: Survey, *, optional_bands: Collection[str] = ()
) -> tuple[Photometry, dict[str, int]]:
    """Convert the columns of a catalogue to fluxes, errors and states.

    Parameters
    ----------
    columns
        Columns of shape ``(n_galaxies,)`` by name; those that `survey` does not name are
        ignored. Anything that numpy or pandas calls numbers is accepted.
    survey
        Says what the columns mean.
    optional_bands
        Bands of which columns may be missing; such a band is not observed.

    Returns
    -------
    photometry : Photometry
        Corrected for extinction, if the survey says how.
    implausible : dict
        What was found that is neither plausible nor declared as missing, and in how many
        rows. Such a measurement is not observed. Plausible is an error above 0 with a magnitude
        between 0 and 50 or a finite flux, and an extinction between -1 and 50 mag.

    Raises
    ------
    InputError
        If a column is missing or holds something else than numbers, or if there is no band
        with all its columns.
    """
    columns = by_name(columns)
    present = [
        band for band in survey.bands
        if band not in optional_bands or set(survey.band_columns(band).names()) <= set(columns)
    ]  # fmt: skip
    _check_present(columns, survey, present)
    n_galaxies = len(columns[survey.columns_needed(present)[0]])
    shape = (n_galaxies, len(survey.bands))
    flux, flux_error = np.full(shape, np.nan), np.full(shape, np.nan)
    state = np.full(shape, State.NOT_OBSERVED, dtype=np.uint8)
    implausible: Counter[str] = Counter()
    # All bands may share a column of E(B-V), whose values count once.
    uncorrected: dict[str, NDArray[np.bool_]] = {}
    for band in present:
        rules, names = BandRules.of(survey, band), survey.band_columns(band)
        k, source = survey.bands.index(band), _BandSource.of(columns, survey, band)
        # Blocks that fit into the processor's cache are several times faster than all at once.
        for start in range(0, n_galaxies, BLOCK):
            rows = slice(start, start + BLOCK)
            found = rules.apply(*source[rows])
            flux[rows, k], flux_error[rows, k] = found.flux, found.flux_error
            state[rows, k] = found.state
            implausible[names.value] += found.n_implausible
            if found.uncorrected.any():
                column = names.extinction or survey.ebv or band
                uncorrected.setdefault(column, np.zeros(n_galaxies, dtype=bool))
                uncorrected[column][rows] |= found.uncorrected
    implausible.update({name: int(mask.sum()) for name, mask in uncorrected.items()})
    extra = []
    absent = [sentinel for sentinel in survey.not_observed if sentinel]  # a size may be 0
    for name in survey.extra:
        value = as_numbers(columns[name], name)
        value = np.where(is_any(value, absent), np.nan, value)
        unusable = np.abs(value) > _LARGEST  # infinities too: the logarithm of a size of 0
        implausible[name] += int(np.count_nonzero(unusable))
        extra.append(np.where(unusable, np.nan, value))
    extra_values = np.stack(extra, axis=1) if extra else np.empty((n_galaxies, 0))
    photometry = Photometry(survey.bands, flux, flux_error, state, extra_values, survey.extra)
    counts = {f"{name}: implausible value": n for name, n in implausible.items() if n}
    return photometry, counts


@dataclass(frozen=True, eq=False)
class _BandSource:
    """Numbers of one band, as the catalogue has them, of shape ``(n_galaxies,)``."""

    value: FloatArray
    error: FloatArray
    extinction: FloatArray | None

    @classmethod
    def of(cls, columns: Mapping[str, Any], survey: Survey, band: str) -> _BandSource:
        names = survey.band_columns(band)
        value = as_numbers(columns[names.value], names.value)
        source = names.flux_ivar or names.flux_error or names.error or ""
        if isinstance(source, str):
            error = as_numbers(columns[source], source)
        else:
            error = np.full(value.shape, source)
        extinction = None
        if names.extinction is not None:
            extinction = as_numbers(columns[names.extinction], names.extinction)
        elif survey.ebv is not None and survey.a_ebv[band] > 0:  # 0 times NaN is no 0
            extinction = survey.a_ebv[band] * as_numbers(columns[survey.ebv], survey.ebv)
        return cls(value, error, extinction)

    def __getitem__(
        self, rows: slice
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None]:
        extinction = None if self.extinction is None else _cut(self.extinction, rows)
        return _cut(self.value, rows), _cut(self.error, rows), extinction


def _cut(column: FloatArray, rows: slice) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # some bit patterns of NaN complain when cast
        return column[rows].astype(np.float64)


def _check_present(columns: Mapping[str, Any], survey: Survey, bands: Collection[str]) -> None:
    needed = survey.columns_needed(bands or None)
    if not set(needed) <= set(columns):
        msg = f"{missing_columns(needed, columns)}; name the right ones in the survey."
        raise InputError(msg)
    lengths = {name: len(columns[name]) for name in needed}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        msg = f"expected columns of one length, found {found}; give every row a value or NaN."
        raise InputError(msg)

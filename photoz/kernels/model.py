"""CompiledModel: a fitted model that predicts and summarises p(z) in compiled code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from photoz.blend import PhotozBlend, single_models
from photoz.calibration import Calibration
from photoz.kernels.calibrated import Steps
from photoz.kernels.densities import ROWS, densities_of, empty_block
from photoz.kernels.flags import Known, find_outside
from photoz.kernels.pools import Weights, pool
from photoz.kernels.rows import Block
from photoz.kernels.summaries import summarise
from photoz.model import PhotozModel
from photoz.occupancy import Occupancy
from photoz.pdf import FloatArray
from photoz.photometry import Photometry
from photoz.summaries import Summaries

__all__ = ["CompiledModel"]

# Probability, and share of the peak, that may be left out on either side of a density.
_NEGLIGIBLE = 1e-7
# Of the members of a pool less, since where one is low the others may not be.
_NEGLIGIBLE_OF_MEMBERS = 1e-10
_N_POWERS = 5


class CompiledModel:
    """A fitted model whose p(z) are worked out and summarised without leaving the cache.

    Parameters
    ----------
    model
        A fitted `PhotozModel` or `PhotozBlend`.
    """

    def __init__(self, model: PhotozModel | PhotozBlend) -> None:
        self._weights: Weights | None = None
        members = [model] if isinstance(model, PhotozModel) else []
        if isinstance(model, PhotozBlend):
            members, self._weights = _used(model)
        self._features, self._calibration = model.features, model.calibration
        self._members = [(member.features, densities_of(member.estimator)) for member in members]
        self._depth, self._known = _training(model)
        self._steps = _steps(model.calibration)
        self._z_grid = model.z_grid
        self._least_power = _least_power(model.calibration)

    def summaries(
        self, photometry: Photometry, levels: Sequence[float], *, with_density: bool
    ) -> Summaries:
        """Summaries of the galaxies' calibrated densities.

        Parameters
        ----------
        photometry
            Photometry in the survey's bands.
        levels
            Rising levels of the quantiles.
        with_density
            Whether the densities themselves are wanted.
        """
        n_galaxies = len(photometry)
        X = self._features.transform(photometry)
        fills = [
            densities.of(X if features is self._features else features.transform(photometry))
            for features, densities in self._members
        ]
        log_beta = (self._calibration or Calibration()).known_log_beta(X)
        out = _empty(n_galaxies, len(levels), len(self._z_grid) if with_density else 0)
        wanted = np.array(levels, dtype=np.float64)
        block = self._block(_NEGLIGIBLE)
        members: tuple[Block, ...] = (block,)
        if self._weights is not None:
            members = tuple(self._block(_NEGLIGIBLE_OF_MEMBERS) for _ in fills)
        for start in range(0, n_galaxies, ROWS):
            rows = slice(start, min(start + ROWS, n_galaxies))
            for fill, own in zip(fills, members, strict=True):
                if fill(rows, own) >= 0:
                    msg = "weights must be finite and non-negative in every row."
                    raise ValueError(msg)
            if self._weights is not None:
                pool(members, rows.stop - rows.start, self._weights, block)
            summarise(block, self._steps, log_beta[rows], wanted, out, start)
        return out

    def outside_training(self, photometry: Photometry) -> NDArray[np.bool_]:
        """Whether each galaxy lies outside the training range, as `FittedModel` says."""
        outside = np.empty(len(photometry), dtype=bool)
        luptitude = np.asarray(photometry.luptitude(self._depth), dtype=np.float64)
        find_outside(luptitude, self._known, outside)
        return outside

    def _block(self, negligible: float) -> Block:
        # A power below 1 lifts what was low.
        return empty_block(self._z_grid, max(negligible ** (1 / self._least_power), 1e-30))


def _used(blend: PhotozBlend) -> tuple[list[PhotozModel], Weights]:
    """Members that have a weight, one at least, and the weights."""
    pairs = list(zip(blend.members.values(), blend.pool.weights, strict=True))
    used = [(member, a) for member, a in pairs if a > 0] or pairs[:1]
    members, weights = zip(*used, strict=True)
    share, epsilon = np.array(weights, dtype=np.float32), np.float32(blend.pool.epsilon)
    tilt = (blend.pool.tilt / np.log(2) * blend.z_grid).astype(np.float32)
    return [*members], Weights(blend.pool.kind == "log", share, epsilon, tilt)


def _training(model: PhotozModel | PhotozBlend) -> tuple[FloatArray, Known]:
    """Softening of the luptitudes, and what is known of the training galaxies."""
    first = single_models(model)[0]
    low, high = np.array([first.training_range[band] for band in first.survey.bands]).T.copy()
    nothing = Occupancy(np.empty(0), np.empty(0), np.empty((0, 0, 0), dtype=bool))
    occupancy = first.occupancy or nothing
    start, width = np.stack([occupancy.low, occupancy.width]).astype(np.float64)
    return first.features.depth_, Known(low, high, start, width, occupancy.table())


def _empty(n_galaxies: int, n_levels: int, n_z: int) -> Summaries:
    mode, mean, std, odds, beyond = (np.empty(n_galaxies) for _ in range(5))
    n_peaks, quantiles = np.empty(n_galaxies, dtype=np.int64), np.empty((n_galaxies, n_levels))
    density = np.empty((n_galaxies if n_z else 0, n_z), dtype=np.float32)
    return Summaries(mode, mean, std, odds, beyond, n_peaks, quantiles, density)


def _steps(calibration: Calibration | None) -> Steps:
    """What the kernels need to know of a calibration."""
    temperature = calibration.temperature if calibration else None
    pit_map = calibration.pit_map if calibration else None
    # Always as many powers, since each number of them is compiled anew.
    series = legendre.leg2poly([0.0, *(pit_map.coefficients if pit_map else ())]) / np.log(2)
    powers = [*[0.0] * (_N_POWERS - len(series)), *series[::-1]]
    conformal = calibration.conformal if calibration else None
    positions = [0.0, *conformal.positions, 1.0] if conformal else []
    levels = [0.0, *conformal.levels, 1.0] if conformal else []
    return Steps(
        tempered=temperature is not None,
        slope=temperature.coefficients[2] if temperature else 0.0,
        centre=temperature.centres[1] if temperature else 0.0,
        scale=temperature.scales[1] if temperature else 1.0,
        mapped=pit_map is not None,
        powers=tuple(np.float32(power) for power in powers),
        positions=np.array(positions, dtype=np.float64),
        levels=np.array(levels, dtype=np.float64),
    )


def _least_power(calibration: Calibration | None) -> float:
    """Smallest power β, up to 1, that a calibration may raise a density to."""
    if calibration is None or calibration.temperature is None:
        return 1.0
    constant, *slopes = calibration.temperature.coefficients
    return float(np.exp(np.clip(constant - 2 * np.abs(slopes).sum(), -np.log(5), 0)))

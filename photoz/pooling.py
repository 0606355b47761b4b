"""Pool: the densities of several models as one, weighted by what each of them is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from photoz.log_score import Truth, assign_folds
from photoz.pdf import FloatArray, RedshiftPDF
from photoz.pool_weights import LogLinearFit, linear_weights
from photoz.resolution import blocks, keep_resolved, normalise

__all__ = ["Pool"]

_Mask = NDArray[np.bool_]

# Share of a flat density that every member of a log-linear pool is given, so that a member
# that rules a redshift out does not rule it out for all.
_FLAT_SHARE = 1e-3
# The few weights gain nothing from more points of the members' densities than this.
_MAX_FIT_POINTS = 4_000_000
_N_BINS = 5
# How far a log-linear pool may be drawn from the best member alone towards its own weights.
_SHARES = (1.0, 0.75, 0.5, 0.25)


@dataclass(frozen=True)
class Pool:
    """Weights of the members and the way in which their densities are combined.

    Parameters
    ----------
    kind
        ``"log"``: p ∝ exp(c z) Π (p_k + ε)^a_k with a_k ≥ 0, whose sum need not be one:
        members that know different things sharpen each other. ``"linear"``: p = Σ a_k p_k
        with a_k ≥ 0 of sum one.
    weights
        Weight a_k of each member.
    epsilon
        ε of the log-linear pool (per unit redshift).
    tilt
        c of the log-linear pool (per unit redshift). A product loses what the tails of its
        factors say of the mean; under the c of the best log score the mean redshift of all
        galaxies together is right again, broad densities being moved more than narrow ones.

    Raises
    ------
    ValueError
        If a number is not finite, a weight negative, or a linear pool tilted.

    References
    ----------
    Genest & Zidek (1986), https://doi.org/10.1214/ss/1177013825
    Csiszár (1975), https://doi.org/10.1214/aop/1176996454
    """

    kind: Literal["log", "linear"]
    weights: tuple[float, ...]
    epsilon: float = 0.0
    tilt: float = 0.0

    def __post_init__(self) -> None:
        numbers = np.array([*self.weights, self.epsilon, self.tilt])
        if not np.isfinite(numbers).all() or (numbers[:-1] < 0).any():
            msg = f"weights and ε must be finite and 0 or more, and the tilt finite, got {self}."
            raise ValueError(msg)
        if self.kind == "linear" and self.tilt != 0:
            msg = f"a linear pool has no tilt, got {self.tilt}; leave it out."
            raise ValueError(msg)

    @classmethod
    def fit(
        cls,
        pzs: Sequence[RedshiftPDF],
        z_spec: ArrayLike,
        folds: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        reliability: ArrayLike | None = None,
    ) -> Pool:
        """Learn from densities of galaxies that no member has seen.

        The log score of folds that a pool was not learned from chooses between the
        log-linear pool, the linear pool and the best member alone, among those that keep
        the mean redshift of n(z), if any does. A log-linear pool that does not keep it is
        also tried with three quarters, half and a quarter of its weights and tilt, the rest
        those of the best member alone; the first of these that keeps it is a candidate.

        Parameters
        ----------
        pzs
            Out-of-fold densities of each member, of the same galaxies on the same grid.
        z_spec
            Spectroscopic redshifts of shape ``(n_galaxies,)``.
        folds
            Label of each galaxy, shape ``(n_galaxies,)``; five random folds if left out.
        sample_weight
            Weights of shape ``(n_galaxies,)``; equal if left out.
        reliability
            Probability that each redshift is right, one for all or of shape
            ``(n_galaxies,)``; wrong ones are taken to follow n(z).
        """
        return _choose(pzs, Truth.of(_checked(pzs)[0], z_spec, sample_weight, reliability), folds)[
            0
        ]

    @classmethod
    def cross_fit(
        cls,
        pzs: Sequence[RedshiftPDF],
        z_spec: ArrayLike,
        folds: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        reliability: ArrayLike | None = None,
    ) -> RedshiftPDF:
        """Pool each fold with weights that were learned from the others.

        Takes the arguments of `fit`. The densities that come back may be scored with
        `z_spec`, and a calibration be learned from them: only which of the three kinds of
        pool it is, and how far it is drawn towards its best member, has been decided by all
        galaxies together.
        """
        return _choose(pzs, Truth.of(_checked(pzs)[0], z_spec, sample_weight, reliability), folds)[
            1
        ]

    def apply(self, pzs: Sequence[RedshiftPDF]) -> RedshiftPDF:
        """Pool the members' densities, galaxy by galaxy.

        Parameters
        ----------
        pzs
            Densities of each member, in the order of the weights.
        """
        _checked(pzs)
        if len(pzs) != len(self.weights):
            msg = f"expected densities of {len(self.weights)} members, got {len(pzs)}."
            raise ValueError(msg)
        used = [(pz, a) for pz, a in zip(pzs, self.weights, strict=True) if a > 0]
        # Members that are all worse than nothing leave a density that is flat but for the tilt.
        used = used or [(pzs[0], 0.0)]
        first = used[0][0]
        if self.kind == "linear" and len(used) == 1:
            return first
        density = np.empty_like(first.density)
        for rows in blocks(first):
            members = [pz.density[rows] for pz, _ in used]
            pooled = self._combine(members, [np.float32(a) for _, a in used], first.z_grid)
            if self.kind == "log":
                pooled = keep_resolved(normalise(pooled, first.step), first.step, members)
            density[rows] = normalise(pooled, first.step)
        return RedshiftPDF(first.z_grid, density)

    def _combine(
        self, members: list[FloatArray], weights: list[np.float32], z_grid: FloatArray
    ) -> FloatArray:
        if self.kind == "linear":
            mixed = np.zeros_like(members[0])
            for a, p in zip(weights, members, strict=True):
                mixed += a * p
            return mixed
        pooled = np.empty_like(members[0])
        pooled[:] = self.tilt * z_grid
        for a, p in zip(weights, members, strict=True):
            term = p + np.float32(self.epsilon)
            np.log(term, out=term)
            term *= a
            pooled += term
        pooled -= pooled.max(axis=1, keepdims=True)
        return np.exp(pooled, out=pooled)

    def to_dict(self) -> dict[str, Any]:
        """Kind, weights, ε and tilt, as JSON can hold them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Pool:
        """Rebuild what `to_dict` described."""
        return cls(**{**content, "weights": tuple(content["weights"])})


def _checked(pzs: Sequence[RedshiftPDF]) -> Sequence[RedshiftPDF]:
    if not pzs:
        msg = "a pool needs the densities of at least one member, got none."
        raise ValueError(msg)
    for pz in pzs[1:]:
        if len(pz) != len(pzs[0]) or not np.array_equal(pz.z_grid, pzs[0].z_grid):
            msg = (
                "members must predict the same galaxies on one redshift grid, got "
                f"{[(len(p), len(p.z_grid), float(p.z_grid[-1])) for p in pzs]} as numbers of "
                "galaxies, redshifts, and z_max."
            )
            raise ValueError(msg)
    return pzs


def _choose(
    pzs: Sequence[RedshiftPDF], truth: Truth, folds: ArrayLike | None
) -> tuple[Pool, RedshiftPDF]:
    """Best kind of pool, and its densities of each fold learned without that fold."""
    masks = assign_folds(len(truth), folds)
    at_truth = np.stack([pz.at(truth.z_spec) for pz in pzs], axis=1)
    scores = [truth.log_score(column).mean() for column in at_truth.T]
    best = int(np.argmax(scores))
    candidates = [(Pool("linear", tuple(float(k == best) for k in range(len(pzs)))), pzs[best])]
    if len(pzs) > 1:
        candidates.append(_linear(pzs, at_truth, truth, masks))
        candidates += _log_linear(pzs, truth, masks, best)
    ranks = [
        (_keeps_mean_redshift(pz, truth), truth.log_score(pz.at(truth.z_spec)).mean())
        for _, pz in candidates
    ]
    return candidates[max(range(len(ranks)), key=ranks.__getitem__)]


def _linear(
    pzs: Sequence[RedshiftPDF], at_truth: FloatArray, truth: Truth, masks: Sequence[_Mask]
) -> tuple[Pool, RedshiftPDF]:
    """Linear pool, and its densities of each fold learned without that fold."""
    everyone = np.ones(len(truth), dtype=bool)
    pool, *parts = (
        Pool("linear", tuple(linear_weights(at_truth[rows], truth[rows]).tolist()))
        for rows in (everyone, *(~mask for mask in masks))
    )
    return pool, _assemble(pzs, masks, parts)


def _log_linear(
    pzs: Sequence[RedshiftPDF], truth: Truth, masks: Sequence[_Mask], best: int
) -> list[tuple[Pool, RedshiftPDF]]:
    """Log-linear pool and, if it does not keep the mean redshift, one drawn so far that it does.

    It is drawn towards the best member; where even a quarter of its own weights is too much,
    there is none.
    """
    rows = np.random.default_rng(0).permutation(len(truth))
    rows = rows[: _MAX_FIT_POINTS // len(pzs[0].z_grid)]
    epsilon = _FLAT_SHARE / float(pzs[0].z_grid[-1])
    fit = LogLinearFit.of([pz[rows] for pz in pzs], truth[rows], epsilon)
    whole = fit.coefficients(np.arange(len(rows)))
    parts = [fit.coefficients(np.flatnonzero(~mask[rows])) for mask in masks]
    alone = np.eye(len(pzs), len(pzs) + 1)[best]
    found: list[tuple[Pool, RedshiftPDF]] = []
    for share in _SHARES:
        pool, *drawn = (
            _log_pool(share * own + (1 - share) * alone, epsilon) for own in (whole, *parts)
        )
        pooled = _assemble(pzs, masks, drawn)
        keeps = _keeps_mean_redshift(pooled, truth)
        if keeps or not found:
            found.append((pool, pooled))
        if keeps:
            break
    return found


def _log_pool(coefficients: FloatArray, epsilon: float) -> Pool:
    *weights, tilt = coefficients.tolist()
    return Pool("log", tuple(weights), epsilon, tilt)


def _assemble(
    pzs: Sequence[RedshiftPDF], masks: Sequence[_Mask], pools: Sequence[Pool]
) -> RedshiftPDF:
    density = np.empty_like(pzs[0].density)
    for mask, pool in zip(masks, pools, strict=True):
        density[mask] = pool.apply([pz[mask] for pz in pzs]).density
    return RedshiftPDF(pzs[0].z_grid, density)


def _keeps_mean_redshift(pz: RedshiftPDF, truth: Truth) -> bool:
    """Whether n(z) has the right mean in five equal-number bins of the median redshift.

    Right is within .002 (1 + z), Rubin's requirement after one year, and two standard errors.
    """
    error = pz.mean() - truth.z_spec
    trust = truth.trust(pz.at(truth.z_spec))
    order = np.argsort(pz.median(), kind="stable")
    for rows in np.array_split(order, _N_BINS):
        weight = trust[rows]
        if not weight.any():
            continue  # such galaxies do not count
        shift = np.average(error[rows], weights=weight)
        spread = np.average((error[rows] - shift) ** 2, weights=weight) ** 0.5
        z_mean = np.average(truth.z_spec[rows], weights=weight)
        standard_error = spread * (weight**2).sum() ** 0.5 / weight.sum()
        if abs(shift) > 0.002 * (1 + z_mean) + 2 * standard_error:
            return False
    return True

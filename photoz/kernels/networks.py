"""Networks: dense layers, whose matrix products are left to their library, and mixtures."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from photoz.kernels.compiling import kernel, part
from photoz.kernels.elementary import exp2, log2, upper_tail
from photoz.threads import one_blas_thread

__all__ = ["Networks"]

_ROWS = 512
"""Galaxies per pass, whose activations stay in a processor's cache. Always the same number,
filled up with zeros: a matrix product of another shape may round differently."""

_LOG2_E, _LN_2 = np.float32(1 / math.log(2)), np.float32(math.log(2))
_ZERO, _ONE, _LARGEST_EXPONENT = np.float32(0), np.float32(1), np.float32(126)
# As in `photoz.estimators.network` and `photoz.estimators.dense_networks`.
_FARTHEST = np.float32(10)
_LEAST_MASS = np.float32(1e-6)

Floats = NDArray[np.float32]


class Head(NamedTuple):
    """What `photoz.estimators.dense_networks.MixtureHead` knows."""

    location: np.float32
    scale: np.float32
    narrowest: np.float32
    z_max: np.float32


class Scaling(NamedTuple):
    """How features are standardised, and which of them have a flag where they are missing."""

    mean: Floats
    std: Floats
    flagged: NDArray[np.int64]


class Networks:
    """The networks of a fitted `NetworkPhotoz`."""

    def __init__(self, estimator: Any) -> None:  # noqa: ANN401 - its family has heavy imports
        networks, head, scaling = estimator.networks_, estimator.networks_.head, estimator.scaling_
        self._scaling = Scaling(scaling.mean, scaling.std, scaling.flagged)
        self._hidden = [part.transpose(0, 2, 1).copy() for part in networks.weights[:-1]]
        self._last = networks.weights[-1]
        self._biases = [part[:, :, 0].copy() for part in networks.biases]
        parts = (head.location, head.scale, head.narrowest, head.z_max)
        self._head = Head(*map(np.float32, parts))

    def mixtures(self, X: Floats) -> tuple[Floats, Floats, Floats]:
        """Weights, means and sigmas, as `NetworkPhotoz.predict_mixture` gives them."""
        members, n_outputs = self._last.shape[:2]
        inputs = np.zeros((_ROWS, self._hidden[0].shape[1]), dtype=np.float32)
        outputs = [np.empty((_ROWS, part.shape[2]), dtype=np.float32) for part in self._hidden]
        raw = np.empty((members, n_outputs, _ROWS), dtype=np.float32)
        found = np.empty((3, len(X), members * n_outputs // 3), dtype=np.float32)
        with one_blas_thread():
            for start in range(0, len(X), _ROWS):
                rows = slice(start, start + _ROWS)
                scale(X[rows], self._scaling, inputs)
                for member in range(members):
                    x = inputs
                    for weight, bias, output in zip(
                        self._hidden, self._biases[:-1], outputs, strict=True
                    ):
                        x = np.matmul(x, weight[member], out=output)
                        activate(x, bias[member])
                    np.matmul(self._last[member], x.T, out=raw[member])
                mix(raw, self._biases[-1], self._head, found[:, rows])
        return found[0], found[1], found[2]


@kernel
def scale(X: Floats, scaling: Scaling, inputs: Floats) -> None:
    """Write standardised features and flags, as the scaling of `NetworkPhotoz` does.

    Parameters
    ----------
    X
        Shape ``(n_rows, n_features)``, NaN where not observed.
    scaling
        What to do.
    inputs
        Where to write, shape ``(rows, n_features + n_flags)``.
    """
    n_features = X.shape[1]
    for row in range(len(X)):
        for k in range(n_features):
            value = min(max((X[row, k] - scaling.mean[k]) / scaling.std[k], -_FARTHEST), _FARTHEST)
            inputs[row, k] = _ZERO if np.isnan(X[row, k]) else value
        for flag in range(len(scaling.flagged)):
            missing = np.isnan(X[row, scaling.flagged[flag]])
            inputs[row, n_features + flag] = _ONE if missing else _ZERO


@kernel
def activate(x: Floats, bias: Floats) -> None:
    """Add biases and apply x / (1 + exp(-x)) in place.

    Parameters
    ----------
    x, bias
        Shapes ``(n_rows, n_units)`` and ``(n_units,)``.
    """
    for i in range(len(x)):
        for unit in range(x.shape[1]):
            value = x[i, unit] + bias[unit]
            x[i, unit] = value / (_ONE + exp2(min(-_LOG2_E * value, _LARGEST_EXPONENT)))


@kernel
def mix(raw: Floats, bias: Floats, head: Head, found: Floats) -> None:
    """Mixtures that raw outputs stand for; see `MixtureHead.mixture`.

    Parameters
    ----------
    raw, bias
        Shapes ``(members, 3 * n_components, rows)`` and ``(members, 3 * n_components)``.
    head
        What they mean.
    found
        Where to write weights, means and sigmas, shape
        ``(3, n_rows, members * n_components)``; no more rows than are in `raw`.
    """
    members, n_components, n_rows = len(raw), raw.shape[1] // 3, found.shape[1]
    overall = np.zeros(raw.shape[2], dtype=np.float32)
    for member in range(members):
        _read(raw[member], bias[member], head)
        _normalise(raw[member], head, members > 1)
        for k in range(n_components):
            for i in range(len(overall)):
                overall[i] += raw[member, k, i]
    four = np.float32(4)
    for row in range(n_rows):
        for member in range(members):
            for k in range(n_components):
                place, at, of = member * n_components + k, n_components + k, 2 * n_components + k
                mean, sigma = raw[member, at, row], raw[member, of, row]
                found[0, row, place] = raw[member, k, row] / overall[row]
                # A component far beyond the grid would leave nothing on it but zeros.
                found[1, row, place] = min(max(mean, -four * sigma), head.z_max + four * sigma)
                found[2, row, place] = sigma


@part
def _read(raw: Floats, bias: Floats, head: Head) -> None:
    """Relative weights, means and sigmas in place of what stands for them."""
    n_components = len(raw) // 3
    top = np.full(raw.shape[1], -np.inf, dtype=np.float32)
    for k in range(n_components):
        for i in range(len(top)):
            top[i] = max(top[i], raw[k, i] + bias[k])
    for k in range(n_components):
        at, of = n_components + k, 2 * n_components + k
        for i in range(len(top)):
            raw[k, i] = exp2(_LOG2_E * (raw[k, i] + bias[k] - top[i]))
        for i in range(len(top)):
            raw[at, i] = head.location + head.scale * (raw[at, i] + bias[at])
        for i in range(len(top)):
            width = raw[of, i] + bias[of]
            softplus = log2(_ONE + exp2(-_LOG2_E * abs(width))) * _LN_2 + max(width, _ZERO)
            raw[of, i] = head.narrowest + head.scale * softplus


@part
def _normalise(raw: Floats, head: Head, within: bool) -> None:
    """Make the sum of the relative weights 1, or that of their parts within the grid."""
    n_components = len(raw) // 3
    total = np.zeros(raw.shape[1], dtype=np.float32)
    for k in range(n_components):
        if within:
            for i in range(len(total)):
                at, of = raw[n_components + k, i], raw[2 * n_components + k, i]
                total[i] += raw[k, i] * _inside(at, of, head)
        else:
            for i in range(len(total)):
                total[i] += raw[k, i]
    for k in range(n_components):
        for i in range(len(total)):
            raw[k, i] /= total[i]


@part
def _inside(mean: np.float32, sigma: np.float32, head: Head) -> np.float32:
    """Part of a Gaussian that is within the grid."""
    # By symmetry the mean may as well be in the lower half of the grid, or below it.
    mean = min(mean, head.z_max - mean)
    beyond = upper_tail(abs(mean) / sigma)
    is_within = np.float32(mean > 0)
    above_zero = is_within + (_ONE - is_within - is_within) * beyond
    return max(above_zero - upper_tail((head.z_max - mean) / sigma), _LEAST_MASS)

"""Powers and logarithms to the base 2 that a compiler can work out several at a time."""

from __future__ import annotations

import numpy as np

from photoz.kernels.compiling import part

__all__ = ["TINY", "exp2", "log2"]

TINY = np.float32(1e-30)
"""Smallest density whose logarithm is taken."""

_MANTISSA_BITS = 23
# Bits of the square root of one half: mantissas from there to twice of it are nearest to 1.
_ROOT_HALF = 0x3F3504F3
_LOWEST, _BIAS, _HALF = np.float32(-126), np.int32(127), np.float32(127.5)

# Polynomials through Chebyshev nodes: 2^r for abs(r) <= 1/2, and log2(1 + f) / f for 1 + f from
# 1/sqrt(2) to sqrt(2). Both are right to the last bit or two of float32.
_E0, _E1, _E2, _E3, _E4, _E5, _E6 = (
    np.float32(c)
    for c in (
        1,
        0.693147207,
        0.240226512,
        0.0555032721,
        0.0096180256,
        0.00134004322,
        0.00015469732,
    )
)
_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8 = (
    np.float32(c)
    for c in (
        *(1.442695, -0.721347333, 0.48091061, -0.360704828, 0.287918324),
        *(-0.23892034, 0.215669859, -0.207421035, 0.126148466),
    )
)


@part
def exp2(x: np.float32) -> np.float32:
    """2^x for x up to 127; what would be below 2^-126 is 2^-126."""
    x = max(x, _LOWEST)
    exponent = np.int32(x + _HALF)
    r = x - np.float32(exponent - _BIAS)
    q = _E5 + r * _E6
    q = _E4 + r * q
    q = _E3 + r * q
    q = _E2 + r * q
    q = _E1 + r * q
    return (_E0 + r * q) * np.int32(exponent << _MANTISSA_BITS).view(np.float32)


@part
def log2(x: np.float32) -> np.float32:
    """Logarithm to the base 2 of a positive normal number."""
    bits = np.float32(x).view(np.int32)
    exponent = np.int32(np.int32(bits - _ROOT_HALF) >> _MANTISSA_BITS)
    mantissa = np.int32(bits - (exponent << _MANTISSA_BITS)).view(np.float32)
    f = mantissa - np.float32(1)
    q = _L7 + f * _L8
    q = _L6 + f * q
    q = _L5 + f * q
    q = _L4 + f * q
    q = _L3 + f * q
    q = _L2 + f * q
    q = _L1 + f * q
    q = _L0 + f * q
    return np.float32(exponent) + f * q

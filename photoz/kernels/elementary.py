"""Elementary functions that a compiler can work out several at a time."""

from __future__ import annotations

import math

import numpy as np

from photoz.kernels.compiling import exact_part

__all__ = ["TINY", "exp2", "log2", "upper_tail"]

TINY = np.float32(1e-30)
"""Smallest density whose logarithm is taken."""

_MANTISSA_BITS = 23
# Bits of the square root of one half: mantissas from there to twice of it are nearest to 1.
_ROOT_HALF_BITS = 0x3F3504F3
_LOWEST, _HALF, _ONE = np.float32(-126), np.float32(0.5), np.float32(1)
_ROOT_HALF, _LOG2_E = np.float32(math.sqrt(0.5)), np.float32(1 / math.log(2))
# A number of this size has no digits behind the point: adding it rounds.
_ROUNDING = np.float32(1.5 * 2**_MANTISSA_BITS)

# Polynomials through Chebyshev nodes, right to 1e-7 (the third one to 1e-6): 2^r for
# abs(r) <= 1/2, log2(1 + f) / f for 1 + f from 1/sqrt(2) to sqrt(2), and that of the tail.
_E0, _E1, _E2, _E3, _E4, _E5 = (
    np.float32(c) for c in (1.00000008, 0.69314719, 0.24022107, 0.05550357, 0.00967603, 0.00133909)
)
_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7 = (
    np.float32(c)
    for c in (
        *(1.44269499, -0.72135293, 0.48091671, -0.36022518),
        *(0.28728888, -0.24927182, 0.23265258, -0.14275973),
    )
)
# ln(erfc(x) exp(x²) / t) for t = 1 / (1 + x / 2) and x from 0 to 12 / sqrt(2).
_FARTHEST = np.float32(12)
_T0, _T1, _T2, _T3, _T4, _T5, _T6, _T7 = (
    np.float32(c)
    for c in (
        *(-1.26549193, 0.99873273, 0.39354166, -0.03977343),
        *(0.35239024, -1.00584772, 0.75531554, -0.18886786),
    )
)


@exact_part
def exp2(x: np.float32) -> np.float32:
    """2^x for x up to 127; what would be below 2^-126 is 2^-126."""
    x = max(x, _LOWEST)
    rounded = x + _ROUNDING
    r = x - (rounded - _ROUNDING)
    q = _E4 + r * _E5
    q = _E3 + r * q
    q = _E2 + r * q
    q = _E1 + r * q
    q = _E0 + r * q
    # The last bits of the rounded number are the exponent to be added.
    exponent = np.int32(np.float32(rounded).view(np.int32) << _MANTISSA_BITS)
    return np.int32(np.float32(q).view(np.int32) + exponent).view(np.float32)


@exact_part
def log2(x: np.float32) -> np.float32:
    """Logarithm to the base 2 of a positive normal number."""
    bits = np.float32(x).view(np.int32)
    exponent = np.int32(np.int32(bits - _ROOT_HALF_BITS) >> _MANTISSA_BITS)
    mantissa = np.int32(bits - (exponent << _MANTISSA_BITS)).view(np.float32)
    f = mantissa - _ONE
    q = _L6 + f * _L7
    q = _L5 + f * q
    q = _L4 + f * q
    q = _L3 + f * q
    q = _L2 + f * q
    q = _L1 + f * q
    q = _L0 + f * q
    return np.float32(exponent) + f * q


@exact_part
def upper_tail(x: np.float32) -> np.float32:
    """Probability of a normal deviate above x, from 0 to 12, to 1e-5 of itself."""
    # Beyond so many sigmas numbers become so small that processors slow down.
    x = _ROOT_HALF * min(x, _FARTHEST)
    t = _ONE / (_ONE + _HALF * x)
    q = _T6 + t * _T7
    q = _T5 + t * q
    q = _T4 + t * q
    q = _T3 + t * q
    q = _T2 + t * q
    q = _T1 + t * q
    q = _T0 + t * q
    return _HALF * t * exp2(_LOG2_E * (q - x * x))

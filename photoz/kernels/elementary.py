"""Powers and logarithms to the base 2 that a compiler can work out several at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from photoz.kernels.compiling import part

__all__ = ["TINY", "exp2", "log2"]

TINY = np.float32(1e-30)
"""Smallest density whose logarithm is taken."""

_INT, _FLOAT = ir.IntType(32), ir.FloatType()
_MANTISSA_BITS = 23
_EXPONENT_BIAS = 127
# Bits of the square root of one half: mantissas from there to twice of it are nearest to 1.
_ROOT_HALF = 0x3F3504F3
_LOWEST = np.float32(-126)

# Polynomials through Chebyshev nodes: 2^r for abs(r) <= 1/2, and log2(1 + f) / f for 1 + f from
# 1/sqrt(2) to sqrt(2). Both are right to the last bit or two of float32.
_E0, _E1, _E2, _E3, _E4, _E5, _E6 = (
    np.float32(c)
    for c in (1, 0.693147207, 0.240226512, 0.0555032721, 0.0096180256, 0.00134004322, 0.00015469732)
)
_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8 = (
    np.float32(c)
    for c in (
        *(1.442695, -0.721347333, 0.48091061, -0.360704828, 0.287918324),
        *(-0.23892034, 0.215669859, -0.207421035, 0.126148466),
    )
)


@intrinsic
def _nearest(_: Any, number: Any) -> Any:
    """Nearest whole number, as float32."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        rint = builder.module.declare_intrinsic("llvm.rint", [_FLOAT])
        return builder.call(rint, arguments)

    return types.float32(types.float32), generate


@intrinsic
def _whole_power(_: Any, exponent: Any) -> Any:
    """2 to the power of a whole number from -126 to 127."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        whole = builder.fptosi(arguments[0], _INT)
        biased = builder.add(whole, ir.Constant(_INT, _EXPONENT_BIAS))
        bits = builder.shl(biased, ir.Constant(_INT, _MANTISSA_BITS))
        return builder.bitcast(bits, _FLOAT)

    return types.float32(types.float32), generate


@intrinsic
def _exponent(_: Any, number: Any) -> Any:
    """The whole number e in number = 2^e (1 + f) with 1 + f nearest to 1."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.sitofp(_exponent_bits(builder, arguments[0]), _FLOAT)

    return types.float32(types.float32), generate


@intrinsic
def _mantissa(_: Any, number: Any) -> Any:
    """The 1 + f in number = 2^e (1 + f)."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        exponent = _exponent_bits(builder, arguments[0])
        shifted = builder.shl(exponent, ir.Constant(_INT, _MANTISSA_BITS))
        bits = builder.bitcast(arguments[0], _INT)
        return builder.bitcast(builder.sub(bits, shifted), _FLOAT)

    return types.float32(types.float32), generate


def _exponent_bits(builder: Any, number: Any) -> Any:
    bits = builder.bitcast(number, _INT)
    offset = builder.sub(bits, ir.Constant(_INT, _ROOT_HALF))
    return builder.ashr(offset, ir.Constant(_INT, _MANTISSA_BITS))


@part
def exp2(x: np.float32) -> np.float32:
    """2^x for x up to 127; what would be below 2^-126 is 2^-126."""
    x = max(x, _LOWEST)
    n = _nearest(x)
    r = x - n
    q = _E5 + r * _E6
    q = _E4 + r * q
    q = _E3 + r * q
    q = _E2 + r * q
    q = _E1 + r * q
    return (_E0 + r * q) * _whole_power(n)


@part
def log2(x: np.float32) -> np.float32:
    """Logarithm to the base 2 of a positive normal number."""
    f = _mantissa(x) - np.float32(1)
    q = _L7 + f * _L8
    q = _L6 + f * q
    q = _L5 + f * q
    q = _L4 + f * q
    q = _L3 + f * q
    q = _L2 + f * q
    q = _L1 + f * q
    q = _L0 + f * q
    return _exponent(x) + f * q

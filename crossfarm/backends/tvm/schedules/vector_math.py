"""exp, sigmoid, tanh and erf of float32 as polynomials that vectorise, in place of a call of the C library per element.

They are put in behind a schedule, so that every rule and every epilogue has them. Each argument is bound to a variable
first, because what a tree of expressions repeats is also compiled again.

Infinity and NaN give what the C library gives. Errors are relative for exp, 2e-7, and absolute for the others, whose
results are at most 1: see the docstrings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Call

from crossfarm.backends.tvm.types import PrimExpr, PrimFunc

_LOG2_E, _LN2_HIGH, _LN2_LOW = 1.44269504, 0.693359375, 2.12194440e-4
"""ln 2 = high - low, of which high has so few bits that whole numbers times it are exact (Cephes, expf.c)."""
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
"""exp(r) = 1 + r + r^2 * p(r) for |r| <= ln 2 / 2 (Cephes, expf.c)."""
_ROUND = 12582912.0
"""1.5 * 2^23: the sum with a small number is a whole one, in whose lowest bits it stands as an integer."""
_ROUND_BITS = 0x4B400000
"""The bits of that number; to take it off again as a float, TVM would simplify the sum away."""
_BIAS, _MANTISSA = 127, 23
"""Of float32."""
_TANH = (
    (-2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08, 1.48572235717979e-05,
     6.37261928875436e-04, 4.89352455891786e-03),
    (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03),
)  # fmt: skip
_TANH_BOUND = 7.90531110763549805
"""From here on tanh is 1 to the last bit of float32."""
_ERF = (
    (-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05, -7.34990630326855e-04,
     -2.95459980854025e-03, -1.60960333262415e-02),
    (-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03,
     -1.42647390514189e-02),
)  # fmt: skip
_ERF_BOUND = 4.0
"""1 - erf of it is 1.5e-8, which float32 does not see beside 1."""


def with_polynomials(function: PrimFunc) -> PrimFunc:
    """Return a PrimFunc in which exp, sigmoid, tanh and erf of float32 are polynomials; so are squares and cubes."""
    return function.with_body(tvm_ffi.structural_map(function.body, (Call, _replaced)))


def _replaced(call: PrimExpr) -> PrimExpr:
    name = getattr(call.op, "name", "")
    if name == "tirx.pow":
        return _power(call)
    polynomial = _POLYNOMIALS.get(name)
    if polynomial is None or not _is_float32(call):
        return call
    value = tirx.Var("value", str(call.ty.dtype))
    return tirx.Let(value, call.args[0], polynomial(value))


def _power(call: PrimExpr) -> PrimExpr:
    exponent = call.args[1]
    if not _is_float32(call) or not isinstance(exponent, tirx.FloatImm) or float(exponent.value) not in (2.0, 3.0):
        return call
    value = tirx.Var("value", str(call.ty.dtype))
    square = value * value
    return tirx.Let(value, call.args[0], square if float(exponent.value) == 2.0 else square * value)


def _is_float32(call: PrimExpr) -> bool:
    return str(tvm.DataType(str(call.ty.dtype)).with_lanes(1)) == "float32"


def exponential(value: PrimExpr) -> PrimExpr:
    """Return exp of a float32, relative error 2e-7; denormal numbers too, and infinity from 88.73 on.

    exp(x) = 2^n * exp(r) with n = round(x / ln 2); r = x - n ln 2 in two steps, so that nothing is lost; 2^n as two
    factors, so that neither is beyond what float32 has.
    """
    clipped = tirx.min(tirx.max(value, _number(-104.0)), _number(89.0))
    power = _integer(clipped * _number(_LOG2_E) + _number(_ROUND)) - tirx.const(_ROUND_BITS, "int32")
    half = power >> tirx.const(1, "int32")
    return _of_rest(clipped, power) * _power_of_two(half) * _power_of_two(power - half)


def exponential_of_negative(value: PrimExpr) -> PrimExpr:
    """Return exp of a float32 that is at most 0, relative error 2e-7; 0 where it would be denormal."""
    return _exponential_in_range(tirx.max(value, _number(-88.0)))


def sigmoid(value: PrimExpr) -> PrimExpr:
    """Return 1 / (1 + exp(-x)), error 1e-7; 0 from -88.4 on."""
    one = _number(1.0)
    return one / (one + _exponential_in_range(tirx.max(tirx.min(-value, _number(89.0)), _number(-87.0))))


def tanh(value: PrimExpr) -> PrimExpr:
    """Return tanh, error 3e-7: a quotient of two polynomials (the minimax approximation of Eigen, MIT and MPL 2)."""
    return _quotient(value, _TANH, _TANH_BOUND)


def erf(value: PrimExpr) -> PrimExpr:
    """Return the error function, error 3e-7: a quotient of two polynomials (that of Eigen and XLA)."""
    return _quotient(value, _ERF, _ERF_BOUND)


_POLYNOMIALS: dict[str, Callable[[PrimExpr], PrimExpr]] = {
    "tirx.exp": exponential,
    "tirx.sigmoid": sigmoid,
    "tirx.tanh": tanh,
    "tirx.erf": erf,
}
"""Function of TVM -> its polynomial, of a variable."""


def _quotient(value: PrimExpr, coefficients: tuple[Sequence[float], Sequence[float]], bound: float) -> PrimExpr:
    """Return x p(x^2) / q(x^2) for x between -bound and bound, and the value there for all beyond."""
    dtype = str(value.ty.dtype)
    clipped, square = tirx.Var("clipped", dtype), tirx.Var("square", dtype)
    above, below = (_horner(square, each) for each in coefficients)
    within = tirx.max(tirx.min(value, _number(bound)), _number(-bound))
    return tirx.Let(clipped, within, tirx.Let(square, clipped * clipped, clipped * above / below))


def _exponential_in_range(clipped: PrimExpr) -> PrimExpr:
    """Return exp of a float32 from -88 to 89; 0 below -87.7, infinity above 88.4."""
    # The bias of an exponent is in the sum already, so that its lowest bits are those of the exponent of 2^n.
    rounded = _integer(clipped * _number(_LOG2_E) + _number(_ROUND + _BIAS))
    scale = tirx.reinterpret("float32", rounded << tirx.const(_MANTISSA, "int32"))
    return _of_rest(clipped, rounded - tirx.const(_ROUND_BITS + _BIAS, "int32")) * scale


def _of_rest(value: PrimExpr, power: PrimExpr) -> PrimExpr:
    """Return exp(value - power * ln 2) for an integer power."""
    whole, name = tirx.Var("whole", "float32"), tirx.Var("rest", "float32")
    rest = value - whole * _number(_LN2_HIGH) + whole * _number(_LN2_LOW)
    polynomial = _horner(name, _EXP) * name * name + name + _number(1.0)
    return tirx.Let(whole, power.astype("float32"), tirx.Let(name, rest, polynomial))


def _horner(value: PrimExpr, coefficients: Sequence[float]) -> PrimExpr:
    result = _number(coefficients[0])
    for coefficient in coefficients[1:]:
        result = result * value + _number(coefficient)
    return result


def _power_of_two(exponent: PrimExpr) -> PrimExpr:
    bits = (exponent + tirx.const(_BIAS, "int32")) << tirx.const(_MANTISSA, "int32")
    return tirx.reinterpret("float32", bits)


def _integer(value: PrimExpr) -> PrimExpr:
    return tirx.reinterpret("int32", value)


def _number(value: float) -> PrimExpr:
    return tirx.const(value, "float32")

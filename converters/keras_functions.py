"""What quantizers, activations and kernels are, decided by what they do to values and never by their names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.keras import keras, refusal

Array = NDArray[np.float64]
Range = tuple[float, float]

IDENTITY: Range = (-np.inf, np.inf)
"""The clip that changes nothing."""

KERNEL_TOLERANCE = 0.005
"""How far the values of a binary kernel may be from +-s of their output channel, relative to s (as in LCE)."""
SMALLEST_SCALE = 1.2e-7
"""Scales of binary kernels up to this one count as zero (as in LCE)."""
MOST_LEVELS = 16
"""A function with more levels is not recognised as one of steps."""


@dataclass(frozen=True)
class Steps:
    """A function that rises in steps: `levels` in rising order, and for each but the first where it begins.

    `edges[k]` is the smallest float32 that gives `levels[k + 1]`: rounding and ties are those of the function itself.
    """

    levels: tuple[float, ...]
    edges: tuple[float, ...]


@dataclass(frozen=True)
class Leak:
    """`x` where x >= 0, else `x * slope`."""

    slope: float


Kind = str | Range | Steps | Leak


def label(function: Any) -> str:
    """A function's name, or that of its class."""
    return str(getattr(function, "__name__", type(function).__name__))


def kind_of(function: Any) -> Kind | None:
    """What a quantizer or an activation does, seen from what it does to probe values.

    "sign", "softmax", "sigmoid", (low, high) for a clip to that range, infinite ends meaning no bound, `Steps` or
    `Leak`; None for anything else.
    """
    if function is None:
        return IDENTITY
    positive = np.geomspace(1e-30, 1e30, 241, dtype=np.float32)
    grid = np.linspace(-8, 8, 257, dtype=np.float32)
    probe = np.concatenate([grid, positive, -positive, np.array([-0.0], np.float32)])
    # Two channels, mirrored: a function that depends on other elements shows it.
    x = np.stack([probe, -probe], axis=-1)[:, np.newaxis, np.newaxis, :]

    def run(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(function(keras()[0].constant(values)))

    try:
        y = run(x)
        return None if y.shape != x.shape else _clip(x, y) or _smooth(x, y) or _steps(run, x, y)
    except Exception:  # code of the user's; whatever it raises, it is no function of this list
        return None


def _clip(x: NDArray[np.float32], y: NDArray[np.float32]) -> Kind | None:
    if np.array_equal(y, np.where(x < 0, -1, 1)):
        return "sign"
    low, high = float(y.min()), float(y.max())
    limit = float(x.max())
    if np.array_equal(y, np.clip(x, low, high)):
        return (-np.inf if low == -limit else low), (np.inf if high == limit else high)
    slope = y.flat[0] / x.flat[0]  # of a power of two: exact
    with np.errstate(all="ignore"):
        leak = np.where(x >= 0, x, x * slope)
    return Leak(float(slope)) if np.array_equal(y, leak) else None


def _smooth(x: NDArray[np.float32], y: NDArray[np.float32]) -> Kind | None:
    small = np.abs(x) <= 8
    with np.errstate(over="ignore"):
        softmax = 1 / (1 + np.exp(np.where(small, -2 * x, 0)))
        sigmoid = 1 / (1 + np.exp(np.where(small, -x, 0)))
    for name, expected in (("softmax", softmax), ("sigmoid", sigmoid)):
        if np.allclose(y[small], expected[small], rtol=0, atol=1e-6):
            return name
    return None


def _steps(
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]], x: NDArray[np.float32], y: NDArray[np.float32]
) -> Steps | None:
    """The steps of a function, each edge found by bisection over the float32 numbers."""
    if not np.array_equal(run(x[::3]), y[::3]):
        return None  # its levels depend on other elements
    order = np.argsort(x, axis=None, kind="stable")
    inputs, outputs = x.reshape(-1)[order], y.reshape(-1)[order]
    levels = np.unique(outputs)
    if not 2 <= len(levels) <= MOST_LEVELS or not np.isfinite(levels).all() or (np.diff(outputs) < 0).any():
        return None
    first = np.searchsorted(outputs, levels[1:])
    below, above = _ordinal(inputs[first - 1]), _ordinal(inputs[first])
    while (above - below > 1).any():
        middle = (below + above) // 2
        risen = run(_float(middle).reshape(-1, 1, 1, 1)).reshape(-1) >= levels[1:]
        below, above = np.where(risen, below, middle), np.where(risen, middle, above)
    return Steps(tuple(map(float, levels)), tuple(map(float, _float(above))))


def _ordinal(x: NDArray[np.float32]) -> NDArray[np.int64]:
    """Integers in the order of the float32 numbers, neighbours differing by 1; both zeros are 0."""
    bits = np.ascontiguousarray(x, np.float32).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _float(ordinal: NDArray[np.int64]) -> NDArray[np.float32]:
    """The reverse of `_ordinal`."""
    size = np.abs(ordinal).astype(np.int32).view(np.float32)
    return np.where(ordinal < 0, -size, size)


def kernel_of(layer: Any, name: str = "kernel") -> Array:
    """The kernel that a layer computes with, quantized where it has a quantizer; raises ModelError for NaN and Inf."""
    kernel, quantizer = getattr(layer, name), quantizer_of(layer, name)
    if quantizer is not None:
        kernel = quantizer(getattr(kernel, "latent_variable", kernel))
    values = np.asarray(kernel, np.float64)
    if not np.isfinite(values).all():
        raise refusal(layer, "its kernel holds NaN or Inf; train it again or repair it")
    return values


def quantizer_of(layer: Any, name: str = "kernel") -> Any:
    """The quantizer of "kernel", "depthwise_kernel" or "pointwise_kernel"; None where the layer has none."""
    return getattr(layer, f"{name.removesuffix('_kernel')}_quantizer", None)


def binary_scale(kernel: Array, quantized: bool) -> Array | None:
    """The scale (out,) of a kernel (out, height, width, in) whose values are +-scale; None when they are others.

    A kernel without quantizer counts only when its values are exactly +-1: a kernel of one weight is always +-scale.
    """
    size = np.abs(kernel)
    scale: Array = size.reshape(len(kernel), -1)[:, 0]
    if not quantized:
        return scale if (size == 1).all() else None
    close = np.abs(size - scale[:, np.newaxis, np.newaxis, np.newaxis]) <= KERNEL_TOLERANCE * scale[:, None, None, None]
    return scale if bool((scale > SMALLEST_SCALE).all() and close.all()) else None

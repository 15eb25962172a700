"""What the tests of LCE flatbuffers share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from converters import lce, lce_interpreter
from zobnn_edge import reference
from zobnn_edge.encoding import Binary
from zobnn_edge.network import Builder, Network
from zobnn_edge.operations import Conv, Sign

interpreted = pytest.mark.skipif(not lce_interpreter.installed(), reason="larq_compute_engine is not installed")

CHANNELS = st.sampled_from([1, 31, 32, 33, 64])

BITS = st.integers(2, 16)


def assert_same(net: Network, x: np.ndarray, reference_kernel: bool = True) -> None:
    """Interpreter and reference give equal scores, but for subnormal numbers, which TFLite takes for zeros."""
    scores = lce_interpreter.run(lce.write(net), x, reference_kernel)
    np.testing.assert_allclose(scores, reference.run(net, x), rtol=0, atol=np.finfo(np.float32).tiny)


def assert_close(actual: np.ndarray, expected: np.ndarray) -> None:
    """Scores within 1e-5 of the largest one, and the same winner."""
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_array_equal(actual.argmax(axis=1), expected.argmax(axis=1))


def every_dot(channels: int) -> np.ndarray:
    """Inputs (channels + 1, 1, 1, channels) of -1 and +1 whose sums are all the dot products there are."""
    return np.where(np.arange(channels) < np.arange(channels + 1)[:, None], -1.0, 1.0)[:, None, None].astype(np.float32)


def pointwise(channels: int, out: int, sign: np.ndarray | None = None) -> tuple[Builder, str]:
    """A binary 1x1 convolution with kernels of +1 (or `sign`, (out,)), so that it gives sums of its inputs."""
    b = Builder("test", (1, 1, channels))
    weights = np.broadcast_to((np.ones(out) if sign is None else sign)[:, None, None, None], (out, 1, 1, channels))
    weight = b.parameter("conv/weight", "conv", "weight", weights, Binary(row=channels))
    return b, b.add(Conv("conv", b.add(Sign("sign", b.input, "bits")), "dot", weight))


def has_binary_groups(net: Network) -> bool:
    """True when a convolution of bits is in groups."""
    return any(isinstance(op, Conv) and op.groups > 1 and net.tensors[op.input].kind == "binary" for op in net.ops)

"""Flatbuffers that are damaged, or hold what is not supported, are refused in one line."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters import lce
from converters.flatbuffer import node, write
from converters.lce_graph import Graph
from converters.tflite import import_tflite
from tests.conformance.tflite_files import conv, depthwise, gate, made, normal, step, stored
from tests.networks import Author
from zobnn_edge.errors import InputError, ModelError


def with_type(type: str) -> Callable[[Graph, int], int]:
    return lambda g, x: g.op("RELU", [g.op("QUANTIZE", [x], (1, 5, 6, 4), type)], (1, 5, 6, 4))


def conv_of_activations(g: Graph, x: int) -> int:
    return g.op("CONV_2D", [x, x], (1, 5, 6, 4), options=node("Conv2DOptions", stride_w=1, stride_h=1))


REFUSED: dict[str, tuple[Callable[[Graph, int], int], str]] = {
    "operator": (lambda g, x: step(g, "TANH", step(g, "RELU", x)), r"operator 1 \(TANH\): not supported"),
    "custom operator": (lambda g, x: step(g, "MyOp", x), r"operator 0 \(MyOp\): not supported"),
    "int8": (with_type("int8"), r"operator 0 \(QUANTIZE\): an activation of type int8 with 0 scales"),
    "kernel that is computed": (conv_of_activations, r"operator 0 \(CONV_2D\): its input 1 must be a constant"),
    "activation": (
        lambda g, x: step(g, "ADD", x, x, table="AddOptions", fused_activation_function=4),
        r"operator 0 \(ADD\): fused activation 4",
    ),
    "constant of elements": (lambda g, x: step(g, "ADD", x, g.constant(normal(5, 6, 4))), "only one a channel"),
    "shape": (lambda g, x: g.op("RELU", [x], (1, 5, 5, 4)), r"operator 0 \(RELU\): makes .* the file says"),
    "batch": (lambda g, x: g.op("RELU", [x], (2, 5, 6, 4)), "only a batch of 1"),
    "axis": (
        lambda g, x: g.op("CONCATENATION", [x, x], (1, 10, 6, 4), options=node("ConcatenationOptions", axis=1)),
        "along axis 1",
    ),
    "mean of channels": (lambda g, x: g.op("MEAN", [x, g.constant(np.array([3], np.int32))], (1, 5, 6)), "a mean over"),
    "rounding": (lambda g, x: step(g, "ROUND", x), r"operator 0 \(ROUND\): not supported"),
    "nothing": (lambda g, x: g.tensor((1, 5, 6, 4)), "the output does not depend on the input"),
    "unknown source": (lambda g, x: step(g, "ADD", x, g.tensor((1, 5, 6, 4))), "neither a constant nor written"),
    "options": (lambda g, x: g.op("MAX_POOL_2D", [x], (1, 5, 6, 4)), "must be positive"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_supported_is_refused_by_name(name: str) -> None:
    build, reason = REFUSED[name]
    with pytest.raises(ModelError, match=reason) as caught:
        import_tflite(made(build))
    assert "\n" not in str(caught.value)


def test_a_missing_or_foreign_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        import_tflite(tmp_path / "gone.tflite")
    (tmp_path / "text.tflite").write_text("not a model, but long enough")
    with pytest.raises(ModelError, match=r"text\.tflite: not a TFLite flatbuffer"):
        import_tflite(tmp_path / "text.tflite")


def integers(g: Graph, x: int) -> int:
    """Operators on int8 activations, with int8 constants."""
    shape = (1, 5, 6, 4)

    def then(name: str, *inputs: int, made: tuple[int, ...] = shape, scale: float = 0.02) -> int:
        y = stored(g, made, scale, -3)
        g._append(name, inputs, y, {"CONCATENATION": node("ConcatenationOptions", axis=3)}.get(name))
        return y

    def constant(*values: int) -> int:
        codes, q = np.array(values, np.int8), node("QuantizationParameters", scale=(0.03,), zero_point=(5,))
        return g._tensor(codes.shape, "int8", g._buffer(codes.tobytes()), "codes", 0, q)

    y = then("PRELU", then("QUANTIZE", x), constant(-128, 0, 3, 127))
    y = then("ADD", then("MUL", then("MUL", y, constant(-128, 0, 3, 127)), y), constant(7))
    y = then("LEAKY_RELU", then("RELU", then("QUANTIZE", y, scale=0.05)))
    y = then("CONCATENATION", y, y, made=(1, 5, 6, 8))
    y = then("PAD", y, g.constant(np.array([(0, 0), (1, 0), (0, 1), (0, 0)], np.int32)), made=(1, 6, 7, 8))
    return g.op("DEQUANTIZE", [then("MEAN", y, g.constant(np.array([1, 2], np.int32)), made=(1, 8))], (1, 8))


def small_files() -> list[bytes]:
    """Files that use most tables and operators, of a few kilobytes each."""
    a = Author((4, 4, 2), 1)
    a.thermometer(16, 4.0).conv(4, 2).threshold(8).conv(4, 2, padding="same").affine(12).prelu(None)
    a.conv(8, 2, weight=8, groups=4).pad((1, 0), (0, 1)).clip(-1, 2).global_pool()
    return [
        lce.write(a.affine(8, scale=False).softmax().network()),
        made(lambda g, x: conv(g, step(g, "PRELU", x, g.constant(normal(4))), 1, groups=2)),
        made(lambda g, x: depthwise(g, gate(g, x), 1)),
        made(integers),
    ]


FILES = small_files()


@settings(max_examples=400, deadline=2000)
@given(st.data())
def test_a_damaged_file_is_imported_or_refused(data: st.DataObject) -> None:
    """Never another exception, a hang (the deadline) or an allocation beyond the file's size."""
    blob = bytearray(data.draw(st.sampled_from(FILES)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(8, len(blob) - 1))
        blob[at] = data.draw(st.integers(0, 255) | st.sampled_from([0, 1, 127, 128, 255]))
    size = data.draw(st.integers(0, len(blob)) | st.just(len(blob)))
    with suppress(ModelError, InputError):
        import_tflite(bytes(blob[:size])).validate()


@pytest.mark.parametrize("file", range(len(FILES)))
def test_every_truncation_is_refused(file: int) -> None:
    blob = FILES[file]
    for size in range(0, len(blob) - 16, 7):
        with pytest.raises(ModelError):
            import_tflite(blob[:size])


def test_tables_that_name_each_other_over_and_over_are_refused_at_once() -> None:
    """A vector of subgraphs, each with the same vector of tensors: 90,000 tables in a file of 3 KB."""
    tensor = node("Tensor", shape=(1, 4), type=0, buffer=0, name="")
    graph = node("SubGraph", tensors=(tensor,) * 300, inputs=(0,), outputs=(0,), operators=())
    blob = write(node("Model", version=3, subgraphs=(graph,) * 300, buffers=(node("Buffer"),)))
    start = time.monotonic()
    with pytest.raises(ModelError, match="more than 65536 tables"):
        import_tflite(blob)
    assert time.monotonic() - start < 10


def test_importing_needs_neither_tensorflow_nor_larq() -> None:
    code = (
        "import sys; from converters import tflite; "
        "sys.exit(any(m.split('.')[0] in ('tensorflow', 'larq', 'larq_compute_engine') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

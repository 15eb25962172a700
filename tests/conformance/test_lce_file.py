"""LCE flatbuffers: what lies in the file, and that a damaged one, or what it cannot hold, is refused."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters import flatbuffer, lce, lce_interpreter
from tests.conformance.lce_checks import assert_close, assert_same, every_dot, interpreted, pointwise
from tests.networks import NETWORKS, Author, dyadic_inputs
from zobnn_edge import reference
from zobnn_edge.encoding import Float32, Uniform
from zobnn_edge.errors import InputError, ModelError
from zobnn_edge.image import ParameterImage
from zobnn_edge.network import Builder, Network
from zobnn_edge.operations import Affine, Conv, Sign, Threshold, Unpack

pytestmark = interpreted


def test_a_batch_norm_that_something_else_needs_stays_in_the_file() -> None:
    b, dot = pointwise(8, 8)
    b.parameter("a/scale", "a", "scale", np.array([1, -2, 3, -4, 5, -6, 7, 0.5]), Float32())
    signs = b.add(Unpack("u", b.add(Sign("s", b.add(Affine("a", dot, "a", "a/scale")), "signs")), "real"))
    net = b.network(b.add(Affine("again", signs, "y", "a/scale")))
    blob, image, x = lce.write(net), ParameterImage.of(net), every_dot(8)
    flips = [image.address("a/scale", (i,), 31) for i in range(0, 8, 3)]
    np.testing.assert_array_equal(
        lce_interpreter.run(lce.flip(blob, image, flips), x), reference.run(net, x, image.flipped(flips))
    )


@pytest.mark.parametrize("hidden", ["threshold", "sign"])
@pytest.mark.parametrize("is_output", [False, True])
def test_dot_products_that_something_else_needs_are_not_fused_away(hidden: str, is_output: bool) -> None:
    a = Author((3, 3, 32), 4)
    dots = a.sign().conv(32, 3, padding="same", pad_value=1).x
    a = a.threshold(8) if hidden == "threshold" else a.sign()
    a.unpack()
    assert_same(a.b.network(dots) if is_output else a.add(dots).network(), dyadic_inputs(a.b.network(dots), 4))


def test_parameters_of_equal_bytes_stay_apart_and_are_aligned() -> None:
    b = Builder("test", (1, 1, 5))
    for name in ("a/bias", "b/bias"):
        b.parameter(name, name[0], "bias", np.arange(5), Uniform(8, 1.0, 128))
    net = b.network(b.add(Affine("b", b.add(Affine("a", b.input, "x", None, "a/bias")), "y", None, "b/bias")))
    offsets = [stored.offsets[0] for stored in lce.parameter_offsets(lce.write(net)).values()]
    assert len(set(offsets)) == 2
    assert all(offset % 16 == 0 for offset in offsets)


def test_a_parameter_of_two_operations_lies_in_the_file_once() -> None:
    b, dot = pointwise(32, 32)
    encoding = Uniform(8, 1.0, 128)
    b.parameter("t/threshold", "t", "threshold", np.arange(32), encoding)
    first = b.add(Threshold("t", dot, "first", "t/threshold"))
    second = b.add(Threshold("t2", b.add(Conv("again", first, "dot2", "conv/weight")), "second", "t/threshold"))
    net = b.network(b.add(Unpack("unpack", second, "y")))
    blob = lce.write(net)
    assert [len(stored.offsets) for stored in lce.parameter_offsets(blob).values()] == [1, 1]
    assert blob.count((np.arange(32) + 0).astype(np.int8).tobytes()) == 1
    assert_same(net, every_dot(32))


@pytest.mark.parametrize("bits", [5, 8, 12, 16])
def test_codes_are_integers_in_the_file_and_their_values_are_not_there(bits: int) -> None:
    a = Author((8, 8, 3), 1)
    net = a.conv(9, 3, weight=bits).affine(bits).prelu(bits).threshold(bits).dense(7).affine(bits).network()
    blob = lce.write(net)
    image = ParameterImage.of(net)
    width = 8 if bits <= 8 else 16
    for region in image.regions:
        if isinstance(region.encoding, Uniform):
            stored = lce.parameter_offsets(blob)[region.name]
            assert (stored.width, stored.bits, stored.count) == (width, bits, region.count)
            assert image.values(region.name)[..., :4].tobytes() not in blob
    floats = [stored for stored in lce.parameter_offsets(blob).values() if stored.width == 32]
    assert floats == []


def test_lce_s_own_schema_reads_the_codes_and_how_to_decode_them() -> None:
    schema = lce_interpreter.schema()
    net = Author((1, 1, 40), 2).affine(Uniform(8, 1 / 64, 100)).network()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(lce.write(net), 0))
    for tensor in model.subgraphs[0].tensors:
        if tensor.name.decode() in net.parameters:
            parameter = net.parameters[tensor.name.decode()]
            q = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.int8).astype(np.int64)
            assert tensor.type == schema.TensorType.INT8
            values = np.float32(tensor.quantization.scale[0]) * (q - tensor.quantization.zeroPoint[0])
            np.testing.assert_array_equal(values.astype(np.float32), parameter.values)
    assert model.description.decode() == net.name


def tutorial() -> Network:
    """Larq's MNIST tutorial, hardened to 8 bits, with the signs moved before the max-pools."""
    a = Author((28, 28, 1))
    a.conv(32, 3).threshold(8).max_pool().conv(64, 3).threshold(8).max_pool().conv(64, 3).threshold(8)
    return a.dense(64).threshold(8).dense(10).affine(8).softmax().network()


def test_file_of_larq_s_tutorial_network_is_below_20000_bytes_and_all_its_hidden_layers_give_bits() -> None:
    net = tutorial()
    blob = lce.write(net)
    assert len(blob) < 17_000
    x = dyadic_inputs(net, 3)
    assert_close(lce_interpreter.run(blob, x), reference.run(net, x))
    model = flatbuffer.read(blob)
    names = [code["custom_code"] for code in model["operator_codes"]]
    (graph,) = model["subgraphs"]
    convolutions = [op for op in graph["operators"] if names[op["opcode_index"]] == "LceBconv2d"]
    types = [graph["tensors"][op["outputs"][0]]["type"] for op in convolutions]
    assert types == [2, 2, 2, 0]


def test_constants_are_written_once_and_a_network_always_to_the_same_file() -> None:
    net = NETWORKS["residual-8"]()
    blob = lce.write(net)
    assert blob == lce.write(net)
    assert blob.count(np.ones(16, np.float32).tobytes()) == 1


def test_a_folded_batch_norm_is_refused_by_name() -> None:
    net = NETWORKS["binary_chain-float32"]()
    blob, image = lce.write(net), ParameterImage.of(net)
    with pytest.raises(InputError, match="affine5/scale is not in the flatbuffer"):
        lce.flip(blob, image, [image.address("affine5/scale", (0,), 3)])
    with pytest.raises(InputError, match="affine5/bias is not in the flatbuffer"):
        lce.read_codes(blob, "affine5/bias")


def test_an_image_of_another_network_is_refused() -> None:
    blob = lce.write(NETWORKS["thresholds-hardened-8"]())
    other = ParameterImage.of(NETWORKS["thresholds-float32"]())
    with pytest.raises(InputError, match="another network"):
        lce.flip(blob, other, [0])
    with pytest.raises(InputError, match="belongs to no parameter"):
        lce.flip(blob, other, [8 * len(other.data)])


@pytest.mark.parametrize("keep", [0, 4, 8, 40, 500, 2000])
def test_a_damaged_file_is_refused_in_one_line(keep: int) -> None:
    blob = lce.write(NETWORKS["thresholds-hardened-8"]())
    with pytest.raises(ModelError, match="flatbuffer") as caught:
        lce.parameter_offsets(blob[:keep])
    assert "\n" not in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_file_raises_only_errors_that_say_so(data: st.DataObject) -> None:
    blob = bytearray(lce.write(Author((1, 1, 4)).affine(8).network()))
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(8, len(blob) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ModelError, InputError):
        for name in lce.parameter_offsets(bytes(blob)):
            lce.read_codes(bytes(blob), name)


def test_a_flatbuffer_of_others_is_refused() -> None:
    model = flatbuffer.node("Model", version=3, buffers=(flatbuffer.node("Buffer"),), subgraphs=())
    with pytest.raises(ModelError, match="zobnn_code_bits"):
        lce.parameter_offsets(flatbuffer.write(model))


def test_what_the_file_cannot_hold_is_refused_by_name() -> None:
    b = Builder("test", (1, 1, 4))
    b.parameter("a/bias", "a", "bias", np.ones(4), Uniform(8, 1.0, 0, row=4))
    net = b.network(b.add(Affine("a", b.input, "y", None, "a/bias")))
    with pytest.raises(ModelError, match="a/bias: packed in rows"):
        lce.write(net)
    broken = replace(net, output="elsewhere")
    with pytest.raises(ModelError, match="output"):
        lce.write(broken)


def test_writing_needs_neither_tensorflow_nor_larq() -> None:
    code = (
        "import sys; from converters import lce; "
        "sys.exit(any(m.split('.')[0] in ('tensorflow', 'larq', 'larq_compute_engine') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("weight", ["binary", None])
def test_half_padding_of_an_even_kernel_is_refused(weight: str | None) -> None:
    a = Author((6, 6, 4), 0).sign() if weight else Author((6, 6, 4), 0)
    with pytest.raises(ModelError, match="half padding of an even kernel or of a pool has no counterpart in TFLite"):
        lce.write(a.conv(3, 4, 2, "half", weight=weight).network())

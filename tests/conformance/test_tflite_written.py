"""Flatbuffers that this project wrote come back as the networks they were written from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters import lce
from converters.tflite import import_tflite, joined
from tests.conformance.tflite_files import assert_same
from tests.networks import NETWORKS, WRITTEN, Author, dyadic_inputs
from zobnn_edge import model_file, reference
from zobnn_edge.cli.main import run
from zobnn_edge.encoding import Uniform
from zobnn_edge.format import MAX_DIM
from zobnn_edge.image import ParameterImage
from zobnn_edge.network import Builder, Network
from zobnn_edge.operations import Affine, Conv
from zobnn_edge.rewrite import simplify


@pytest.mark.parametrize("name", WRITTEN)
def test_a_written_network_comes_back_with_the_same_scores(name: str) -> None:
    net = NETWORKS[name]()
    back = import_tflite(lce.write(net))
    assert_same(net, back, dyadic_inputs(net, 8))
    assert back.name == net.name
    folded = name in ("binary_chain-float32", "thresholds-float32")  # only thresholds are left of their batch norms
    if not folded:
        assert {p.name: p.encoding for p in back.parameters.values()} == {
            p.name: p.encoding for p in net.parameters.values()
        }
        assert ParameterImage.of(back).data == ParameterImage.of(net).data
        assert [type(op) for op in back.ops] == [type(op) for op in simplify(joined(net)).ops]


STEPS = ("conv", "affine", "prelu", "clip", "max", "average", "add", "mul", "concat", "pad", "sign", "real", "gain")


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Any operations after one another, any encodings."""
    a = Author((6, 7, draw(st.sampled_from([1, 3, 33]))), draw(st.integers(0, 1000)))
    bits = draw(st.sampled_from([None, 3, 8, 12, 16]))
    if draw(st.booleans()):
        a.thermometer(draw(st.integers(1, 20)), draw(st.sampled_from([1.0, 4.0]))).unpack()
    for step in draw(st.lists(st.sampled_from(STEPS), max_size=6)):
        padding, pad_value = draw(st.sampled_from([("valid", 0), ("same", 0), ("same", 1)]))
        dilation = draw(st.sampled_from([(1, 1), (1, 2)]))
        before, fits = a.x, min(a.shape[:2]) >= 3
        if step == "conv" and fits:
            a.sign().conv(8, 2, 1, padding, pad_value, dilation=dilation)
            follow = draw(st.sampled_from(["nothing", "threshold", "affine and sign", "affine"]))
            if follow == "threshold":
                a.threshold(bits).unpack()
            elif follow != "nothing":
                a = a.affine(bits).sign().unpack() if follow == "affine and sign" else a.affine(bits)
        elif step == "real" and fits:
            weight = draw(st.sampled_from(["binary", bits]))
            groups = draw(st.sampled_from([1, a.shape[2]]))
            a.conv(2 * groups, 2, 1, padding, pad_value, weight, groups, dilation).affine(bits, scale=False)
        elif step in ("max", "average") and fits:
            a = a.max_pool(2, 1) if step == "max" else a.average_pool(2, 2, padding)
        elif step in ("add", "mul", "concat"):
            other = a.affine(bits).x
            a.x = before
            a = {"add": a.add, "mul": a.mul, "concat": a.concat}[step](other)
        elif step == "affine":
            a.affine(bits)
        elif step == "prelu":
            a.prelu(bits, by_element=draw(st.booleans()))
        elif step == "clip":
            a.clip(*draw(st.sampled_from([(0.0, np.inf), (-0.5, 0.75), (-1.0, np.inf)])))
        elif step == "pad":
            a.pad((0, 1), (1, 0), draw(st.sampled_from([0.0, 1.0, -0.5])))
        elif step == "sign":
            a.sign().max_pool(2, 1, "same").unpack()
        elif step == "gain":
            a.gain(0.375)
    if draw(st.booleans()) and np.prod(a.shape) <= MAX_DIM:
        a.reshape((1, 1, int(np.prod(a.shape)))).dense(5, weight=bits).affine(bits)
    return a.gain(0.5).network()


@settings(max_examples=60, deadline=None)
@given(networks())
def test_any_written_network_comes_back_with_the_same_scores(net: Network) -> None:
    blob, x = lce.write(net), dyadic_inputs(net, 2)
    back = import_tflite(blob)
    assert_same(net, back, x)
    assert_same(net, import_tflite(lce.write(back)), x)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 15),
    st.floats(2.0**-20, 2.0**20, width=32),
    st.integers(-(1 << 23), 1 << 23) | st.integers(-300, 70000),
)
def test_every_code_comes_back(bits: int, scale: float, zero_point: int) -> None:
    encoding = Uniform(bits, scale, zero_point)
    values = encoding.decode(np.arange(encoding.levels, dtype=np.uint32))
    b = Builder("test", (1, 1, values.size))
    b.parameter("affine/bias", "affine", "bias", values, encoding)
    net = b.network(b.add(Affine("affine", b.input, "y", None, "affine/bias")))
    parameter = import_tflite(lce.write(net)).parameters["affine/bias"]
    assert parameter.encoding == encoding
    np.testing.assert_array_equal(parameter.values, net.parameters["affine/bias"].values)


def test_a_kernel_of_two_convolutions_stays_one() -> None:
    a = Author((5, 5, 32), 7)
    stem = a.x
    high = a.sign().conv(8, 3, padding="same").x
    a.x = stem
    low = a.affine(None).sign().x
    a.x = a.b.add(Conv("low", low, "low", "conv2/weight", padding="same"))
    net = a.add(high).network()
    back = import_tflite(lce.write(net))
    assert list(back.parameters).count("conv2/weight") == 1
    assert len([op for op in back.ops if isinstance(op, Conv) and op.weight == "conv2/weight"]) == 2
    assert_same(net, back, dyadic_inputs(net, 3))


def test_import_and_predict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    net = NETWORKS["residual-8"]()
    (tmp_path / "net.tflite").write_bytes(lce.write(net))
    np.save(tmp_path / "x.npy", dyadic_inputs(net, 3))
    assert run(["import", "net.tflite", "-o", "net.zob"]) == 0
    assert model_file.load(tmp_path / "net.zob").network.input_shape == net.input_shape
    for source in ("net.zob", "net.tflite"):
        assert run(["predict", source, "--inputs", "x.npy", "-o", "y.npy"]) == 0
        np.testing.assert_array_equal(np.load("y.npy"), reference.run(net, np.load("x.npy")))
    (tmp_path / "cut.tflite").write_bytes(lce.write(net)[:900])
    assert run(["import", "cut.tflite", "-o", "cut.zob"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "cut.zob").exists()

"""Quantizers are what they do: binary kernels, binary activations, activations of four levels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("larq")
pytest.importorskip("tensorflow")

from converters.larq import import_keras
from tests.conformance.keras_models import BINARY, SIGNS, check, conv, kinds, layers, lq, randomise, sequential, tf
from zobnn_edge import reference
from zobnn_edge.encoding import Binary, Float32
from zobnn_edge.network import Network
from zobnn_edge.operations import Conv, GatedConv, Sign

pytestmark = pytest.mark.usefixtures("reproducible_models")


def weight(net: Network) -> Any:
    return next(p for p in net.parameters.values() if p.role == "weight")


def test_binary_is_decided_by_values_not_by_precision() -> None:
    """Weights of +-1 are binary whatever the layer says; a quantizer that claims one bit may give others."""
    plain = layers.Conv2D(4, 3, use_bias=False)
    model = sequential((5, 5, 2), plain)
    assert weight(import_keras(model)).type == "L"
    plain.kernel.assign(np.sign(plain.kernel))
    assert weight(check(model)).type == "binary"
    plain.kernel.assign(0.5 * plain.kernel)
    assert weight(check(model)).type == "L"
    liar = lq.layers.QuantConv2D(4, 3, kernel_quantizer=lq.quantizers.NoOp(precision=1), use_bias=False)
    model = sequential((5, 5, 2), liar)
    assert weight(check(model)).type == "L"
    liar.kernel.assign(np.sign(liar.kernel))
    assert weight(check(model)).type == "binary"


@pytest.mark.parametrize(("off", "binary"), [(0.004, True), (0.006, False)])
def test_kernels_near_a_scale_are_binary_as_in_lce(off: float, binary: bool) -> None:
    layer = lq.layers.QuantConv2D(3, 2, kernel_quantizer=lq.quantizers.NoOp(precision=1), use_bias=False)
    model = sequential((4, 4, 2), layer)
    values = np.array([1.0, 0.25, 2.0]) * np.sign(layer.kernel)
    values[1, 1, 0] *= 1 + off
    layer.kernel.assign(values)
    net = import_keras(model)
    assert (weight(net).type == "binary") == binary
    if binary:
        (scale,) = (p for p in net.parameters.values() if p.role == "scale")
        assert scale.values.tolist() == [1.0, 0.25, 2.0]


def test_bias_and_kernel_scale_are_folded_into_the_batch_norm() -> None:
    """In float64: the folded values are the correctly rounded ones."""
    conv1 = lq.layers.QuantConv2D(3, 2, kernel_quantizer="magnitude_aware_sign", name="conv")
    norm = layers.BatchNormalization(name="norm")
    net = import_keras(randomise(sequential((4, 4, 2), conv1, norm)))
    assert list(net.parameters) == ["conv/weight", "norm/scale", "norm/bias"]
    gamma, beta, mean, var = (np.asarray(v, np.float64) for v in norm.get_weights())
    scale = gamma / np.sqrt(var + norm.epsilon)
    size = np.asarray(np.abs(conv1.kernel_quantizer(conv1.kernel.latent_variable))[0, 0, 0], np.float64)
    assert np.array_equal(net.parameters["norm/scale"].values, (scale * size).astype(np.float32))
    bias = beta + (np.asarray(conv1.bias, np.float64) - mean) * scale
    assert np.allclose(net.parameters["norm/bias"].values, bias, rtol=1e-6, atol=0)


def test_convolution_with_a_second_reader_keeps_its_bias() -> None:
    start = layers.Input((5, 5, 2))
    x = layers.Conv2D(3, 2, name="conv")(start)
    model = tf.keras.Model(start, layers.Add()([x, layers.BatchNormalization(name="norm")(x)]))
    assert "conv/bias" in check(randomise(model)).parameters


def test_import_leaves_the_model_and_larq_as_they_were() -> None:
    model = randomise(sequential((5, 5, 2), conv(**SIGNS)))
    before = model.get_weights()
    import_keras(model)
    assert not lq.context.should_quantize()
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_real_weights_are_stored_as_trained() -> None:
    layer = layers.Conv2D(4, 3, name="c")
    net = import_keras(sequential((5, 5, 2), layer))
    parameter = net.parameters["c/weight"]
    assert parameter.encoding == Float32()
    assert np.array_equal(parameter.values, layer.kernel.numpy().transpose(3, 0, 1, 2))
    assert not any(isinstance(op, Sign) for op in net.ops)


# --- activations of two and four levels ---


def heaviside() -> Any:
    return lq.quantizers.SteHeaviside()


def dorefa() -> Any:
    return lq.quantizers.DoReFa(2)


def half_sign(x: Any) -> Any:
    """The levels -1/2 and 1/2, with the step at 1/4."""
    return tf.where(x < 0.25, -0.5, 0.5)


def two_bit(x: Any) -> Any:
    """FracBNN's levels."""
    return tf.round((tf.clip_by_value(x, -1.0, 1.0) + 1.0) * 1.5) / 1.5 - 1.0


def four_levels(x: Any) -> Any:
    """The levels -3, -1, 1, 3 with steps at other places than FracBNN's."""
    return sum(tf.where(x < edge, -1.0, 1.0) for edge in (-1.0, -0.125, 1.0))


QUANTIZERS: dict[str, tuple[Any, int]] = {
    "heaviside": (heaviside, 1),
    "dorefa": (dorefa, 3),
    "half-sign": (lambda: half_sign, 1),
    "two-bit": (lambda: two_bit, 2),
    "four-levels": (lambda: four_levels, 3),
}
"""Quantizers and how many binary tensors each is made of."""


def binary_convolutions(net: Network) -> int:
    return sum(isinstance(op, Conv) and net.tensors[op.input].kind == "binary" for op in net.ops)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("name", QUANTIZERS)
def test_binary_kernels_on_inputs_of_a_few_levels_count_bits(name: str, padding: str) -> None:
    """Zero padding is the real 0, whatever the levels; without one batch norm behind, and with one."""
    build, planes = QUANTIZERS[name]
    for after in ([], [layers.BatchNormalization()]):
        layer = conv(input_quantizer=build(), padding=padding, kernel_quantizer="magnitude_aware_sign", name="c")
        net = check(randomise(sequential((6, 6, 4), layers.Rescaling(2.0), layer, *after)))
        assert binary_convolutions(net) == planes
        assert kinds(net).count("Conv") == planes, "nothing is left of the real tensor"
        assert net.parameters["c/weight"].encoding == Binary(row=4)


@pytest.mark.parametrize("name", QUANTIZERS)
def test_real_kernels_on_inputs_of_a_few_levels_read_their_sum(name: str) -> None:
    layer = conv(input_quantizer=QUANTIZERS[name][0](), padding="same", kernel_quantizer="ste_tern")
    net = check(randomise(sequential((6, 6, 4), layers.Rescaling(2.0), layer)))
    assert binary_convolutions(net) == 0
    assert weight(net).type == "L"


@pytest.mark.parametrize("name", QUANTIZERS)
def test_padding_with_one_reads_one(name: str) -> None:
    layer = conv(input_quantizer=QUANTIZERS[name][0](), padding="same", pad_values=1.0, kernel_quantizer="ste_sign")
    net = check(randomise(sequential((6, 6, 4), layers.Rescaling(2.0), layer)))
    assert (binary_convolutions(net) > 0) == (name == "two-bit"), "only there all bits set stand for 1"
    assert weight(net).type == "binary"


def test_ties_between_levels_are_those_of_the_quantizer() -> None:
    """DoReFa rounds half to even: 1/2 becomes 2/3, and what is next to 1/6 and 5/6 goes where TensorFlow puts it."""
    model = sequential((1, 1, 1), lq.quantizers.DoReFa(2))
    net = import_keras(model)
    edges = np.array([1 / 6, 0.5, 5 / 6, 0.0, -0.0, 1.0, 2.0, -1e-30], np.float32)
    near = [np.nextafter(edges, np.float32(side)) for side in (-9, 9)]
    x = np.concatenate([edges, *near, *(np.nextafter(n, np.float32(9)) for n in near)]).reshape(-1, 1, 1, 1)
    expected = model(x).numpy().reshape(-1, 1)
    assert np.array_equal(reference.run(net, x), expected)
    assert expected[1] == np.float32(2 / 3)


def test_zero_of_heaviside_is_zero() -> None:
    model = sequential((1, 1, 1), lq.quantizers.SteHeaviside())
    x = np.array([0.0, -0.0, 1e-30, -1e-30], np.float32).reshape(-1, 1, 1, 1)
    assert reference.run(import_keras(model), x).reshape(-1).tolist() == [0, 0, 1, 0]


def test_levels_pass_from_a_layer_to_all_that_read_it() -> None:
    """As an activation or a layer of its own, DoReFa is rounded once and its bits are read by each binary kernel."""
    start = layers.Input((6, 6, 4))
    x = layers.Conv2D(4, 1, activation=lq.quantizers.DoReFa(2))(start)
    y = [lq.layers.QuantConv2D(4, 3, padding="same", **BINARY)(x) for _ in range(2)]
    net = check(randomise(tf.keras.Model(start, layers.Add()([*y, x]))))
    assert kinds(net).count("Threshold") == 3
    assert binary_convolutions(net) == 6


def test_dense_and_grouped_layers_take_levels_too() -> None:
    model = sequential(
        (4, 4, 2),
        layers.Conv2D(64, 1),
        lq.layers.QuantConv2D(16, 3, groups=2, input_quantizer=lq.quantizers.DoReFa(2), **BINARY),
        layers.Rescaling(1.0, 0.1),  # no ties
        layers.Flatten(),
        lq.layers.QuantDense(20, input_quantizer=lq.quantizers.SteHeaviside(), **BINARY),
    )
    assert binary_convolutions(check(randomise(model))) == 4


# --- kernels ---


@pytest.mark.parametrize("quantizer", ["ste_sign", "approx_sign", "swish_sign", "magnitude_aware_sign"])
def test_quantizers_with_two_values_give_binary_weights(quantizer: str) -> None:
    model = sequential((5, 5, 3), conv(input_quantizer="ste_sign", kernel_quantizer=quantizer))
    assert weight(check(randomise(model))).type == "binary"


def test_kernels_trained_with_bop_are_binary_once_they_are() -> None:
    """Bop flips weights of +-1 behind a quantizer that does nothing."""
    layer = conv(input_quantizer="ste_sign", kernel_quantizer=lq.quantizers.NoOp(precision=1), use_bias=False)
    model = sequential((5, 5, 3), layer, layers.Flatten(), layers.Dense(2))
    optimizer = lq.optimizers.CaseOptimizer(
        (lq.optimizers.Bop.is_binary_variable, lq.optimizers.Bop(threshold=1e-8, gamma=1e-4)),
        default_optimizer=tf.keras.optimizers.legacy.Adam(0.01),
    )
    model.compile(optimizer, "mse")
    x = np.random.default_rng(0).normal(size=(8, 5, 5, 3))
    model.fit(x, np.ones((8, 2)), epochs=1, verbose=0)
    assert weight(check(model)).type == "binary"


def test_scaled_kernels_in_the_manner_of_xnor_are_binary() -> None:
    """A quantizer of the user's: sign times the mean size of each filter."""

    def xnor(w: Any) -> Any:
        return tf.sign(w) * tf.reduce_mean(tf.abs(w), axis=(0, 1, 2), keepdims=True)

    net = check(randomise(sequential((5, 5, 3), conv(input_quantizer="ste_sign", kernel_quantizer=xnor))))
    assert weight(net).type == "binary"
    assert any(p.role == "scale" for p in net.parameters.values())


# --- layers of the zoo ---


def test_fracbnns_layers() -> None:
    """Thermometer, precision gates (some of them open), RPReLU, residuals and a second kind of activation."""
    zoo = pytest.importorskip("zobnn_edge.zoo.layers")

    def rprelu(x: Any) -> Any:
        return zoo.Bias()(layers.PReLU(shared_axes=[1, 2])(zoo.Bias()(x)))

    x = start = layers.Input((8, 8, 3))
    x = zoo.Thermometer(8, 4.0, name="planes")(x)
    x = layers.BatchNormalization()(lq.layers.QuantConv2D(16, 3, padding="same", **BINARY)(x))
    for i, stride in enumerate((1, 2)):
        y = layers.BatchNormalization()(zoo.PrecisionGatedConv2D(16, strides=stride, name=f"gated{i}")(x))
        x = x if stride == 1 else layers.AveragePooling2D(2)(x)
        x = layers.BatchNormalization()(layers.Add()([rprelu(y), x]))
    x = lq.layers.QuantConv2D(8, 3, **BINARY)(zoo.TwoBit()(x))
    model = randomise(tf.keras.Model(start, layers.Dense(5)(layers.GlobalAveragePooling2D()(x))))
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, zoo.Bias):
            layer.bias.assign(rng.normal(size=layer.bias.shape))
        elif isinstance(layer, zoo.PrecisionGatedConv2D):
            layer.threshold.assign(rng.normal(size=layer.threshold.shape) * 10)
    net = check(model, tolerance=1e-4)
    assert {p.type for p in net.parameters.values() if p.role == "weight" and "dense" not in p.name} == {"binary"}
    assert binary_convolutions(net) == 1 + 2, "the first layer, and the last one on two planes"
    assert [op.name for op in net.ops if isinstance(op, GatedConv)] == ["gated0", "gated1"]
    assert [p.name for p in net.parameters.values() if p.layer == "gated0"] == ["gated0/weight", "gated0/threshold"]


def test_gate_is_closed_at_its_threshold() -> None:
    """The low bits count where the high ones are above the threshold, not where they equal it."""
    zoo = pytest.importorskip("zobnn_edge.zoo.layers")
    layer = zoo.PrecisionGatedConv2D(1, kernel_size=1)
    model = sequential((1, 1, 4), layer)
    layer.kernel.assign(np.ones((1, 1, 4, 1)))
    x = np.full((1, 1, 1, 4), 0.1, np.float32)  # four levels of 1/3: m = 8/3, f = 4/3
    exact = np.float32(4) * np.float32(2 / 3)
    for threshold, expected in ((exact, 8 / 3), (np.nextafter(exact, np.float32(0)), 4 / 3)):
        layer.threshold.assign([threshold])
        assert reference.run(import_keras(model), x)[0, 0] == pytest.approx(expected, rel=1e-6)
        assert model(x).numpy().reshape(-1)[0] == pytest.approx(expected, rel=1e-6)


# --- size ---


@pytest.mark.study
def test_kernels_beyond_what_lce_can_convert_are_right() -> None:
    """9216 x 4096 weights: LCE's converter crashes above 33.5 million. One bit each in the image."""
    model = sequential((9216,), lq.layers.QuantDense(4096, **SIGNS))
    net = import_keras(model)
    (p,) = net.parameters.values()
    assert p.type == "binary"
    x = np.random.default_rng(0).normal(size=(2, 9216)).astype(np.float32)
    assert np.array_equal(reference.run(net, x), model(x).numpy())

"""Imported Keras and Larq models compute what Keras computes, and what cannot be imported is refused by name."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if importlib.util.find_spec("larq") is None:  # importing it here would choose the wrong Keras
    pytest.skip("larq is not installed", allow_module_level=True)

from converters.larq import import_keras, keras
from zobnn_edge import layout, reference
from zobnn_edge.encoding import Binary, Float32
from zobnn_edge.errors import InputError, ModelError
from zobnn_edge.network import Conv, MaxPool, Network, Pixels, Sign
from zobnn_edge.zoo.models import seed_everything

tf, lq = keras()
layers = tf.keras.layers
SIGNS = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "use_bias": False}
BINARY = {"kernel_quantizer": "ste_sign", "use_bias": False}
PIXELS = Pixels(1 / 128, -1.0)


@pytest.fixture(autouse=True)
def reproducible() -> None:
    """Layer names count from the start, and kernels begin with the same values, in every test."""
    tf.keras.backend.clear_session()
    seed_everything(0)


def sequential(shape: tuple[int, ...], *parts: Any) -> Any:
    return tf.keras.Sequential([layers.Input(shape), *parts])


def randomise(model: Any, seed: int = 0) -> Any:
    """Random weights, and batch norm statistics as training leaves them: scales of both signs, some of them zero."""
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, layers.BatchNormalization):
            n = layer.moving_mean.shape[0]
            if layer.scale:
                gamma = rng.normal(size=n)
                gamma[:: max(2, n // 3)] = 0
                layer.gamma.assign(gamma)
            if layer.center:
                layer.beta.assign(rng.normal(size=n))
            layer.moving_mean.assign(rng.normal(size=n) * 3)
            layer.moving_variance.assign(rng.uniform(0.5, 40, n))
        elif isinstance(layer, layers.PReLU):
            layer.alpha.assign(rng.normal(size=layer.alpha.shape) * 0.5)
        elif getattr(layer, "use_bias", False):
            layer.bias.assign(rng.normal(size=layer.bias.shape))
    return model


def pixels(net: Network, n: int = 24, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *net.input_shape)).astype(np.uint8)


def check(model: Any, tolerance: float = 2e-5, n: int = 24, **options: Any) -> Network:
    """Import a model and compare its scores for random 8-bit images with Keras's; returns the network."""
    net = import_keras(model, pixels=PIXELS, **options)
    x = pixels(net, n)
    expected = model.predict(PIXELS.apply(x).reshape(n, *model.input_shape[1:]), verbose=0).reshape(n, -1)
    scores = reference.run(net, x)
    spread = max(1.0, float(np.abs(expected).max()))
    assert np.abs(scores - expected).max() <= tolerance * spread
    chosen = expected[np.arange(n), scores.argmax(1)]
    assert (expected.max(axis=1) - chosen).max() <= tolerance * spread, "another class than Keras, and not by a tie"
    assert len(np.unique(expected, axis=0)) > n // 2, "the test sees no difference between images"
    return net


def kinds(net: Network) -> list[str]:
    return [type(op).__name__ for op in net.ops]


# --- whole networks ---


def test_network_of_larqs_tutorial() -> None:
    """Pools and flattens as people write it; every hidden activation ends up as one bit."""
    model = randomise(
        sequential(
            (12, 12, 1),
            lq.layers.QuantConv2D(33, 3, name="first", **BINARY),
            layers.MaxPooling2D(2),
            layers.BatchNormalization(scale=False),
            lq.layers.QuantConv2D(40, 3, **SIGNS),
            layers.BatchNormalization(scale=False),
            layers.Flatten(),
            lq.layers.QuantDense(64, name="dense", **SIGNS),
            layers.BatchNormalization(scale=False),
            lq.layers.QuantDense(10, **SIGNS),
            layers.BatchNormalization(scale=False),
            layers.Activation("softmax"),
        )
    )
    net = check(model)
    stored = {net.tensors[group[-1].output].kind for group in layout.fuse(net)[:-2]}
    assert stored == {"binary"}
    assert net.parameters["first/weight"].encoding == Binary()
    assert net.parameters["dense/weight"].encoding == Binary(row=40)
    assert net.parameters["dense/weight"].shape == (64, 3, 3, 40)


def test_residual_network_with_prelu_and_real_ends() -> None:
    """Functional, as Bi-Real Net: shortcut through average pool and 1x1 convolution, PReLU on both sides of it."""
    x = start = layers.Input((12, 10, 3))
    x = layers.Conv2D(16, 3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    for filters, stride in ((16, 1), (24, 2)):
        shortcut = x
        if stride == 2:
            shortcut = layers.AveragePooling2D(2, padding="same")(x)
            shortcut = layers.Conv2D(filters, 1, use_bias=True)(shortcut)
            shortcut = layers.BatchNormalization()(shortcut)
        x = lq.layers.QuantConv2D(filters, 3, strides=stride, padding="same", pad_values=1.0, **SIGNS)(x)
        x = layers.PReLU(shared_axes=[1, 2])(x)
        x = layers.BatchNormalization()(x)
        x = layers.Add()([x, shortcut])
    x = layers.PReLU()(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.5)(x)
    net = check(randomise(tf.keras.Model(start, layers.Dense(10, activation="softmax")(x))))
    assert not {"Affine", "PRelu", "Add", "Sign"} & {type(group[0]).__name__ for group in layout.fuse(net)[2:-1]} - {
        "Sign"
    }


def test_layer_names_become_parameter_names() -> None:
    net = import_keras(
        randomise(
            sequential(
                (6, 6, 2),
                layers.Conv2D(4, 3, name="c", activation="relu"),
                layers.PReLU(name="p"),
                layers.BatchNormalization(name="b"),
                layers.Flatten(),
                layers.Dense(3, name="d"),
            )
        ),
        name="mine",
    )
    assert net.name == "mine"
    assert [(p.name, p.layer, p.role, p.type) for p in net.parameters.values()] == [
        ("c/weight", "c", "weight", "L"),
        ("c/bias", "c", "bias", "S"),
        ("p/slope", "p", "slope", "S"),
        ("b/scale", "b", "scale", "S"),
        ("b/bias", "b", "bias", "S"),
        ("d/weight", "d", "weight", "L"),
        ("d/bias", "d", "bias", "S"),
    ]
    assert {op.name for op in net.ops} >= {"c", "c/bias", "c/activation", "p", "b", "d", "d/bias"}


# --- one layer at a time ---


def conv(**options: Any) -> Any:
    return lq.layers.QuantConv2D(6, 3, **options)


LAYERS: dict[str, Callable[[], list[Any]]] = {
    "conv-valid": lambda: [layers.Conv2D(5, (3, 2), strides=(2, 1))],
    "conv-same-stride": lambda: [layers.Conv2D(5, (2, 5), strides=(3, 2), padding="same", activation="relu")],
    "conv-then-norm": lambda: [layers.Conv2D(5, 3), layers.BatchNormalization()],
    "conv-relu-norm": lambda: [layers.Conv2D(5, 3, activation="relu"), layers.BatchNormalization()],
    "binary-kernel": lambda: [conv(**BINARY)],
    "binary-kernel-bias-norm": lambda: [conv(kernel_quantizer="ste_sign"), layers.BatchNormalization()],
    "sign-sign-zero-padding": lambda: [layers.BatchNormalization(), conv(padding="same", **SIGNS)],
    "sign-sign-one-padding": lambda: [layers.BatchNormalization(), conv(padding="same", pad_values=1.0, **SIGNS)],
    "sign-sign-stride": lambda: [
        layers.BatchNormalization(),
        lq.layers.QuantConv2D(6, (3, 4), strides=(2, 3), padding="same", pad_values=1.0, **SIGNS),
    ],
    "sign-input-real-kernel": lambda: [
        layers.BatchNormalization(),
        conv(input_quantizer="ste_sign", padding="same", pad_values=1.0),
    ],
    "scaled-kernel": lambda: [
        conv(input_quantizer="approx_sign", kernel_quantizer="magnitude_aware_sign"),
        layers.BatchNormalization(),
    ],
    "scaled-kernel-bias": lambda: [conv(input_quantizer="ste_sign", kernel_quantizer="magnitude_aware_sign")],
    "scaled-kernel-real-input": lambda: [conv(kernel_quantizer="magnitude_aware_sign", activation="relu")],
    "ternary-kernel": lambda: [conv(input_quantizer="swish_sign", kernel_quantizer="ste_tern")],
    "dorefa-kernel": lambda: [conv(kernel_quantizer=lq.quantizers.DoReFa(2, mode="weights"))],
    "real-one-padding": lambda: [conv(padding="same", pad_values=1.0)],
    "no-op-quantizers": lambda: [conv(input_quantizer=lq.quantizers.NoOp(32), kernel_quantizer=lq.quantizers.NoOp(32))],
    "dense-on-a-map": lambda: [layers.Dense(4, activation="relu"), layers.Flatten(), layers.Dense(3)],
    "dense-scaled": lambda: [
        layers.Flatten(),
        lq.layers.QuantDense(7, input_quantizer="ste_sign", kernel_quantizer="magnitude_aware_sign"),
    ],
    "max-pool-same": lambda: [layers.MaxPooling2D(3, 2, padding="same")],
    "average-pool-same": lambda: [layers.AveragePooling2D((3, 2), (2, 1), padding="same")],
    "global-max-pool": lambda: [layers.GlobalMaxPooling2D(), layers.Dense(5)],
    "global-average-pool-keepdims": lambda: [layers.GlobalAveragePooling2D(keepdims=True), layers.Flatten()],
    "reshape": lambda: [layers.Reshape((4, 21, 3)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3)],
    "reshape-of-bits": lambda: [
        lq.quantizers.SteSign(),
        layers.Reshape((-1,)),
        lq.layers.QuantDense(30, **BINARY),
        layers.BatchNormalization(),
    ],
    "norm-of-a-vector": lambda: [layers.Flatten(), layers.BatchNormalization(), layers.Dense(3)],
    "norm-without-center": lambda: [layers.BatchNormalization(center=False, scale=False, epsilon=0.5)],
    "relu6": lambda: [layers.BatchNormalization(), layers.Activation(tf.nn.relu6)],
    "relu-layer": lambda: [layers.BatchNormalization(), layers.ReLU(max_value=0.75)],
    "hard-tanh": lambda: [layers.BatchNormalization(), layers.Activation("hard_tanh")],
    "linear": lambda: [layers.Activation("linear"), layers.Activation("relu")],
    "softmax-layer": lambda: [layers.Softmax()],
    "softmax-activation": lambda: [layers.Flatten(), layers.Dense(4, activation="softmax")],
    "prelu-each": lambda: [layers.PReLU()],
    "prelu-shared": lambda: [layers.PReLU(shared_axes=[1, 2])],
    "quantizer-layer": lambda: [lq.quantizers.SteSign(), lq.layers.QuantConv2D(20, 3, **BINARY)],
    "quantizer-as-activation": lambda: [
        layers.Conv2D(9, 3, activation=lq.quantizers.SwishSign()),
        layers.MaxPooling2D(2),
        lq.layers.QuantConv2D(20, 2, **BINARY),
    ],
    "activation-of-a-quantizer": lambda: [layers.Activation(lq.quantizers.ApproxSign()), layers.Conv2D(4, 3)],
    "average-of-bits": lambda: [lq.quantizers.SteSign(), layers.AveragePooling2D(2)],
    "ends-in-a-sign": lambda: [layers.BatchNormalization(), lq.quantizers.SteSign()],
    "without-effect": lambda: [
        layers.GaussianNoise(0.5),
        layers.SpatialDropout2D(0.5),
        layers.ActivityRegularization(0.1),
        layers.Activation("relu"),
    ],
    "pool-norm-sign": lambda: [layers.Conv2D(9, 2), layers.MaxPooling2D(2), layers.BatchNormalization(), conv(**SIGNS)],
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_compute_what_keras_computes(name: str) -> None:
    check(randomise(sequential((9, 7, 4), *LAYERS[name]())))


def test_larq_pads_after_the_sign() -> None:
    """Padding with 1 reads a +1 and padding with 0 contributes nothing, whatever sign the padding would have got."""
    x = -np.ones((1, 3, 3, 1), np.float32)
    for value, corner in ((1.0, 5 - 4), (0.0, -4)):
        layer = lq.layers.QuantConv2D(1, 3, padding="same", pad_values=value, name="c", **SIGNS)
        model = sequential((3, 3, 1), layer)
        layer.kernel.assign(np.ones((3, 3, 1, 1)))
        scores = reference.run(import_keras(model), x).reshape(3, 3)
        assert scores[0, 0] == corner
        assert np.array_equal(scores.reshape(-1), model.predict(x, verbose=0).reshape(-1))


def test_zero_is_positive() -> None:
    """Deliberate ties: batch norms that give exactly 0, and -0."""
    model = sequential(
        (1, 1, 4), layers.BatchNormalization(epsilon=0.0), conv_1x1 := lq.layers.QuantConv2D(2, 1, **SIGNS)
    )
    conv_1x1.kernel.assign(np.ones((1, 1, 4, 2)))
    x = np.array([0.0, -0.0, 1.0, -1.0], np.float32).reshape(1, 1, 1, 4)
    assert (
        reference.run(import_keras(model), x).tolist()
        == [[2.0, 2.0]]
        == model.predict(x, verbose=0).reshape(1, 2).tolist()
    )


# --- what counts as binary ---


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


# --- graphs ---


def test_layer_called_twice_keeps_one_set_of_parameters() -> None:
    start = layers.Input((6, 6, 4))
    shared, norm = lq.layers.QuantConv2D(4, 3, padding="same", name="shared", **SIGNS), layers.BatchNormalization()
    x = norm(shared(start))
    net = check(randomise(tf.keras.Model(start, shared(norm(shared(x))))))
    assert [p.name for p in net.parameters.values() if p.role == "weight"] == ["shared/weight"]
    assert [op.name for op in net.ops if isinstance(op, Conv)] == ["shared", "shared:2", "shared:3"]


def test_nested_models_are_flattened() -> None:
    inner = tf.keras.Sequential(
        [layers.Input((6, 6, 4)), layers.Conv2D(4, 3, padding="same", name="c"), layers.BatchNormalization()], name="in"
    )
    start = layers.Input((6, 6, 4))
    model = tf.keras.Model(start, layers.Conv2D(3, 3, name="c")(inner(layers.ReLU()(inner(start)))))
    assert {"in/c/weight", "c/weight"} <= set(check(randomise(model)).parameters)


def test_one_sign_feeds_every_layer_that_takes_it() -> None:
    start = layers.Input((6, 6, 4))
    x = layers.BatchNormalization()(start)
    model = tf.keras.Model(start, layers.Add()([conv(**SIGNS)(x), conv(**SIGNS)(x), conv(**BINARY)(x)]))
    net = check(randomise(model))
    assert kinds(net).count("Sign") == 1
    real = [op for op in net.ops if isinstance(op, Conv) and net.tensors[op.input].kind == "real"]
    assert len(real) == 1, "a layer without input quantizer reads real values"


def test_pool_stays_real_where_a_scale_is_negative() -> None:
    net = check(
        randomise(sequential((9, 9, 2), conv(), layers.MaxPooling2D(2), layers.BatchNormalization(), conv(**SIGNS)))
    )
    (pool,) = (op for op in net.ops if isinstance(op, MaxPool))
    assert net.tensors[pool.input].kind == "real"


# --- files ---


@pytest.fixture
def small() -> Any:
    dense = lq.layers.QuantDense(5, name="d", **SIGNS)
    return randomise(
        sequential((6, 6, 2), conv(name="c", **SIGNS), layers.BatchNormalization(), layers.Flatten(), dense)
    )


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
@pytest.mark.parametrize("name", ["m.keras", "m.h5", "saved_model"])
def test_files_and_folders_give_the_same_network(name: str, small: Any, tmp_path: Path) -> None:
    small.save(tmp_path / name)
    expected = import_keras(small)
    net = import_keras(tmp_path / name)
    assert net.ops == expected.ops
    for key, parameter in expected.parameters.items():
        assert np.array_equal(net.parameters[key].values, parameter.values)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
@pytest.mark.parametrize("name", ["m.keras", "m.h5", "saved_model"])
def test_code_in_a_file_is_never_run(name: str, tmp_path: Path) -> None:
    """The lambda leaves a trace when it is called, which building the loaded model would do."""
    trace = str(tmp_path / "trace")
    code = eval(f"lambda x: (open({trace!r}, 'a').close(), x)[1]")
    model = sequential((4,), layers.Lambda(code, name="evil"), layers.Dense(2))
    model.save(tmp_path / name)
    Path(trace).unlink()
    with pytest.raises(ModelError, match=r"layer 'evil' \(Lambda\)"):
        import_keras(tmp_path / name)
    assert not Path(trace).exists()


def test_lambda_in_a_model_object_is_refused() -> None:
    with pytest.raises(ModelError, match=r"layer 'f' \(Lambda\): not supported"):
        import_keras(sequential((4,), layers.Lambda(lambda x: x, name="f"), layers.Dense(2)))


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_broken_files_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"not a model")
    with pytest.raises(ModelError, match=f"{name}: Keras cannot load it") as caught:
        import_keras(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        import_keras(tmp_path / "none.h5")
    (tmp_path / "x.onnx").write_bytes(b"")
    for path in (tmp_path / "x.onnx", tmp_path):
        with pytest.raises(ModelError, match=r"must be a \.keras or \.h5 file or a SavedModel folder"):
            import_keras(path)


# --- refusals ---

REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "unsupported-layer": (lambda: layers.LocallyConnected2D(3, 2, name="x"), "not supported; supported are .*Dense"),
    "depthwise": (lambda: lq.layers.QuantDepthwiseConv2D(3, name="x"), r"\(QuantDepthwiseConv2D\): not supported"),
    "groups": (lambda: layers.Conv2D(4, 3, groups=2, name="x"), "groups 2"),
    "dilation": (lambda: layers.Conv2D(4, 3, dilation_rate=2, name="x"), "dilation"),
    "channels-first": (lambda: layers.Flatten(data_format="channels_first", name="x"), "channels_first"),
    "pad-value": (lambda: conv(padding="same", pad_values=-1.0, name="x"), "pad_values -1; use 1"),
    "ternary-input": (lambda: conv(input_quantizer="ste_tern", name="x"), "input quantizer SteTern is no plain sign"),
    "heaviside-input": (lambda: conv(input_quantizer="ste_heaviside", name="x"), "input quantizer SteHeaviside"),
    "dorefa-input": (lambda: conv(input_quantizer="dorefa_quantizer", name="x"), "input quantizer DoReFa"),
    "scaled-input": (lambda: conv(input_quantizer="magnitude_aware_sign", name="x"), "quantizer MagnitudeAwareSign"),
    "own-quantizer": (lambda: conv(input_quantizer=lambda v: 2 * tf.sign(v), name="x"), "no plain sign"),
    "activation": (lambda: layers.Conv2D(3, 3, activation="tanh", name="x"), "tanh is not supported; use a sign, relu"),
    "activation-layer": (lambda: layers.Activation("gelu", name="x"), "gelu is not supported"),
    "ternary-layer": (lambda: lq.quantizers.SteTern(name="x"), "SteTern is not supported"),
    "relu-threshold": (lambda: layers.ReLU(threshold=1.0, name="x"), "use PReLU"),
    "relu-slope": (lambda: layers.ReLU(negative_slope=0.1, name="x"), "use PReLU"),
    "softmax-axis": (lambda: layers.Softmax(axis=1, name="x"), r"normalises axis \[1\]"),
    "norm-axis": (lambda: layers.BatchNormalization(axis=1, name="x"), r"normalises axis \[1\]"),
    "prelu-axes": (lambda: layers.PReLU(shared_axes=[1], name="x"), "use shared_axes"),
    "half": (lambda: layers.Conv2D(3, 3, dtype="float16", name="x"), "computes in float16"),
    "rank": (lambda: layers.Reshape((2, 2, 9, 4), name="x"), "up to three fixed sizes"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_supported_is_refused_by_name_in_one_line(name: str) -> None:
    build, message = REFUSED[name]
    with pytest.raises(ModelError, match=rf"layer 'x' .*{message}") as caught:
        import_keras(sequential((6, 6, 4), build()))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["kernel", "bias", "gamma", "moving_variance", "alpha"])
def test_numbers_that_are_not_finite_are_refused(kind: str, bad: float) -> None:
    layer = {"kernel": layers.Dense, "bias": layers.Dense, "alpha": layers.PReLU}.get(kind, layers.BatchNormalization)
    layer = layer(3, name="x") if layer is layers.Dense else layer(name="x")
    model = sequential((3,), layer, layers.Dense(2))
    if (kind, bad) == ("moving_variance", np.inf):
        bad = -1.0  # an infinite variance only makes a channel constant
    values = getattr(layer, kind).numpy()
    values.flat[1] = bad
    getattr(layer, kind).assign(values)
    with pytest.raises(ModelError, match=r"layer 'x' .* holds NaN or Inf"):
        import_keras(model)


def test_models_of_other_forms_are_refused() -> None:
    a, b = layers.Input((4,)), layers.Input((4,))
    c = layers.Dense(2)(a)
    with pytest.raises(ModelError, match="2 inputs, 1 outputs"):
        import_keras(tf.keras.Model([a, b], layers.Add()([a, b])))
    with pytest.raises(ModelError, match="1 inputs, 2 outputs"):
        import_keras(tf.keras.Model(a, [c, layers.Dense(2)(c)]))
    with pytest.raises(ModelError, match=r"input shape \(None, None, None, 3\); give it fixed sizes"):
        import_keras(sequential((None, None, 3), layers.Conv2D(2, 3)))
    with pytest.raises(ModelError, match="no graph of layers"):
        import_keras(tf.keras.Sequential([layers.Dense(2)]))
    with pytest.raises(ModelError, match="a dict is not a Keras 2 model"):
        import_keras({})


def test_additions_that_broadcast_are_refused() -> None:
    start = layers.Input((4, 4, 3))
    pooled = layers.GlobalAveragePooling2D(keepdims=True)(start)
    with pytest.raises(ModelError, match=r"layer 'x' \(Add\): adds tensors of different shapes"):
        import_keras(tf.keras.Model(start, layers.Add(name="x")([start, pooled])))


def test_layer_called_for_training_is_refused() -> None:
    start = layers.Input((4,))
    with pytest.raises(ModelError, match=r"layer 'x' .* called with training=True"):
        import_keras(tf.keras.Model(start, layers.Dropout(0.5, name="x")(start, training=True)))


def test_layer_called_twice_on_different_kinds_is_refused() -> None:
    start = layers.Input((4, 4, 3))
    shared = lq.layers.QuantConv2D(3, 1, name="x", **BINARY)
    both = layers.Add()([shared(start), shared(lq.quantizers.SteSign()(start))])
    with pytest.raises(ModelError, match=r"layer 'x' .* called twice and differs"):
        import_keras(tf.keras.Model(start, both))


def test_real_weights_are_stored_as_trained() -> None:
    layer = layers.Conv2D(4, 3, name="c")
    net = import_keras(sequential((5, 5, 2), layer))
    parameter = net.parameters["c/weight"]
    assert parameter.encoding == Float32()
    assert np.array_equal(parameter.values, layer.kernel.numpy().transpose(3, 0, 1, 2))
    assert not any(isinstance(op, Sign) for op in net.ops)

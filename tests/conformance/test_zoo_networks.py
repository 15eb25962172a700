"""The architectures of the zoo and its layers: built, saved, imported, and the same in every place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("larq")
pytest.importorskip("tensorflow")

from converters.larq import import_keras, keras
from zobnn_edge import reference
from zobnn_edge.engine import Engine
from zobnn_edge.harden import harden
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network, Pixels
from zobnn_edge.policy import Policy
from zobnn_edge.zoo import dorefa, fracbnn, layers, micro, mlperf, models

tf, lq = keras()

PIXELS = Pixels(1 / 64, -2.0)
IMAGES = 3

# name: (builder, one-bit weights, real weights of convolutions and dense layers, hardened bytes, arena bytes)
SIZES: dict[str, tuple[Callable[[], Any], int, int, int, int]] = {
    "mnist_tutorial": (models.mnist_tutorial, 93_088, 0, 12_000, 7_000),
    "mnist_bnn": (models.mnist_bnn, 110_592, 1_248, 16_000, 7_000),
    "cifar10_bnn": (models.cifar10_bnn, 663_552, 5_520, 95_000, 87_000),
    "small_cifar": (micro.small_cifar, 87_040, 2_400, 14_000, 18_000),
    "binarynet_micro": (micro.binarynet_micro, 549_984, 0, 70_000, 17_000),
    "birealnet_micro": (micro.birealnet_micro, 294_912, 12_384, 51_000, 46_000),
    "quicknet_micro": (micro.quicknet_micro, 387_072, 12_608, 63_000, 50_000),
    "dorefanet_cifar10": (dorefa.dorefanet_cifar10, 269_824, 1_072, 42_000, 144_000),
    "fracbnn_cifar10": (fracbnn.fracbnn_cifar10, 281_088, 640, 42_500, 124_000),
    "resnet8": (mlperf.resnet8, 0, 77_360, 78_000, 133_000),
    "dscnn": (mlperf.dscnn, 0, 22_016, 24_000, 65_000),
}


def randomised(model: Any, seed: int = 0) -> Any:
    """The model with weights as training leaves them: batch norm statistics, slopes, shifts and thresholds."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        for variable in layer.weights:
            part, shape = variable.name.rsplit("/", 1)[-1].split(":")[0], variable.shape
            if part == "moving_variance":
                variable.assign(rng.uniform(0.05, 4, shape))
            elif part in ("gamma", "beta", "bias", "moving_mean", "alpha", "threshold"):
                variable.assign(rng.normal(size=shape) * 0.5 + (part == "gamma"))
    return model


def images(net: Network) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (IMAGES, *net.input_shape)).astype(np.uint8)


def run(net: Network, x: np.ndarray) -> np.ndarray:
    """Scores of the engine, which are the reference's bit for bit."""
    deployed = Model.of(net)
    scores = Engine(deployed.plan).run(deployed.image.data, x)
    assert scores.tobytes() == reference.run(net, x).tobytes()
    return scores


@pytest.mark.parametrize("name", SIZES)
def test_networks_have_the_sizes_they_state(name: str) -> None:
    build, one_bit, real, hardened, arena = SIZES[name]
    net = import_keras(build())
    weights = [p for p in net.parameters.values() if p.role == "weight"]
    assert sum(p.values.size for p in weights if p.type == "binary") == one_bit
    assert sum(p.values.size for p in weights if p.type == "L") == real
    deployed = Model.of(harden(net, Policy(8)), arena_limit=0)  # the least that it runs in
    assert hardened - 1_500 < len(deployed.image.data) <= hardened
    assert arena - 1_500 < deployed.arena_bytes <= arena


@pytest.mark.parametrize("name", sorted(set(SIZES) - {"fracbnn_cifar10", "dorefanet_cifar10"}))
def test_imported_networks_mean_the_same_in_keras_reference_and_engine(name: str) -> None:
    model = randomised(SIZES[name][0]())
    net = import_keras(model, pixels=PIXELS)
    x = images(net)
    scores, expected = run(net, x), model(PIXELS.apply(x), training=False).numpy()
    assert len(np.unique(expected, axis=0)) == IMAGES
    assert np.abs(scores - expected).max() <= 2e-5


@pytest.mark.study
@pytest.mark.parametrize(
    "build",
    [
        fracbnn.fracbnn_cifar10,
        dorefa.dorefanet_cifar10,
        lambda: fracbnn.fracbnn_imagenet(64, 10),
        lambda: dorefa.dorefanet_imagenet(96, 10),
    ],
    ids=["fracbnn_cifar10", "dorefanet_cifar10", "fracbnn_imagenet", "dorefanet_imagenet"],
)
def test_imported_networks_with_two_bit_activations_are_the_same_in_reference_and_engine(
    build: Callable[[], Any],
) -> None:
    net = import_keras(randomised(build()), pixels=Pixels())
    scores = run(net, images(net))
    assert len(np.unique(scores, axis=0)) == IMAGES


@pytest.mark.study
def test_networks_for_imagenet_have_the_published_shapes() -> None:
    model = fracbnn.fracbnn_imagenet()
    gated = [layer for layer in model.layers if isinstance(layer, layers.PrecisionGatedConv2D)]
    assert len(gated) == 26
    assert model.get_layer("pool").input_shape == (None, 7, 7, 1024)
    assert dorefa.dorefanet_imagenet().count_params() == 62_403_912 - 2 * (256 + 384 + 384 + 256 + 4096 + 4096) + sum(
        4 * n for n in (256, 384, 384, 256, 4096, 4096)
    ) - sum(n for n in (256, 384, 384, 256, 4096, 4096))


# --- layers ---


def through(layer: Any, x: np.ndarray, folder: Path) -> np.ndarray:
    """What a layer makes of `x`, in a model that was saved and loaded again."""
    model = tf.keras.Sequential([tf.keras.layers.Input(x.shape[1:]), layer])
    models.save(model, folder / "m.keras")
    loaded = tf.keras.models.load_model(folder / "m.keras")
    made = model(x).numpy()
    assert np.array_equal(loaded(x).numpy(), made)
    return np.asarray(made)


def test_thermometer_codes_a_pixel_by_the_planes_below_its_level(tmp_path: Path) -> None:
    """round(4 / 8) is 0, round(12 / 8) is 2: ties go to even. Planes of the first channel come first."""
    x = np.array([0, 4, 5, 12, 251, 252, 255], np.float32).reshape(1, 1, 7, 1)
    x = np.concatenate([x, 255 - x], axis=-1)
    planes = through(layers.Thermometer(32, 1 / 8), x, tmp_path).reshape(7, 2, 32)
    assert set(np.unique(planes)) == {-1, 1}
    levels = (planes > 0).sum(axis=-1)
    assert levels.T.tolist() == [[0, 0, 1, 2, 31, 32, 32], [32, 31, 31, 30, 0, 0, 0]]
    assert (np.diff(planes, axis=-1) <= 0).all(), "the planes below the level, none above it"


def test_two_bit_activation_has_four_levels_and_a_straight_gradient(tmp_path: Path) -> None:
    x = np.array([-9, -0.7, -0.6, -0.1, 0.1, 0.6, 0.7, 9], np.float32).reshape(1, 8)
    third = np.float32(1 / 3)
    expected = np.array([-1, -1, -third, -third, third, third, 1, 1], np.float32)
    assert np.allclose(through(layers.TwoBit(), x, tmp_path), expected, atol=1e-7)
    v = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(v)
        y = layers.two_bit(v)
    assert tape.gradient(y, v).numpy().tolist() == [[0, 1, 1, 1, 1, 1, 1, 0]]


@pytest.mark.parametrize(("strides", "padding"), [(1, "same"), (2, "same"), (1, "valid"), (2, "half")])
def test_precision_gate_adds_the_low_bit_only_above_its_threshold(strides: int, padding: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    layer = layers.PrecisionGatedConv2D(4, 3, strides, padding)
    x = rng.normal(size=(2, 6, 6, 5)).astype(np.float32)
    layer.build(x.shape)
    layer.threshold.assign([-100, 100, 0, 2])
    levels = np.round((np.clip(x, -1, 1) + 1) * 1.5) / 1.5 - 1
    sign = np.where(layer.kernel.numpy() < 0, -1, 1).astype(np.float32)

    def conv(inputs: np.ndarray) -> np.ndarray:
        border = [[0, 0], [1, 1], [1, 1], [0, 0]] if padding == "half" else padding.upper()
        return np.asarray(tf.nn.conv2d(inputs.astype(np.float32), sign, strides, border))

    high, both = conv(np.where(levels < 0, -1, 1)) * (2 / 3), conv(levels)
    made = through(layer, x, tmp_path)
    gated = [np.where(high > t, both, high)[..., c] for c, t in ((2, 0), (3, 2))]
    expected = np.stack([both[..., 0], high[..., 1], *gated], axis=-1)
    assert np.allclose(made, expected, atol=1e-5)
    assert not np.allclose(high, both, atol=0.1)


def test_bias_shifts_each_channel(tmp_path: Path) -> None:
    layer = layers.Bias()
    layer.build((None, 2, 2, 3))
    layer.bias.assign([1, 2, 3])
    assert through(layer, np.zeros((1, 2, 2, 3), np.float32), tmp_path)[0, 1, 1].tolist() == [1, 2, 3]


def test_dorefa_kernels_are_signs_times_the_mean_magnitude_of_the_layer(tmp_path: Path) -> None:
    layer = lq.layers.QuantDense(3, kernel_quantizer=layers.ScaledSign(), use_bias=False)
    layer.build((None, 2))
    layer.kernel.assign([[1.0, -2.0, 3.0], [-4.0, 5.0, -6.0]])
    made = through(layer, np.eye(2, dtype=np.float32), tmp_path)
    assert made.tolist() == [[3.5, -3.5, 3.5], [-3.5, 3.5, -3.5]]

"""Networks that others trained: the same accuracies in the host engine as their authors' and as Keras's."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("larq")
pytest.importorskip("tensorflow")

from converters import lce, lce_interpreter
from zobnn_edge import datasets, reference, zoo
from zobnn_edge.engine import Engine
from zobnn_edge.errors import ZobnnError
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network
from zobnn_edge.zoo import cnv, fracbnn, mlperf

needs_data = [
    pytest.mark.needs_data,
]


def engine(net: Network, x: np.ndarray) -> np.ndarray:
    deployed = Model.of(net)
    return Engine(deployed.plan).run(deployed.image.data, x)


@pytest.mark.parametrize("name", [pytest.param(n, marks=needs_data) for n in zoo.PUBLISHED])
def test_published_networks_are_the_same_in_keras_reference_and_engine(name: str) -> None:
    """On 20 inputs; Keras rounds sums in another order, so that an activation near the edge of a level may differ."""
    net, model = zoo.load(name), zoo.keras_model(name)
    data = datasets.load(zoo.dataset(name), limit=20)
    scores = engine(net, data.x)
    assert scores[:4].tobytes() == reference.run(net, data.x[:4]).tobytes()
    assert (scores.argmax(1) == data.y).mean() >= 0.7
    if model is not None:
        x = cnv.pixel_levels(data.x) / 128 if name == "cnv_cifar10" else data.x
        expected = model.predict(x.astype(np.float32), verbose=0)
        assert (scores.argmax(1) == expected.argmax(1)).all()


@pytest.mark.study
@pytest.mark.parametrize(
    ("name", "accuracy", "tolerance"),
    [
        pytest.param("fracbnn_cifar10", 88.56, 0.05, marks=needs_data),
        pytest.param("cnv_cifar10", 79.52, 0, marks=needs_data),
        pytest.param("resnet8", 87.19, 0.02, marks=needs_data),
        pytest.param("dscnn", 91.3, 0.1, marks=needs_data),
    ],
)
def test_accuracies_on_the_whole_test_sets(name: str, accuracy: float, tolerance: float) -> None:
    data = datasets.load(zoo.dataset(name))
    measured = 100 * float((engine(zoo.load(name), data.x).argmax(1) == data.y).mean())
    print(f"\n{name}: {measured:.2f} % of {len(data):,}")
    assert measured == pytest.approx(accuracy, abs=tolerance + 1e-9)


# --- CNV ---


def test_cnv_sees_every_pixel_value_as_its_authors_do() -> None:
    exact = [math.floor((Fraction(2 * p, 255) - 1) * 128 + Fraction(1, 2)) for p in range(256)]
    expected = np.clip(exact, -128, 127)
    assert np.array_equal(cnv.pixel_levels(np.arange(256, dtype=np.uint8)), expected)


def random_cnv(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = {f"w{i}": rng.choice(np.array([-1, 1], np.int8), shape) for i, shape in enumerate(cnv.SHAPES)}
    for i, shape in enumerate(cnv.SHAPES[:-1]):
        n = int(np.prod(shape[:3]))
        low, high = (-1500, 1500) if i == 0 else (n // 2 - n // 20 - 1, n // 2 + n // 20 + 2)
        arrays[f"t{i}"] = rng.integers(low, high, shape[3]).astype(np.int32)
    return arrays


def integer_cnv(arrays: dict[str, np.ndarray], pixels: np.ndarray) -> np.ndarray:
    """CNV of one image in integers, straight from its description: counts of agreeing bits against thresholds."""
    x = cnv.pixel_levels(pixels)
    for i, (kh, kw, channels, filters) in enumerate(cnv.SHAPES):
        w = arrays[f"w{i}"].astype(np.int64).reshape(-1, filters)
        windows = np.lib.stride_tricks.sliding_window_view(x, (kh, kw), axis=(0, 1)).transpose(0, 1, 3, 4, 2)
        s = windows.reshape(*windows.shape[:2], -1) @ w
        if i == len(cnv.SHAPES) - 1:
            return s.reshape(-1)
        n = kh * kw * channels
        fires = 2 * s >= arrays["t0"] if i == 0 else (s + n) // 2 >= arrays[f"t{i}"]
        x = np.where(fires, 1, -1)
        if i in cnv.POOLED:
            h, w_ = x.shape[0] // 2, x.shape[1] // 2
            x = x[: 2 * h, : 2 * w_].reshape(h, 2, w_, 2, filters).max(axis=(1, 3))
    raise AssertionError


@pytest.mark.parametrize("seed", range(3))
def test_cnv_is_exact(seed: int) -> None:
    """Every decision of random networks, on images with all pixel values, is that of integer arithmetic."""
    arrays = random_cnv(seed)
    pixels = np.random.default_rng(seed).permutation(np.arange(32 * 32 * 3) % 256).astype(np.uint8).reshape(32, 32, 3)
    scores = engine(cnv.cnv_cifar10(arrays), pixels[np.newaxis])
    assert np.array_equal(scores[0], integer_cnv(arrays, pixels))


def test_cnv_as_a_keras_model_decides_exactly_too(tmp_path: Path) -> None:
    arrays = random_cnv(4)
    np.savez(tmp_path / "arrays.npz", **arrays)
    pixels = np.random.default_rng(4).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    model = cnv.load_keras(tmp_path / "arrays.npz")
    scores = model.predict((cnv.pixel_levels(pixels) / 128).astype(np.float32), verbose=0)
    assert np.array_equal(scores, [integer_cnv(arrays, image) for image in pixels])


@pytest.mark.skipif(not lce_interpreter.installed(), reason="larq-compute-engine is not installed")
def test_cnv_is_exact_in_lce() -> None:
    """The stock interpreter rounds pixels to the same levels, and gives the same scores."""
    net = cnv.cnv_cifar10(random_cnv(3))
    pixels = np.random.default_rng(3).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
    theirs = lce_interpreter.run(lce.write(net), net.pixels.apply(pixels))
    assert np.array_equal(theirs, engine(net, pixels))


# --- files that are not what they should be ---


@pytest.mark.parametrize(
    ("load", "what"),
    [
        (cnv.load, r"not the arrays of CNV \("),
        (cnv.load_keras, r"not the arrays of CNV \("),
        (fracbnn.load_cifar10, r"not the arrays of FracBNN for CIFAR-10 \("),
    ],
)
def test_arrays_of_something_else_are_refused(load: object, what: str, tmp_path: Path) -> None:
    path = tmp_path / "arrays.npz"
    np.savez(path, w0=np.zeros(3), conv1_weight=np.zeros(3))
    with pytest.raises(ZobnnError, match=rf"arrays\.npz: {what}"):
        load(path)  # type: ignore[operator]
    path.write_bytes(b"PK torn")
    with pytest.raises(ZobnnError, match=r"arrays\.npz: not an \.npz file of arrays"):
        load(path)  # type: ignore[operator]


@pytest.mark.parametrize("load", [mlperf.load_resnet8, mlperf.load_dscnn])
def test_weights_of_something_else_are_refused(load: object, tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    path.write_bytes(b"no HDF5")
    with pytest.raises(ZobnnError, match=r"weights\.h5: not the weights of (resnet8|dscnn) \(.*\); fetch"):
        load(path)  # type: ignore[operator]
    mlperf.resnet8().save_weights(tmp_path / "other.h5") if load is mlperf.load_dscnn else mlperf.dscnn().save_weights(
        tmp_path / "other.h5"
    )
    with pytest.raises(ZobnnError, match=r"other\.h5: not the weights of (resnet8|dscnn) \(.*\); fetch"):
        load(tmp_path / "other.h5")  # type: ignore[operator]

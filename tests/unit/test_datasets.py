"""Data sets: right images and labels from every source, one clear error otherwise, nothing half-written."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from zobnn_edge import datasets
from zobnn_edge.datasets import Dataset, Download
from zobnn_edge.errors import InputError

RNG = np.random.default_rng(0)
DATA_FOLDER = os.environ.get(datasets.DATA_VARIABLE)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and no data folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(datasets.DATA_VARIABLE, raising=False)
    return tmp_path / "cache" / "zobnn-edge"


class Server:
    """Serves the files in `files` over HTTP on this machine and counts the requests."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests += 1
                data = outer.files.get(self.path[1:])
                self.send_response(200 if data is not None else 404)
                self.end_headers()
                self.wfile.write(data or b"")

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def download(self, name: str, data: bytes, sha256: str | None = None) -> Download:
        self.files[name] = data
        url = f"http://127.0.0.1:{self.http.server_address[1]}/{name}"
        return Download(url, sha256 or hashlib.sha256(data).hexdigest())


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def npz(**arrays: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def expect(monkeypatch: pytest.MonkeyPatch, name: str, split: str, x: np.ndarray, y: np.ndarray) -> None:
    """Let these arrays be the published ones."""
    sums = tuple(hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest() for a in (x, y))
    monkeypatch.setitem(datasets.ARRAY_SHA256, (name, split), sums)


# --- digits ---


def test_digits_are_scaled_exactly_and_split_the_same_way_each_time() -> None:
    pytest.importorskip("sklearn")
    train, test = datasets.load("digits", "train"), datasets.load("digits")
    assert (train.x.shape, test.x.shape, train.x.dtype) == ((1437, 8, 8, 1), (360, 8, 8, 1), np.uint8)
    assert set(np.unique(test.x)) == set(range(0, 241, datasets.DIGIT_STEP))
    assert np.array_equal(test.x, datasets.load("digits").x)
    assert np.bincount(test.y).tolist() == [36, 36, 35, 37, 36, 37, 36, 36, 35, 36]


def test_digits_splits_are_disjoint_and_whole() -> None:
    """Every one of scikit-learn's images is in one split, with its own label."""
    sklearn = pytest.importorskip("sklearn.datasets")
    whole = sklearn.load_digits()
    rows = [(im.tobytes(), int(y)) for s in ("train", "test") for im, y in _pairs(datasets.load("digits", s))]
    images = (whole.images * datasets.DIGIT_STEP).astype(np.uint8)
    assert sorted(rows) == sorted((im.tobytes(), int(y)) for im, y in zip(images, whole.target, strict=True))


def _pairs(data: Dataset) -> Iterator[tuple[np.ndarray, np.int64]]:
    return zip(data.x, data.y, strict=True)


# --- mnist ---


@pytest.fixture
def tiny_mnist(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    arrays = {
        "x_train": RNG.integers(0, 256, (5, 28, 28)).astype(np.uint8),
        "y_train": np.arange(5, dtype=np.uint8),
        "x_test": RNG.integers(0, 256, (3, 28, 28)).astype(np.uint8),
        "y_test": np.array([9, 0, 4], np.uint8),
    }
    for split in ("train", "test"):
        expect(monkeypatch, "mnist", split, arrays[f"x_{split}"], arrays[f"y_{split}"])
    return arrays


@pytest.mark.parametrize("split", ["train", "test"])
def test_mnist_from_the_data_folder(
    split: str, tiny_mnist: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist/mnist.npz").write_bytes(npz(**tiny_mnist))
    monkeypatch.setenv(datasets.DATA_VARIABLE, str(tmp_path))
    data = datasets.load("mnist", split)  # type: ignore[arg-type]
    assert np.array_equal(data.x[..., 0], tiny_mnist[f"x_{split}"])
    assert data.y.tolist() == tiny_mnist[f"y_{split}"].tolist()


def test_mnist_is_downloaded_once(
    tiny_mnist: dict[str, np.ndarray], server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "MNIST", server.download("mnist.npz", npz(**tiny_mnist)))
    assert datasets.load("mnist").y.tolist() == [9, 0, 4]
    assert datasets.load("mnist").x.shape == (3, 28, 28, 1)
    assert server.requests == 1
    assert [p.name for p in cache.iterdir()] == ["mnist.npz"]


def test_a_damaged_cache_is_fetched_again(
    tiny_mnist: dict[str, np.ndarray], server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "MNIST", server.download("mnist.npz", npz(**tiny_mnist)))
    cache.mkdir(parents=True)
    (cache / "mnist.npz").write_bytes(npz(**tiny_mnist)[:100])
    assert datasets.load("mnist").y.tolist() == [9, 0, 4]


def test_a_wrong_download_is_refused_and_not_kept(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "MNIST", server.download("mnist.npz", b"something else", "0" * 64))
    with pytest.raises(InputError, match="another SHA-256 than expected"):
        datasets.load("mnist")
    assert not cache.exists()


def test_without_network_the_error_names_the_variable(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = server.download("mnist.npz", b"")
    del server.files["mnist.npz"]
    monkeypatch.setattr(datasets, "MNIST", gone)
    with pytest.raises(InputError, match=r"cannot be downloaded \(.*\); set ZOBNN_DATA"):
        datasets.load("mnist")
    monkeypatch.setattr(datasets, "MNIST", Download("http://127.0.0.1:9/mnist.npz", "0" * 64))
    with pytest.raises(InputError, match=r"cannot be downloaded \(.*refused.*\); set ZOBNN_DATA"):
        datasets.load("mnist")


def test_other_arrays_than_the_published_ones_are_refused(
    tiny_mnist: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_mnist["y_test"][0] = 8
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist/mnist.npz").write_bytes(npz(**tiny_mnist))
    monkeypatch.setenv(datasets.DATA_VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match="the test split is not the published one"):
        datasets.load("mnist")


@pytest.mark.parametrize("content", [b"", b"no zip at all", npz(x_train=np.zeros(3)), npy(np.zeros(3))])
def test_a_broken_file_in_the_data_folder_is_named(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist/mnist.npz").write_bytes(content)
    monkeypatch.setenv(datasets.DATA_VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match=r"mnist\.npz: not an \.npz file with x_test and y_test"):
        datasets.load("mnist")


def test_a_data_folder_without_the_set_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(datasets.DATA_VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match=r"there is no mnist/mnist\.npz in .*unset the variable"):
        datasets.load("mnist")


# --- cifar10 ---


def test_cifar10_from_png_sheets_in_tile_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "cifar10"
    folder.mkdir()
    x = RNG.integers(0, 256, (10000, 32, 32, 3)).astype(np.uint8)
    y = RNG.integers(0, 10, 10000).astype(np.uint8)
    for i in range(10):
        tiles = x[1000 * i : 1000 * (i + 1)].reshape(25, 40, 32, 32, 3)
        sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in tiles], axis=0)
        image.fromarray(sheet).save(folder / f"test_{i:02d}.png", compress_level=0)
    (folder / "labels.npz").write_bytes(npz(y_test=y))
    monkeypatch.setenv(datasets.DATA_VARIABLE, str(tmp_path))
    expect(monkeypatch, "cifar10", "test", x, y)
    data = datasets.load("cifar10")
    assert np.array_equal(data.x, x)
    assert np.array_equal(data.y, y)
    (folder / "test_03.png").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"test_03\.png: not a sheet"):
        datasets.load("cifar10")


@pytest.mark.parametrize(("split", "count"), [("train", 10), ("test", 2)])
def test_cifar10_from_the_binary_archive(
    split: str, count: int, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive holds a label byte and three 32x32 planes an image; batches are joined in order."""
    x = RNG.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
    y = RNG.integers(0, 10, count).astype(np.uint8)
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] if split == "train" else ["test_batch.bin"]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for i, name in enumerate(names):
            part = slice(2 * i, 2 * i + 2)
            records = np.concatenate([y[part, None], x[part].transpose(0, 3, 1, 2).reshape(2, -1)], axis=1).tobytes()
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(records)
            tar.addfile(info, io.BytesIO(records))
    monkeypatch.setattr(datasets, "CIFAR10", server.download("cifar-10-binary.tar.gz", out.getvalue()))
    expect(monkeypatch, "cifar10", split, x, y)
    data = datasets.load("cifar10", split)  # type: ignore[arg-type]
    assert np.array_equal(data.x, x)
    assert data.y.tolist() == y.tolist()


@pytest.mark.needs_data
@pytest.mark.parametrize(
    ("name", "split", "shape"),
    [
        ("mnist", "train", (60000, 28, 28, 1)),
        ("mnist", "test", (10000, 28, 28, 1)),
        ("cifar10", "test", (10000, 32, 32, 3)),
    ],
)
def test_published_sets_have_the_pinned_checksums(
    name: str, split: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not DATA_FOLDER:
        pytest.skip(f"{datasets.DATA_VARIABLE} is not set")
    monkeypatch.setenv(datasets.DATA_VARIABLE, DATA_FOLDER)
    assert datasets.load(name, split).x.shape == shape  # type: ignore[arg-type]


# --- files of one's own ---


def save(folder: Path, x: np.ndarray, y: np.ndarray) -> str:
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    return f"{folder / 'x.npy'},{folder / 'y.npy'}"


@pytest.mark.parametrize(
    ("shape", "images"), [((4, 6), (4, 1, 1, 6)), ((4, 6, 5), (4, 6, 5, 1)), ((4, 6, 5, 2), (4, 6, 5, 2))]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_pair_of_files(shape: tuple[int, ...], images: tuple[int, ...], dtype: type, tmp_path: Path) -> None:
    x = RNG.integers(0, 256, shape).astype(dtype)
    name = save(tmp_path, x, np.arange(4, dtype=np.int32))
    data = datasets.load(name)
    assert (data.x.shape, data.x.dtype, data.y.dtype, len(data)) == (images, x.dtype, np.int64, 4)
    assert data.x.tobytes() == x.tobytes()
    assert data.head(3).y.tolist() == [0, 1, 2]


U8 = np.zeros((2, 3, 3, 1), np.uint8)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (U8.astype(np.float64), [0, 1], "values of type float64; save the inputs as uint8 or float32"),
        (U8[0, 0, 0], [0], r"shape \(1,\); inputs are"),
        (U8, [0, 1, 2], "2 inputs and 3 labels"),
        (U8[:0], np.zeros(0, int), "0 inputs and 0 labels"),
        (U8, [0.0, 1.0], "labels are"),
        (U8, [[0, 1]], "labels are"),
        (U8, [0, -1], "the label -1; labels count from 0"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(x: np.ndarray, y: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        datasets.load(save(tmp_path, x, np.asarray(y)))


@pytest.mark.parametrize("content", [b"", b"text", npz(x=U8)])
def test_files_that_are_no_arrays_are_refused(content: bytes, tmp_path: Path) -> None:
    name = save(tmp_path, U8, np.arange(2))
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.npy: not an \.npy file of numbers"):
        datasets.load(name)


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    name = save(tmp_path, U8, np.array([{}, {}], object))
    with pytest.raises(InputError, match=r"y\.npy: not an \.npy file of numbers"):
        datasets.load(name)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.npy: there is no such file"):
        datasets.load(f"{tmp_path / 'nowhere.npy'},{tmp_path / 'y.npy'}")


@pytest.mark.parametrize("name", ["imagenet", "", "a,b,c"])
def test_unknown_names_are_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(InputError, match=r"use digits, mnist, cifar10, kws, imagenet:FOLDER or x\.npy,y\.npy"):
        datasets.load(name)


def test_unknown_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no split 'validation'"):
        datasets.load("digits", "validation")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no split 'train', only test"):
        datasets.load(save(tmp_path, U8, np.arange(2)), "train")

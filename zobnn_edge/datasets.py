"""Data sets as inputs and labels: real ones, from a folder or a checksummed download, and files of one's own.

`digits` comes with scikit-learn. `mnist` and `cifar10` are looked for in the folder that the environment variable
ZOBNN_DATA names, then in the download cache, then on the network; `kws` only in that folder. Their arrays are checked
against pinned SHA-256 sums wherever they come from. `imagenet:FOLDER` reads images as they are asked for.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zobnn_edge.encoding import InputArray
from zobnn_edge.errors import InputError
from zobnn_edge.files import read_bytes, write_atomic

Split = Literal["train", "test"]
Arrays = tuple[InputArray, NDArray[np.int64]]

DATA_VARIABLE = "ZOBNN_DATA"
TIMEOUT_S = 30


@dataclass(frozen=True)
class Dataset:
    """Inputs `x` (N, height, width, channels) and labels `y` (N,).

    Images are uint8; `kws` and, if they hold that, files of one's own are float32.
    """

    name: str
    x: InputArray
    y: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.y)

    def head(self, n: int) -> Dataset:
        """The first `n` images."""
        return Dataset(self.name, self.x[:n], self.y[:n])


@dataclass(frozen=True)
class Download:
    """A file on the network and its SHA-256."""

    url: str
    sha256: str

    def fetch(self) -> bytes:
        """Its bytes, from the cache when they are there; raises InputError when they cannot be had or are others."""
        cached = cache_folder() / self.url.rsplit("/", 1)[-1]
        if cached.exists():
            data = read_bytes(cached)
            if hashlib.sha256(data).hexdigest() == self.sha256:
                return data
        try:
            with urllib.request.urlopen(self.url, timeout=TIMEOUT_S) as response:
                data = bytes(response.read())
        except (urllib.error.URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise InputError(
                f"{self.url}: cannot be downloaded ({reason}); set {DATA_VARIABLE} to a folder that holds the data set"
            ) from None
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise InputError(f"{self.url}: the download has another SHA-256 than expected; try again")
        cached.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(cached, data)
        return data


MNIST = Download(
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
    "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
)
CIFAR10 = Download(  # the binary version: plain records, where the Python version has pickles
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)
ARRAY_SHA256 = {
    ("mnist", "train"): (
        "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
        "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    ),
    ("mnist", "test"): (
        "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
        "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    ),
    ("cifar10", "train"): (
        "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
        "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    ),
    ("cifar10", "test"): (
        "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
        "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
    ),
    ("kws", "test"): (
        "c2e5f02def82726f5c49dfe85c311c52f295ad68561f6bae89931fdadaaedc73",
        "5ac94dbdf436c844edf433b207d8d61f0e10e0a86335f1b12beb3b2fdc212111",
    ),
}
"""SHA-256 of the bytes of the 8-bit arrays (inputs, labels)."""

DIGIT_STEP = 15
"""Grey levels between two of the 17 values of a digits pixel: 0..16 become 0..240."""
DIGITS_TEST_SHARE = 0.2
DIGITS_SPLIT_SEED = 0

KWS_FILE = "mlperf_tiny/kws01.npz"
KWS_SCALE, KWS_ZERO_POINT = 0.5847029, 83
"""A coded MFCC `q` of keyword spotting stands for `(q - zero point) * scale`."""

IMAGENET = "imagenet:"
IMAGENET_SIZE = 224
IMAGENET_CROP = 0.875
"""Share of the shorter side that is kept, from the middle, before scaling to the size of the networks."""
IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png")


def load(name: str, split: Split = "test", limit: int | None = None) -> Dataset:
    """A data set by name, or its first `limit` inputs.

    `digits`, `mnist`, `cifar10` and `kws` (keyword spotting; only test); `imagenet:FOLDER`, a folder with one folder
    of JPEG or PNG images a class; or the pair of files "x.npy,y.npy" (only test). Raises InputError when there is no
    such data set, or it cannot be had, or it is damaged.
    """
    if name.startswith(IMAGENET):
        parts = list(stream(name, split, limit=limit))
        return Dataset(name, np.concatenate([p.x for p in parts]), np.concatenate([p.y for p in parts]))
    if split not in ("train", "test"):
        raise InputError(f"there is no split {split!r}; use train or test")
    if name in _LOADERS:
        x, y = _LOADERS[name](split)
        return Dataset(name, x[:limit], y[:limit])
    if name.count(",") == 1:
        if split != "test":
            raise InputError(f"{name}: a pair of files has no split {split!r}, only test")
        x, y = _pair(*map(Path, name.split(",")))
        return Dataset(name, x[:limit], y[:limit])
    raise InputError(f"there is no data set {name!r}; use {', '.join(_LOADERS)}, {IMAGENET}FOLDER or x.npy,y.npy")


def stream(name: str, split: Split = "test", batch: int = 100, limit: int | None = None) -> Iterator[Dataset]:
    """The parts of a data set, `batch` inputs each, as `load` would give them; images in folders are read one part at
    a time."""
    if not name.startswith(IMAGENET):
        data = load(name, split, limit)
        for at in range(0, len(data), batch):
            yield Dataset(name, data.x[at : at + batch], data.y[at : at + batch])
        return
    files = _image_files(Path(name.removeprefix(IMAGENET)), split)[:limit]
    for at in range(0, len(files), batch):
        part = files[at : at + batch]
        yield Dataset(name, np.stack([_image(path) for path, _ in part]), np.array([y for _, y in part], np.int64))


def cache_folder() -> Path:
    """Where downloads are kept: zobnn-edge in the user's cache folder (XDG_CACHE_HOME, else ~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zobnn-edge"


def _in_data_folder(name: str, otherwise: str = "unset the variable to download it") -> Path | None:
    """The path of a file in the folder that ZOBNN_DATA names; None when the variable is not set."""
    folder = os.environ.get(DATA_VARIABLE)
    if not folder:
        return None
    path = Path(folder) / name
    if not path.exists():
        raise InputError(f"{DATA_VARIABLE}: there is no {name} in {folder}; {otherwise}")
    return path


def published(name: str) -> Path:
    """A file that is not downloaded, such as a trained network, in the folder that ZOBNN_DATA names.

    Raises InputError when it is not there.
    """
    path = _in_data_folder(name, "put it there, or set the variable to a folder that holds it")
    if path is None:
        raise InputError(f"{name} is not downloaded; set {DATA_VARIABLE} to a folder that holds it")
    return path


def published_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file by name; raises InputError when it is none."""
    try:
        with np.load(io.BytesIO(read_bytes(path)), allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, TypeError):
        raise InputError(f"{path}: not an .npz file of arrays; fetch it again") from None


def _digits(split: Split) -> Arrays:
    """scikit-learn's 1,797 real 8x8 digits, split 80/20, the classes in proportion."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise InputError("digits needs scikit-learn; install it with pip install scikit-learn") from None
    data = load_digits()
    x = (data.images * DIGIT_STEP).astype(np.uint8)[..., np.newaxis]
    y = data.target.astype(np.int64)
    parts = train_test_split(x, y, test_size=DIGITS_TEST_SHARE, stratify=y, random_state=DIGITS_SPLIT_SEED)
    x_train, x_test, y_train, y_test = parts
    return (x_train, y_train) if split == "train" else (x_test, y_test)


def _mnist(split: Split) -> Arrays:
    path = _in_data_folder("mnist/mnist.npz")
    arrays = _npz(read_bytes(path) if path else MNIST.fetch(), str(path or MNIST.url), f"x_{split}", f"y_{split}")
    return _checked("mnist", split, arrays[0][..., np.newaxis], arrays[1])


def _cifar10(split: Split) -> Arrays:
    labels = _in_data_folder("cifar10/labels.npz")
    if labels is None:
        return _checked("cifar10", split, *_cifar10_records(CIFAR10.fetch(), split))
    count = 50 if split == "train" else 10
    sheets = [_sheet(labels.parent / f"{split}_{i:02d}.png") for i in range(count)]
    (y,) = _npz(read_bytes(labels), str(labels), f"y_{split}")
    return _checked("cifar10", split, np.concatenate(sheets), y)


def _sheet(path: Path) -> NDArray[np.uint8]:
    """The 1,000 images of a PNG sheet of 25 rows by 40 columns of 32x32 tiles, row by row."""
    try:
        from PIL import Image
    except ImportError:
        raise InputError("cifar10 from PNG sheets needs Pillow; install it with pip install pillow") from None
    try:
        pixels = np.asarray(Image.open(io.BytesIO(read_bytes(path))).convert("RGB"))
        return pixels.reshape(25, 32, 40, 32, 3).swapaxes(1, 2).reshape(1000, 32, 32, 3)
    except (OSError, ValueError):
        raise InputError(f"{path}: not a sheet of 1000 images; fetch the data set again") from None


def _cifar10_records(archive: bytes, split: Split) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images and labels of the binary version's archive: records of a label and 3x32x32 pixels."""
    files = [f"data_batch_{i}.bin" for i in range(1, 6)] if split == "train" else ["test_batch.bin"]
    records = []
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for file in files:
            member = tar.extractfile(f"cifar-10-batches-bin/{file}")
            assert member is not None  # the archive's checksum was right
            records.append(np.frombuffer(member.read(), np.uint8).reshape(-1, 1 + 3 * 32 * 32))
    data = np.concatenate(records)
    return data[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), data[:, 0]


def _npz(data: bytes, where: str, *names: str) -> list[NDArray[np.uint8]]:
    try:
        arrays = np.load(io.BytesIO(data), allow_pickle=False)
        return [arrays[name] for name in names]
    except (OSError, EOFError, ValueError, KeyError, IndexError, zipfile.BadZipFile):
        raise InputError(f"{where}: not an .npz file with {' and '.join(names)}; fetch it again") from None


def _checked(name: str, split: Split, x: NDArray[np.uint8], y: NDArray[np.uint8]) -> Arrays:
    """The arrays, when their bytes are the ones that everybody else measures with."""
    for array, expected in zip((x, y), ARRAY_SHA256[name, split], strict=True):
        if hashlib.sha256(np.ascontiguousarray(array).data).hexdigest() != expected:
            raise InputError(f"{name}: the {split} split is not the published one (SHA-256); fetch it again")
    return np.ascontiguousarray(x), y.astype(np.int64)


def _kws(split: Split) -> Arrays:
    """MLPerf Tiny's 1,000 evaluation inputs of keyword spotting: 49 frames of 10 MFCCs, float32."""
    if split != "test":
        raise InputError(f"kws has no split {split!r}, only test")
    path = published(KWS_FILE)
    x, y = _checked("kws", split, *_npz(read_bytes(path), str(path), "x", "y"))
    return (x.astype(np.float32) - np.float32(KWS_ZERO_POINT)) * np.float32(KWS_SCALE), y


def _image_files(folder: Path, split: Split) -> list[tuple[Path, int]]:
    """Images and labels; labels number the class folders by name. The first image of each class comes first."""
    inner = folder / {"train": "train", "test": "val"}[split]
    if not inner.is_dir() and split == "train":
        raise InputError(f"{IMAGENET}{folder}: has no folder train; only its class folders can be used, as test")
    classes = sorted(p for p in (inner if inner.is_dir() else folder).glob("*") if p.is_dir())
    images = [sorted(p for p in c.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES) for c in classes]
    ranked = [(rank, label, path) for label, paths in enumerate(images) for rank, path in enumerate(paths)]
    if not ranked:
        raise InputError(f"{IMAGENET}{folder}: no class folders with JPEG or PNG images; name the folder that has them")
    return [(path, label) for _, label, path in sorted(ranked)]


def _image(path: Path) -> NDArray[np.uint8]:
    """An image as the networks for ImageNet take it: the middle of it, scaled to 224x224 pixels, RGB."""
    try:
        from PIL import Image
    except ImportError:
        raise InputError("images need Pillow; install it with pip install pillow") from None
    try:
        image = Image.open(io.BytesIO(read_bytes(path))).convert("RGB")
    except (OSError, ValueError):
        raise InputError(f"{path}: not an image that Pillow reads; remove it or fetch it again") from None
    side = IMAGENET_CROP * min(image.size)
    left, top = ((length - side) / 2 for length in image.size)
    size = (IMAGENET_SIZE, IMAGENET_SIZE)
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC, (left, top, left + side, top + side)))


def _pair(x_path: Path, y_path: Path) -> Arrays:
    """Inputs and labels from two .npy files."""
    x, y = _npy(x_path), _npy(y_path)
    if x.dtype not in (np.uint8, np.float32):
        raise InputError(f"{x_path}: values of type {x.dtype}; save the inputs as uint8 or float32")
    if x.ndim not in (2, 3, 4):
        raise InputError(f"{x_path}: shape {x.shape}; inputs are (N, height, width, channels)")
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise InputError(f"{y_path}: shape {y.shape} of {y.dtype}; labels are (N,) integers")
    if len(x) != len(y) or not len(x):
        raise InputError(f"{x_path}, {y_path}: {len(x)} inputs and {len(y)} labels")
    if y.min() < 0:
        raise InputError(f"{y_path}: the label {y.min()}; labels count from 0")
    shape = {2: (1, 1, x.shape[-1]), 3: (*x.shape[1:], 1), 4: x.shape[1:]}[x.ndim]
    return x.reshape(len(x), *shape), y.astype(np.int64)


def _npy(path: Path) -> InputArray:
    data = read_bytes(path)
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (OSError, ValueError, EOFError):
        array = None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path}: not an .npy file of numbers; write it with numpy.save")
    return array


_LOADERS: dict[str, Callable[[Split], Arrays]] = {"digits": _digits, "mnist": _mnist, "cifar10": _cifar10, "kws": _kws}

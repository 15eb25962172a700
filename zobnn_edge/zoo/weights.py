"""Trained weights that come with the package: small files, checked against a list of SHA-256 sums.

`trained/NAME.npz` holds the weights of each layer as `LAYER/INDEX`, in Keras's order; those that Larq's `ste_sign`
makes one bit of are packed as `LAYER/INDEX/bits`, 1 for -1. Beside it is the log of the training, `NAME.csv`.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.larq import keras
from zobnn_edge.errors import InputError
from zobnn_edge.files import read_bytes, write_atomic

FOLDER = Path(__file__).parent / "trained"
SUMS = "SHA256SUMS"


def shipped(name: str) -> bool:
    """Whether the package holds trained weights of a network."""
    return (FOLDER / f"{name}.npz").exists()


def ship(name: str, weights: bytes, log: str, folder: Path = FOLDER) -> None:
    """Put weights and log into the package's folder and their sums into its list."""
    write_atomic(folder / f"{name}.npz", weights)
    write_atomic(folder / f"{name}.csv", log)
    files = sorted(path for path in folder.iterdir() if path.suffix in (".npz", ".csv"))
    sums = (f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)
    write_atomic(folder / SUMS, "".join(sums))


def load_shipped(model: Any, name: str, folder: Path = FOLDER) -> Any:
    """Give a model the weights that come with the package; returns it. Raises InputError when they are damaged."""
    path = folder / f"{name}.npz"
    data = read_bytes(path)
    if f"{hashlib.sha256(data).hexdigest()}  {path.name}" not in read_bytes(folder / SUMS).decode().splitlines():
        raise InputError(f"{path}: not the file that {SUMS} lists; install zobnn-edge again")
    unpack(model, data)
    return model


def pack(model: Any) -> bytes:
    """The weights of a model as the bytes of an .npz file, equal for equal weights."""
    arrays: dict[str, NDArray[Any]] = {}
    for layer in model.layers:
        for index, (variable, values) in enumerate(zip(layer.weights, layer.get_weights(), strict=True)):
            if _one_bit(layer, variable):
                arrays[f"{layer.name}/{index}/bits"] = np.packbits(values < 0)
            else:
                arrays[f"{layer.name}/{index}"] = values
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def unpack(model: Any, data: bytes) -> None:
    """Give a model the weights that `pack` made; one-bit ones become +1 and -1."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        for layer in model.layers:
            values = []
            for index, variable in enumerate(layer.weights):
                key = f"{layer.name}/{index}"
                if _one_bit(layer, variable):
                    bits = np.unpackbits(arrays[f"{key}/bits"], count=int(np.prod(variable.shape)))
                    values.append(np.where(bits, -1.0, 1.0).astype(np.float32).reshape(variable.shape))
                else:
                    values.append(arrays[key])
            layer.set_weights(values)


def _one_bit(layer: Any, variable: Any) -> bool:
    _, lq = keras()
    quantizer = getattr(layer, "kernel_quantizer", None)
    return isinstance(quantizer, lq.quantizers.SteSign) and variable is layer.kernel

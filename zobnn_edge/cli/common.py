"""What the verbs share: finding networks, reading inputs, printing JSON."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from zobnn_edge import model_file
from zobnn_edge.encoding import InputArray
from zobnn_edge.errors import InputError
from zobnn_edge.files import read_bytes, write_atomic
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network, Pixels, as_inputs

NetArgument = Annotated[
    str, typer.Argument(metavar="NET", help="A .zob or .tflite file, a Keras/Larq model, or zoo:NAME.")
]
DATASETS = "digits, mnist, cifar10, kws, imagenet:FOLDER, or X.npy,Y.npy."
DatasetOption = Annotated[str, typer.Option(metavar="DATASET", help=DATASETS)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs to read.")]
PixelsOption = Annotated[
    str | None, typer.Option(metavar="LOW:HIGH", help="What 8-bit inputs 0 and 255 stand for; default 0:255.")
]
TargetOption = Annotated[
    str, typer.Option(metavar="TARGET", help="host, native, qemu:BOARD, serial:PORT or gdb:PLACE.")
]


def read_model(net: str, pixels: Pixels | None = None) -> Model:
    """The model that NET names; `pixels` for one that is imported. Only a .zob file is read without TensorFlow."""
    path = Path(net)
    if not net.startswith("zoo:") and path.suffix == ".zob":
        return model_file.load(path)
    return Model.of(import_network(net, pixels))


def import_network(source: str, pixels: Pixels | None) -> Network:
    """Import a TFLite or LCE flatbuffer, a Keras/Larq model from a file or SavedModel folder, or one of the zoo."""
    if not source.startswith("zoo:") and not Path(source).exists():
        raise InputError(f"{source}: there is no such file or folder")
    if not source.startswith("zoo:") and Path(source).suffix == ".tflite":
        from converters import tflite

        return tflite.import_tflite(source, pixels=pixels)
    try:
        if source.startswith("zoo:"):
            from zobnn_edge import zoo

            return zoo.load(source.removeprefix("zoo:"))
        from converters import larq

        return larq.import_keras(source, pixels=pixels)
    except ModuleNotFoundError as error:
        raise InputError(f"{source}: importing it needs {error.name}; pip install 'zobnn-edge[larq]'") from None


def parse_pixels(text: str | None) -> Pixels | None:
    """LOW:HIGH, what the pixel values 0 and 255 stand for."""
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        raise InputError(f"--pixels {text}: give LOW:HIGH, for instance -1:1") from None
    return Pixels(float(np.float32((high - low) / 255)), float(np.float32(low)))


def read_inputs(path: Path, net: Network) -> InputArray:
    """Inputs (N, ...) of a .npy file, checked against the network."""
    data = read_bytes(path)
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError):
        raise InputError(f"{path}: not a .npy file of numbers (write one with numpy.save)") from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path}: an .npz archive; give a single array saved with numpy.save")
    try:
        return as_inputs(net, array)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def write_array(path: Path, array: InputArray) -> None:
    """Write a .npy file, whole or not at all."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    write_atomic(path, buffer.getvalue())


def print_json(value: Any) -> None:
    """JSON on stdout; NaN becomes null."""
    typer.echo(json.dumps(value, indent=2, default=_plain))


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)

"""Networks of one binary layer, and their exact instruction counts on emulated cores.

The layer is a convolution and its thresholds. Its input are thermometer codes of a small image; behind it one pixel is
kept, so that the scores are few. What the same network takes without the layer is subtracted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from zobnn_edge.boards import Board, boards
from zobnn_edge.encoding import Binary, Float32, Uniform
from zobnn_edge.errors import TargetError, ZobnnError
from zobnn_edge.firmware import built
from zobnn_edge.model_file import Model
from zobnn_edge.network import Builder, Network, Pixels
from zobnn_edge.operations import Affine, Conv, MaxPool, Thermometer, Threshold, Unpack
from zobnn_edge.targets import open_target

Record = dict[str, Any]
T = TypeVar("T")
MOST_ARENA = 96 * 1024
FIRMWARE_RAM = 4096  # what the agent, its buffers, the stack and the pixels take on the smallest board


@dataclass(frozen=True)
class Layer:
    """A binary convolution, 'same'-padded, with thresholds."""

    size: int
    channels: int
    filters: int
    kernel: int = 3
    stride: int = 1
    pad_value: int = 0

    @property
    def macs(self) -> int:
        """Products of all taps, those outside the input included."""
        out = -(-self.size // self.stride)
        return out * out * self.filters * self.kernel * self.kernel * self.channels


LAYERS = {
    "A 3x3 64>64 16x16": Layer(16, 64, 64),
    "A reading ones outside": Layer(16, 64, 64, pad_value=1),
    "B 3x3 128>128 8x8": Layer(8, 128, 128),
    "B reading ones outside": Layer(8, 128, 128, pad_value=1),
    "3x3 16>16 32x32": Layer(32, 16, 16),
    "3x3 16>32 32x32, stride 2": Layer(32, 16, 32, stride=2),
    "3x3 32>32 16x16": Layer(16, 32, 32),
    "3x3 32>64 16x16, stride 2": Layer(16, 32, 64, stride=2),
    "3x3 64>64 8x8": Layer(8, 64, 64),
    "1x1 128>128 8x8": Layer(8, 128, 128, kernel=1),
    "5x5 32>32 16x16": Layer(16, 32, 32, kernel=5),
    "3x3 48>48 8x8": Layer(8, 48, 48),
    "3x3 33>33 8x8": Layer(8, 33, 33),
    "dense 256>256": Layer(1, 256, 256, kernel=1),
}


def cores() -> dict[str, Board]:
    """For every core that is emulated, the board with the most memory."""
    emulated = sorted((b for b in boards().values() if b.emulator), key=lambda b: b.ram.bytes)
    return {board.core: board for board in emulated}


def network(layer: Layer, with_layer: bool = True) -> Network:
    """The network of a layer, or the same network without it."""
    rng = np.random.default_rng(0)
    b = Builder("layer", (layer.size, layer.size, 1), Pixels(1.0, 0.0))
    x = b.add(Thermometer("bits", b.input, "bits", layer.channels, layer.channels / 256))
    if with_layer:
        shape = (layer.filters, layer.kernel, layer.kernel, layer.channels)
        weight = rng.choice(np.array([-1, 1], np.float32), shape)
        limits = np.rint(rng.normal(size=layer.filters) * 10).astype(np.float32)
        w = b.parameter("conv/weight", "conv", "weight", weight, Binary(row=layer.channels))
        t = b.parameter("conv/threshold", "conv", "threshold", limits, Float32())
        strides = (layer.stride, layer.stride)
        x = b.add(Conv("conv", x, "sums", w, strides, "same", 1 if layer.pad_value else 0))
        x = b.add(Threshold("threshold", x, "signs", t))
    height, width, channels = b.tensors[x].shape
    x = b.add(Unpack("unpack", b.add(MaxPool("pixel", x, "pixel", (1, 1), (height, width))), "unpack"))
    bias = b.parameter("bias", "bias", "bias", np.zeros(channels, np.float32), Uniform(8, 1.0, 0))
    return b.network(b.add(Affine("affine", x, "affine", None, bias)))


def model(layer: Layer, board: Board) -> Model:
    """The layer's network with as much arena as its tables are worth, up to what the board has."""
    net = network(layer)
    rest = board.ram.bytes - len(Model.of(net, 0).image.data) - FIRMWARE_RAM
    return Model.of(net, min(MOST_ARENA, rest))


def instructions(model: Model, board: Board) -> int:
    """Instructions of one inference, thermometer codes of noise."""
    pixels = np.random.default_rng(1).integers(0, 256, (1, *model.network.input_shape), np.uint8)
    with open_target(f"qemu:{board.name}", model) as target:
        target.put_inputs(pixels)
        return target.run().instructions


def code_bytes(model: Model, board: Board) -> int:
    """Bytes of flash that the firmware of a model takes beside its plan and its parameters."""
    with built(model, board.name).open("rb") as file:
        sections = [s for s in ELFFile(file).iter_sections() if s["sh_type"] == "SHT_PROGBITS"]
        stored = sum(int(s["sh_size"]) for s in sections if s["sh_flags"] & SH_FLAGS.SHF_ALLOC)
    return stored - len(model.plan) - len(model.image.data)


def on_cores(measure: Callable[[T, Board], Record], cases: Iterable[T]) -> Iterator[tuple[T, list[Record | None]]]:
    """What `measure` gives for each case on every core, case after case; None where a network does not fit,
    or where the board fails, which a line says.

    As many are built and emulated side by side as this machine has cores; counts do not depend on it.
    """

    def attempt(case: T, board: Board) -> Record | None:
        try:
            return measure(case, board)
        except TargetError as error:  # no matter of size
            print(f"{board.name}: {error}", flush=True)
        except ZobnnError:
            pass
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = [(case, [pool.submit(attempt, case, board) for board in cores().values()]) for case in cases]
        for case, row in rows:
            yield case, [future.result() for future in row]


def measure(case: str, board: Board) -> Record:
    """What a layer takes on an emulated board."""
    layer = LAYERS[case]
    made = model(layer, board)
    without = instructions(Model.of(network(layer, with_layer=False)), board)
    return {
        "core": board.core,
        "board": board.name,
        "case": case,
        "algorithm": made.work["conv"].algorithm,
        "instructions": instructions(made, board) - without,
        "macs": layer.macs,
        "ram_bytes": made.arena_bytes + len(made.image.data),
        "code_bytes": code_bytes(made, board),
    }

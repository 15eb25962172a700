"""What a network itself takes: parameters bit by bit, the arena block by block, layer by layer.

A *layer* is a group of operations that run together: one, and those fused with it. Its live bytes are those of the
arena that something still reads or writes while it runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from zobnn_edge import plan as planner
from zobnn_edge.audit.elf import Elf
from zobnn_edge.encoding import Encoding, Protected
from zobnn_edge.errors import InputError, ModelError
from zobnn_edge.image import ParameterImage
from zobnn_edge.layout import lay_out, scratch_bytes
from zobnn_edge.model_file import Model
from zobnn_edge.operations import Op


@dataclass(frozen=True)
class ParameterRow:
    """One parameter: `code_bits` are those that stand for values; the rest of its `bytes` is lost in packing.

    `layer` is the group of operations that reads it first. Addresses are those in the firmware, None without one.
    """

    name: str
    layer: str
    role: str
    type: str
    encoding: str
    count: int
    code_bits: int
    bytes: int
    offset: int
    ram_address: int | None = None
    flash_address: int | None = None

    @property
    def lost_bits(self) -> int:
        """Bits that stand for nothing: they fill up rows and words."""
        return 8 * self.bytes - self.code_bits


@dataclass(frozen=True)
class LayerRow:
    """One layer: its operations, bytes of its parameters and their code bits, of its scratch, of its stored output,
    and of the arena that are live while it runs."""

    name: str
    operations: tuple[str, ...]
    parameters: int
    code_bits: int
    scratch: int
    output: int
    live: int


@dataclass(frozen=True)
class BlockRow:
    """A block of the arena: where it lies and from which layer to which it is live, counted from 0."""

    name: str
    offset: int
    bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Arena:
    """The arena: its bytes, the most that are live at once and the layer where that is. More bytes than live ones are
    holes that no block fits into."""

    bytes: int
    peak: int
    peak_layer: str
    blocks: tuple[BlockRow, ...]


@dataclass(frozen=True)
class Contents:
    """A network taken apart."""

    name: str
    layers: tuple[LayerRow, ...]
    parameters: tuple[ParameterRow, ...]
    arena: Arena
    plan_bytes: int
    image_bytes: int


def contents(model: Model, ram: int | None = None, flash: int | None = None) -> Contents:
    """Take a network apart; `ram` and `flash` are where the firmware keeps the image and its copy."""
    net, layout = model.network, lay_out(model.network, model.work)
    user = {p: group[0].name for group in reversed(layout.groups) for op in group for p in op.parameters}
    ends = [r.offset for r in model.image.regions[1:]] + [len(model.image.data)]
    rows = tuple(
        ParameterRow(
            r.name,
            user.get(r.name, ""),
            r.role,
            r.type,
            encoding_name(r.encoding),
            r.count,
            r.code_bits,
            end - r.offset,
            r.offset,
            None if ram is None else ram + r.offset,
            None if flash is None else flash + r.offset,
        )
        for r, end in zip(model.image.regions, ends, strict=True)
    )
    last = len(layout.groups) - 1
    blocks = tuple(BlockRow(b.name, b.offset, b.bytes, b.born, min(b.dies, last)) for b in layout.blocks)
    layers = []
    for step, group in enumerate(layout.groups):
        own = [row for row in rows if row.layer == group[0].name]
        layers.append(
            LayerRow(
                group[0].name,
                tuple(type(op).__name__ for op in group),
                sum(row.bytes for row in own),
                sum(row.code_bits for row in own),
                sum(scratch_bytes(net, group, layout.work)),
                next((b.bytes for b in blocks if b.name == group[-1].output), 0),
                sum(b.bytes for b in blocks if b.first <= step <= b.last),
            )
        )
    peak = max(layers, key=lambda row: row.live)
    arena = Arena(layout.arena_bytes, peak.live, peak.name, blocks)
    return Contents(net.name, tuple(layers), rows, arena, len(model.plan), len(model.image.data))


def encoding_name(encoding: Encoding) -> str:
    """An encoding in a word or two: float32, binary, uniform 8."""
    if isinstance(encoding, Protected):
        return f"{encoding_name(encoding.code)}, {encoding.by.name}"
    name = type(encoding).__name__.lower()
    return name if re.search(r"\d", name) or encoding.bits == 1 else f"{name} {encoding.bits}"


def read_model(elf: Elf, name: str) -> Model | None:
    """The network in a firmware, its layers named after their operations; None where it has none that can be read."""
    plan, data = (_object(elf, f"model_{what}") for what in ("plan", "image"))
    if plan is None or data is None:
        return None
    try:
        tensors, parameters, ops = planner.counts(plan)
        blank = planner.Names(
            name,
            tuple(f"tensor {i}" for i in range(tensors)),
            tuple(f"parameter {i}" for i in range(parameters)),
            ("",) * parameters,
            tuple(f"operation {i}" for i in range(ops)),
        )
        found = planner.decode(plan, blank, data).ops
        names = _names(blank, found)
        net = planner.decode(plan, names, data)
    except (ValueError, ModelError):
        return None
    image = ParameterImage.of(net)
    return Model(net, plan, image) if image.data == data else None


def _names(blank: planner.Names, ops: tuple[Op, ...]) -> planner.Names:
    """Names that say what things are: operation and number, layer and role."""
    titles = tuple(f"{type(op).__name__.lower()}{i}" for i, op in enumerate(ops))
    layers, parameters = list(blank.layers), list(blank.parameters)
    for op, title in zip(reversed(ops), reversed(titles), strict=True):
        for k, parameter in enumerate(op.parameters):
            at = blank.parameters.index(parameter)
            layers[at], parameters[at] = title, f"{title}/{k}"
    tensors = list(blank.tensors)
    for op, title in zip(ops, titles, strict=True):
        tensors[blank.tensors.index(op.output)] = title
    tensors[blank.tensors.index(ops[0].input)] = "input"
    return planner.Names(blank.network, tuple(tensors), tuple(parameters), tuple(layers), titles)


def check_same(model: Model, elf: Elf, where: str) -> None:
    """Raise InputError unless a firmware holds this model."""
    if (_object(elf, "model_plan"), _object(elf, "model_image")) != (model.plan, model.image.data):
        raise InputError(
            f"{where}: holds another network than {model.network.name}; build it again, or give the ELF alone"
        )


def _object(elf: Elf, name: str) -> bytes | None:
    symbol = elf.symbol(name)
    return elf.read(symbol.address, symbol.size) if symbol else None

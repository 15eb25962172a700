"""Measure what firmware takes beside its network, on every board, and write zobnn_edge/audit/sizes.json.

For every core the firmware of a few small networks is built, in one folder, so that only what depends on the network
is compiled again. A symbol that is in all of them is always linked; one that is in some belongs to the features that
only those networks have. Further boards of a core differ in what is always linked: one build each.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from converters.c_header import c_header
from zobnn_edge.audit.audit import Audit, Firmware, PartRow, StackRow, audit_firmware
from zobnn_edge.audit.kernels import features
from zobnn_edge.audit.prediction import SIZES, own_bytes
from zobnn_edge.boards import boards, firmware_folder, tomllib
from zobnn_edge.encoding import INT8, Binary, Encoding, Float32, Int32, Uniform
from zobnn_edge.files import write_atomic
from zobnn_edge.model_file import Model
from zobnn_edge.network import Builder, Network, Pixels
from zobnn_edge.operations import (
    Add,
    AddInt8,
    Affine,
    AveragePool,
    Clip,
    Concat,
    Conv,
    ConvInt8,
    Dequantize,
    DynamicRange,
    GatedConv,
    LowBit,
    MaxPool,
    Mul,
    Op,
    Pad,
    PRelu,
    Quantize,
    Reshape,
    Sign,
    Softmax,
    SoftmaxInt8,
    Thermometer,
    Threshold,
    Unpack,
)
from zobnn_edge.tensor import Quantization, Shape

CHANNELS = 4
STEPS = Quantization(1 / 32, 3)
ROOMY = 1 << 20
"""Bytes of arena with which binary convolutions look up."""


class Sketch:
    """A network of four channels in the making; `x` is the tensor that it has come to."""

    def __init__(self, shape: Shape = (4, 4, CHANNELS), quantization: Quantization | None = None) -> None:
        self.b = Builder("sketch", shape, Pixels(1 / 128, -1.0), quantization)
        self.x = self.b.input

    def add(self, op: Callable[..., Op], *arguments: Any, **options: Any) -> Sketch:
        name = f"{len(self.b.tensors)}"
        self.x = self.b.add(op(name, self.x, name, *arguments, **options))
        return self

    def parameter(self, role: str, shape: tuple[int, ...], encoding: Encoding | None = None) -> str:
        name = f"p{len(self.b.parameters)}"
        return self.b.parameter(name, name, role, np.ones(shape), encoding or Float32())  # type: ignore[arg-type]

    def conv(self, encoding: Encoding | None = None, out: int = CHANNELS, kernel: int = 1) -> Sketch:
        return self.add(Conv, self.parameter("weight", (out, kernel, kernel, CHANNELS), encoding))

    def affine(self, channels: int = CHANNELS) -> Sketch:
        return self.add(Affine, self.parameter("scale", (channels,)), self.parameter("bias", (channels,)))

    def integer(self) -> Sketch:
        parameters = (
            self.parameter("weight", (CHANNELS, 1, 1, CHANNELS), INT8),
            self.parameter("bias", (CHANNELS,), Int32()),
            self.parameter("scale", (CHANNELS, 2), Int32()),
        )
        return self.add(ConvInt8, *parameters, STEPS)

    def network(self) -> Network:
        return self.b.network(self.x)


def sketches() -> Iterator[Network]:
    """Networks that have one feature after the other, with as little else as can be."""
    coded, bits = Uniform(8, 1.0, 128), Binary(row=CHANNELS)
    byte = {"quantization": Quantization(1 / 128, 0)}
    plain: list[tuple[Any, ...]] = [(Clip,), (Softmax,), (DynamicRange,), (Sign,), (LowBit, 0.5), (Thermometer, 4, 0.5)]
    plain += [(Pad, (1, 0), (0, 1)), (Reshape, (1, 1, 16 * CHANNELS)), (MaxPool, (2, 2), (2, 2))]
    plain += [(AveragePool, (2, 2), (2, 2)), (Quantize, STEPS)]
    to_real = {Sign: Unpack, LowBit: Unpack, Thermometer: Unpack, Quantize: Dequantize}
    for op, *arguments in plain:
        s = Sketch().affine().add(op, *arguments)
        yield (s.add(to_real[op]) if op in to_real else s).network()
    for op in (Add, Mul, Concat):
        s = Sketch().affine()
        yield s.add(op, s.b.input).network()
    yield Sketch().affine().network()
    for role, step in (("slope", PRelu), ("threshold", Threshold)):
        s = Sketch()
        s.add(step, s.parameter(role, (CHANNELS,)))
        yield (s.affine() if step is PRelu else s.add(Unpack)).network()
    yield Sketch().conv().network()
    yield Sketch().add(Sign).conv(bits).network()
    yield Sketch((24, 24, CHANNELS)).add(Sign).conv(bits, 32, 3).network()
    yield Sketch().add(Sign).add(MaxPool, (2, 2), (2, 2)).add(Unpack).affine().network()
    for kind in (coded, Binary()):
        yield Sketch(**byte).conv(kind).network()
        yield Sketch(**byte).conv(kind).add(Sign).add(Unpack).network()
    yield from _gated(bits)
    for op, *arguments in ((MaxPool, (2, 2), (2, 2)), (AveragePool, (2, 2), (2, 2)), (Reshape, (1, 1, 16 * CHANNELS))):
        yield Sketch().add(Quantize, STEPS).integer().add(op, *arguments).add(Dequantize).network()
    s = Sketch().add(Quantize, STEPS).integer()
    before = s.x
    s.integer()
    yield s.add(AddInt8, before, s.parameter("scale", (3, 2), Int32()), STEPS).add(Dequantize).network()
    s = Sketch((1, 1, CHANNELS)).add(Quantize, STEPS).integer()
    yield s.add(SoftmaxInt8, s.parameter("scale", (1, 2), Int32())).add(Dequantize).network()


def _gated(bits: Encoding) -> Iterator[Network]:
    """A gated convolution that counts, and one that looks up."""
    for size, out, kernel in ((4, CHANNELS, 1), (24, 32, 3)):
        s = Sketch((size, size, CHANNELS)).affine()
        real = s.x
        low = s.add(LowBit, 0.5).x
        s.x = real
        weight = s.parameter("weight", (out, kernel, kernel, CHANNELS), bits)
        yield s.add(Sign).add(GatedConv, low, weight, s.parameter("threshold", (out,))).network()


def models() -> list[Model]:
    """The sketches ready to run; those of which another has all features and no more are left out."""
    found: dict[frozenset[str], Model] = {}
    for net in sketches():
        for arena in (0, ROOMY):
            model = Model.of(net, arena)
            found.setdefault(features(model), model)
    return list(found.values())


@dataclass(frozen=True)
class Sizes:
    """What firmware takes: bytes by features and place, the stack from reset by feature, and of an interrupt."""

    groups: dict[tuple[str, ...], Counter[str]]
    main: dict[str, int]
    interrupt: int

    def as_json(self) -> dict[str, Any]:
        groups = [{"when": list(when), "bytes": dict(sorted(n.items()))} for when, n in sorted(self.groups.items())]
        return {"groups": groups, "stack": {"main": dict(sorted(self.main.items())), "interrupt": self.interrupt}}


def measure(board: str, variants: list[Model]) -> Sizes:
    """Sizes of one board."""
    audits = list(_built(board, variants))
    main: dict[str, int] = {}
    for model, audit in zip(variants, audits, strict=True):
        for feature in features(model):
            main[feature] = min(_stack(audit).main, main.get(feature, _stack(audit).main))
    linked = [_symbols(audit.parts, model) for model, audit in zip(variants, audits, strict=True)]
    return Sizes(_groups(linked, [features(m) for m in variants]), main, _stack(audits[0]).interrupt)


def carry_over(like: Sizes, board: str, variant: Model) -> Sizes:
    """Sizes of a board whose code is compiled like another's: what the two differ in is seen in one network."""
    [audit] = _built(board, [variant])
    always = Counter[str]()
    for (region, role, _), size in _symbols(audit.parts, variant).items():
        always[f"{region} {role}"] += size
    for when, n in like.groups.items():
        if when and features(variant) & set(when):
            always.subtract(n)
    deeper = _stack(audit).main - max(like.main[feature] for feature in features(variant))
    main = {feature: depth + deeper for feature, depth in like.main.items()}
    return Sizes({**like.groups, (): always}, main, _stack(audit).interrupt)


def _built(board: str, variants: list[Model]) -> Iterator[Audit]:
    """Audits of the firmware of some networks."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, build = Path(temporary), Path(temporary) / "build"
        for i, model in enumerate(variants):
            (folder / "model.h").write_text(c_header(model))
            if i == 0:
                options = ["-G", "Ninja", f"-DZOB_BOARD={board}", f"-DZOB_MODEL_DIR={folder}"]
                _run("cmake", "-S", str(firmware_folder()), "-B", str(build), *options)
            _run("cmake", "--build", str(build))
            graphs = tuple(sorted(build.glob("[ae]*/**/*.ci")))
            yield audit_firmware(Firmware.read(build / "firmware.elf", build / "firmware.map", graphs), model=model)


def _stack(audit: Audit) -> StackRow:
    assert audit.stack is not None
    assert audit.stack.worst is not None, audit.notes
    return audit.stack


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


def _symbols(parts: tuple[PartRow, ...], model: Model) -> Counter[tuple[str, str, str]]:
    """Bytes by region, role and symbol of what is not the network's own."""
    found = Counter[tuple[str, str, str]]()
    own = {place for place in own_bytes(model) if place[1] != "static"} | {("RAM", "stack"), ("RAM", "padding")}
    for p in parts:
        if (p.region, p.role) not in own and p.symbol != "scores" and p.section != ".rodata" * (p.role == "padding"):
            found[p.region, p.role, f"{p.object}:{p.symbol}"] += p.bytes
    return found


def _groups(
    linked: list[Counter[tuple[str, str, str]]], asked: list[frozenset[str]]
) -> dict[tuple[str, ...], Counter[str]]:
    """Bytes by region and role in groups: those always linked, and those that come with some features."""
    sums: dict[tuple[str, ...], Counter[str]] = {(): Counter()}
    for symbol in sorted({s for one in linked for s in one}):
        region, role, _ = symbol
        has = [symbol in one for one in linked]
        when = () if all(has) else _only(asked, has)
        usual, _ = Counter(one[symbol] for one in linked if symbol in one).most_common(1)[0]
        sums.setdefault(when, Counter())[f"{region} {role}"] += usual
    return sums


def _only(asked: list[frozenset[str]], has: list[bool]) -> tuple[str, ...]:
    """The features that bring what only some networks have: those that no other network has."""
    of_others = frozenset[str]().union(*(a for a, yes in zip(asked, has, strict=True) if not yes))
    return tuple(sorted(frozenset[str]().union(*(a for a, yes in zip(asked, has, strict=True) if yes)) - of_others))


def _measured(alike: list[str], variants: list[Model]) -> dict[str, dict[str, Any]]:
    """Sizes of boards whose code is compiled in the same way."""
    first = measure(alike[0], variants)
    found = {alike[0]: first.as_json()}
    return found | {name: carry_over(first, name, variants[0]).as_json() for name in alike[1:]}


def _flags(board: str) -> str:
    """The compiler's options for a board."""
    return str(tomllib.loads((firmware_folder() / "boards" / board / "board.toml").read_text())["flags"])


def main() -> None:
    """Measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("boards", nargs="*", help="boards to measure anew; by default all")
    names = parser.parse_args().boards or [n for n, b in boards().items() if b.toolchain == "arm-none-eabi"]
    variants = models()
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(_flags(name), []).append(name)
    with ThreadPoolExecutor(2) as pool:
        measured = {
            name: sizes
            for part in pool.map(lambda a: _measured(a, variants), alike.values())
            for name, sizes in part.items()
        }
    before = json.loads(SIZES.read_text())["boards"] if SIZES.exists() else {}
    kept = {name: before[name] for name in before if name in boards()}
    write_atomic(SIZES, json.dumps({"boards": dict(sorted((kept | measured).items()))}, indent=1) + "\n")
    print(f"{SIZES}: {len(measured)} boards, {len(variants)} networks each")


if __name__ == "__main__":
    main()

"""Measure what firmware takes beside its network, on every board, and write zobnn_edge/audit/sizes.json.

Of every board the firmware of one small network is built twice: with what it needs of the engine, which is what every
network has, and with all of it. Which functions come with a feature follows from the call graph of the second: those
that are reached only through functions of that feature.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from converters.c_header import c_header
from zobnn_edge.audit.audit import Audit, Firmware, PartRow, audit_firmware
from zobnn_edge.audit.elf import Elf
from zobnn_edge.audit.kernels import FEATURES, NEEDS, without
from zobnn_edge.audit.prediction import SIZES, own_bytes
from zobnn_edge.audit.stack import reached, worst_case
from zobnn_edge.boards import boards, firmware_folder
from zobnn_edge.encoding import Float32
from zobnn_edge.files import write_atomic
from zobnn_edge.model_file import Model
from zobnn_edge.network import Builder
from zobnn_edge.operations import Affine


def least_model() -> Model:
    """A network of one operation."""
    b = Builder("sketch", (1, 1, 4))
    bias = b.parameter("bias", "bias", "bias", np.ones(4), Float32())
    return Model.of(b.network(b.add(Affine("affine", b.input, "affine", None, bias))))


def measure(board: str) -> dict[str, Any]:
    """Sizes of one board."""
    model = least_model()
    least = audit_firmware(_built(board, c_header(model)), model=model)
    all_bits = re.sub(r"(MODEL_(?:OPS|KERNELS)) 0x[0-9A-F]+u", r"\1 0xFFFFFFFFu", c_header(model))
    firmware = _built(board, all_bits)
    whole = audit_firmware(firmware, model=model)
    main = {}
    for feature in FEATURES:
        found = worst_case(firmware.elf, firmware.frames, without(_alone(feature)))
        assert found is not None
        assert found.bytes is not None, (found.recursion, found.unbounded)
        main[feature], interrupt = found.main, found.interrupt
    groups = _groups(firmware.elf, whole, model) | {(): _own(least, model)}
    listed = [{"when": list(when), "bytes": dict(sorted(n.items()))} for when, n in sorted(groups.items())]
    return {"groups": listed, "stack": {"main": main, "interrupt": interrupt}}


def _built(board: str, header: str) -> Firmware:
    """The firmware of a board with a network's header."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, build = Path(temporary), Path(temporary) / "build"
        (folder / "model.h").write_text(header)
        options = ["-G", "Ninja", f"-DZOB_BOARD={board}", f"-DZOB_MODEL_DIR={folder}"]
        _run("cmake", "-S", str(firmware_folder()), "-B", str(build), *options)
        _run("cmake", "--build", str(build))
        graphs = tuple(sorted(build.glob("[ae]*/**/*.ci")))
        return Firmware.read(build / "firmware.elf", build / "firmware.map", graphs)


def _alone(feature: str) -> frozenset[str]:
    """A feature with what it needs."""
    return frozenset({feature, NEEDS.get(feature, feature)})


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


def _others(audit: Audit, model: Model) -> Iterator[PartRow]:
    """Parts that are not the network's own."""
    own = {place for place in own_bytes(model) if place[1] != "static"} | {("RAM", "stack"), ("RAM", "padding")}
    for p in audit.parts:
        aligns = p.section == ".rodata" and p.role == "padding"
        if (p.region, p.role) not in own and p.symbol != "scores" and not aligns:
            yield p


def _own(audit: Audit, model: Model) -> Counter[str]:
    """Bytes by region and role of what every network has."""
    sums = Counter[str]()
    for p in _others(audit, model):
        sums[f"{p.region} {p.role}"] += p.bytes
    return sums


def _groups(elf: Elf, audit: Audit, model: Model) -> dict[tuple[str, ...], Counter[str]]:
    """Bytes by region and role of what comes with some features; padding goes with the function before it."""
    everything, always = reached(elf), reached(elf, without(frozenset()))
    by_feature = {feature: reached(elf, without(_alone(feature))) for feature in FEATURES}
    sums: dict[tuple[str, ...], Counter[str]] = {}
    before = 0
    for p in _others(audit, model):
        before = before if p.role == "padding" else p.address
        if before in everything - always:
            when = tuple(feature for feature, found in by_feature.items() if before in found)
            sums.setdefault(when, Counter())[f"{p.region} {p.role}"] += p.bytes
    return sums


def main() -> None:
    """Measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("boards", nargs="*", help="boards to measure anew; by default all")
    names = parser.parse_args().boards or [n for n, b in boards().items() if b.toolchain == "arm-none-eabi"]
    with ThreadPoolExecutor(2) as pool:
        measured = dict(zip(names, pool.map(measure, names), strict=True))
    before = json.loads(SIZES.read_text())["boards"] if SIZES.exists() else {}
    kept = {name: before[name] for name in before if name in boards()}
    write_atomic(SIZES, json.dumps({"boards": dict(sorted((kept | measured).items()))}, indent=1) + "\n")
    print(f"{SIZES}: {len(measured)} boards")


if __name__ == "__main__":
    main()

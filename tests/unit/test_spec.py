"""docs/spec.md is exact: its examples are what the code does, its tables are the declarations."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from zobnn_edge import _engine
from zobnn_edge.encoding import Binary, Encoding, Protected, Uniform, pack
from zobnn_edge.engine import random_order
from zobnn_edge.protection import Hamming, Secded, Voted

ROOT = Path(__file__).parents[2]


def example(name: str) -> str:
    text = (ROOT / "docs" / "spec.md").read_text()
    found = re.search(rf"<!-- example: {name} -->`([^`]*)`<!-- end -->", text)
    assert found, name
    return found.group(1)


def test_generated_files_are_up_to_date() -> None:
    run = subprocess.run([sys.executable, ROOT / "tools/generate.py", "--check"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_encoding_examples() -> None:
    codes = np.array([0xABC, 0x123, 0xFFF], np.uint32)
    assert pack(codes, Uniform(12, 1.0, 0)).hex(" ").upper() == example("twelve-bit")
    row = Binary(row=3)
    assert pack(row.encode(np.array([-1.0, 1.0, -1.0])), row).hex(" ").upper() == example("row")


def test_protection_examples() -> None:
    def stored(codes: list[int], encoding: Encoding) -> str:
        return pack(np.array(codes, np.uint32), encoding).hex(" ").upper()

    assert stored([0xA5, 0x3C], Protected(Uniform(8, 1.0, 0), Hamming())) == example("hamming")
    assert stored([0x2D, 0x13], Protected(Uniform(6, 1.0, 0), Voted(3))) == example("voted")
    assert stored([0xABC, 0x123], Protected(Uniform(12, 1.0, 0), Secded())) == example("secded")
    assert stored([0x11, 0x22], Uniform(8, 0.5, 3, scales="ram")) == example("scales")


def test_generator_examples() -> None:
    assert " ".join(f"{w:08X}" for w in _engine.philox((0, 0, 0, 0), (0, 0))) == example("philox")
    assert " ".join(map(str, random_order(0, 10, 10, 7))) == example("order")

"""The package is quick to import, and TensorFlow stays where it belongs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = [
    *("network", "encoding", "image", "plan", "model_file", "harden", "engine", "reference", "firmware", "boards"),
    *("elf", "flash", "ports", "pytest_plugin"),
    *("link.client", "targets", "campaign.runner", "faults.statistics", "report.table", "cli.main"),
]


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_no_room_imports_tensorflow() -> None:
    modules = [f"zobnn_edge.{room}" for room in ROOMS] + ["converters.lce", "converters.c_header"]
    loaded = python(f"import sys, {', '.join(modules)}; print([m for m in sys.modules if m in ('tensorflow', 'larq')])")
    assert loaded.strip() == "[]"


def test_only_the_importer_and_the_zoo_mention_tensorflow() -> None:
    pattern = re.compile(r"^\s*(import|from) (tensorflow|larq|tf_keras|keras)\b", re.M)
    allowed = {"converters/larq.py", "converters/keras.py"}
    for path in [*ROOT.glob("zobnn_edge/**/*.py"), *ROOT.glob("converters/**/*.py")]:
        name = path.relative_to(ROOT).as_posix()
        if name not in allowed and not name.startswith("zobnn_edge/zoo/"):
            assert not pattern.search(path.read_text()), name


def test_importing_the_package_takes_under_300_ms() -> None:
    """The best of three, in a fresh interpreter, NumPy included in what it loads."""
    code = "import time; t = time.perf_counter(); import zobnn_edge; print(time.perf_counter() - t)"
    assert min(float(python(code)) for _ in range(3)) < 0.3

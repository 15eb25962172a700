"""Building and running fuzz targets: clang's libFuzzer with the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from converters.c_header import c_header
from tests.networks import Author
from zobnn_edge.boards import firmware_folder
from zobnn_edge.errors import ToolError
from zobnn_edge.model_file import Model

HERE = Path(__file__).parent
ENGINE, AGENT, BOARDS = (firmware_folder() / name for name in ("engine", "agent", "boards"))
AGENT_SOURCES = {
    "frame": [AGENT / "frame.c"],
    "agent": [AGENT / "frame.c", AGENT / "commands.c", AGENT / "network.c"],
    "plan": [],
}
TARGETS = list(AGENT_SOURCES)
_COVERED = "-fsanitize=fuzzer-no-link,address,undefined"
_LINKED = ["-fsanitize=fuzzer,address,undefined", "-no-pie"]
_FLAGS = [
    "-std=c99",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-O1",
    "-g",
    "-ffp-contract=off",
    "-fno-omit-frame-pointer",
    "-fno-sanitize-recover=all",
]
_BOARD = ['-DBOARD_NAME="fuzz"', "-DBOARD_CLOCK_HZ=0u", "-DMSG_MAX_PAYLOAD=1024u"]


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `summary` is one line with inputs tried and coverage, or what went wrong."""

    failed: bool
    summary: str
    executions: int


@cache
def clang() -> str:
    """The compiler; raises ToolError when it is missing, or cannot link fuzz targets."""
    for found in filter(None, map(shutil.which, ("clang", "clang-18", "clang-16", "clang-15", "clang-14"))):
        target = b"int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return d && n ? 0 : 0; }"
        attempt = [found, "-fsanitize=fuzzer,address,undefined", "-x", "c", "-", "-o", os.devnull]
        if subprocess.run(attempt, input=target, capture_output=True, check=False).returncode == 0:
            return found
    raise ToolError("fuzzing needs clang with libFuzzer, which is not on PATH; install clang and libclang-rt-dev")


def victim() -> Model:
    """The network in the agent that is attacked: small, with gaps between its parameters and a few kinds of them."""
    a = Author((2, 2, 3), 3).conv(5, 2, weight=7).threshold(5, 2.0)
    return Model.of(a.dense(3).affine(12).network())


def build(name: str, folder: Path, changed: Path | None = None) -> Path:
    """Compile a target into a folder, which is made; returns the program. `changed` replaces the source of its name."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.h").write_text(c_header(victim()))
    objects = engine(folder.parent)
    sources = [HERE / f"{name}.c", *AGENT_SOURCES[name]]
    if changed and changed.stem in objects:
        objects = {**objects, changed.stem: changed}
    elif changed:
        sources = [changed if source.name == changed.name and source.parent != HERE else source for source in sources]
    program = folder / f"fuzz_{name}"
    includes = [f"-I{path}" for path in (folder, ENGINE, AGENT, BOARDS)]
    _clang(*_LINKED, *_BOARD, *includes, *sources, *objects.values(), "-o", program)
    return program


@cache
def engine(folder: Path) -> dict[str, Path]:
    """The engine's object files by name, compiled once for all targets."""
    objects = {source.stem: folder / f"{source.stem}.o" for source in sorted(ENGINE.glob("*.c"))}
    for name, file in objects.items():
        _clang(_COVERED, f"-I{ENGINE}", "-c", ENGINE / f"{name}.c", "-o", file)
    return objects


def _clang(*arguments: str | Path) -> None:
    subprocess.run([clang(), *_FLAGS, *arguments], check=True)


def corpus(name: str) -> Path:
    """The folder of inputs that reach what is known to be reachable, and of those that once made a target fail."""
    return HERE / "corpus" / name


def fuzz(program: Path, found: Path, options: list[str]) -> Outcome:
    """Run a target from its corpus on; new inputs and those that make it fail go to `found`."""
    seeds = corpus(program.name.removeprefix("fuzz_"))
    limits = ["-timeout=20", "-max_len=4096", "-print_final_stats=1", f"-artifact_prefix={found}/"]
    run = subprocess.run([program, *limits, *options, found, seeds], capture_output=True, text=True, check=False)
    tried = re.search(r"stat::number_of_executed_units:\s*(\d+)", run.stderr)
    reached = re.findall(r"cov: (\d+) ft: (\d+)", run.stderr)
    executions = int(tried[1]) if tried else 0
    if run.returncode:
        reason = re.search(r"(ERROR: .*|.*runtime error: .*)", run.stderr)
        why = reason[1].strip() if reason else f"exit code {run.returncode}"
        return Outcome(True, f"{why}; the input is in {found}\n{run.stderr[-3000:]}", executions)
    edges, features = reached[-1] if reached else ("0", "0")
    return Outcome(False, f"{executions:,} inputs, {edges} edges, {features} features, no finding", executions)

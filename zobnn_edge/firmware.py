"""Building the firmware: engine, agent, board and one network, into one ELF file.

A build is kept under a key of everything that goes into it, so that the same network is not built twice; and the engine
under a key of its own, so that another network of the same operations takes little more than linking. Beside the ELF
file lie what the tools say of it and `zobnn audit` reads: the linker's map and GCC's call graphs.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from converters.c_header import c_header
from zobnn_edge.boards import Board, board, firmware_folder
from zobnn_edge.engine import Engine
from zobnn_edge.errors import InputError, ToolError
from zobnn_edge.files import write_atomic
from zobnn_edge.model_file import Model

_COMPILERS = {"arm-none-eabi": "arm-none-eabi-gcc", "native": "cc"}
_INSTALL = {
    "arm-none-eabi-gcc": "install gcc-arm-none-eabi and libnewlib-arm-none-eabi",
    "cc": "install gcc",
    "cmake": "install cmake",
}
_EXECUTABLE = 0o777
_KEPT = re.compile(r"^#define \w+_(?:OPS|KERNELS|SMALL) .*$", re.MULTILINE)
_PLAN_IN_RAM = "#define MODEL_PLAN_IN_RAM\n"

COMPANIONS = (".map", ".ci")
"""Suffixes of the files beside the ELF file: the linker's map, GCC's call graphs with the stack that functions use."""


def build(model: Model, board_name: str, output: Path) -> Path:
    """Write the firmware of a model for a board to `output` (an ELF file), whole or not at all; returns `output`.

    Its companions, the map and the call graphs, lie beside it under the same name with their own suffixes.

    Raises InputError for an unknown board or an output that cannot be written, and ToolError when a tool is missing,
    the network does not fit the board (with the bytes that are missing), or the build fails; ModelError for a plan
    that the engine refuses.
    """
    cached = built(model, board_name)
    write_atomic(output, cached.read_bytes(), _EXECUTABLE)
    for suffix in COMPANIONS:
        if output.suffix != suffix:
            write_atomic(output.with_suffix(suffix), cached.with_suffix(suffix).read_bytes())
    return output


def built(model: Model, board_name: str, plan_in_ram: bool = False) -> Path:
    """The firmware of a model for a board in the cache, built if need be; `plan_in_ram` for faults in the plan, which
    else lies in flash. Raises as `build` does."""
    target = board(board_name)
    header = c_header(model) + (_PLAN_IN_RAM if plan_in_ram else "")
    if not _place(header, target).exists():
        Engine(model.plan)  # the firmware's engine trusts the plan it was built with
    return built_with(header, target)


def built_with(header: str, target: Board) -> Path:
    """The same of a network's C header, whose plan is not checked."""
    cached = _place(header, target)
    if not cached.exists():
        try:
            cached.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{cached.parent}: cannot be made: {error.strerror}; set XDG_CACHE_HOME") from None
        made = _compile(header, target)
        for suffix in COMPANIONS:
            write_atomic(cached.with_suffix(suffix), made[suffix])
        write_atomic(cached, made[".elf"], _EXECUTABLE)  # last: where it is, the others are
    return cached


def _place(header: str, target: Board) -> Path:
    return cache_folder() / f"{_key(header, target)}.elf"


def cache_folder() -> Path:
    """Where builds are kept: `$XDG_CACHE_HOME/zobnn-edge/firmware`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "zobnn-edge" / "firmware"


def _key(header: str | list[str], target: Board) -> str:
    """SHA-256 of all that decides what the ELF contains; or, of the lines of the header that say which operations and
    kernels are kept, and whether size is preferred, of what decides the engine's code."""
    digest = hashlib.sha256()
    folder = firmware_folder()
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            digest.update(f"{file.relative_to(folder)}\0{file.stat().st_size}\0".encode())
            digest.update(file.read_bytes())
    flags = os.environ.get("CFLAGS", "")  # CMake heeds it
    digest.update(f"{target.name}\0{_compiler_version(target)}\0{flags}\0".encode())
    digest.update(repr(header).encode())
    return digest.hexdigest()


def _compiler_version(target: Board) -> str:
    compiler = _tool(_COMPILERS[target.toolchain])
    return subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout


def _tool(name: str) -> str:
    """The path of an outside program, on PATH or installed with this package; raises ToolError when it is missing."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if not found:
        raise ToolError(f"building firmware needs {name}, which is not on PATH; {_INSTALL[name]}")
    return found


def _compile(header: str, target: Board) -> dict[str, bytes]:
    """Build; returns the contents of the ELF file and of its companions by suffix."""
    with tempfile.TemporaryDirectory(prefix="zobnn-") as temporary:
        folder, build = Path(temporary), Path(temporary) / "build"
        (folder / "model.h").write_text(header)
        engine = cache_folder() / f"{_key(_KEPT.findall(header), target)}.a"
        configure = [_tool("cmake"), "-S", str(firmware_folder()), "-B", str(build)]
        configure += [f"-DZOB_BOARD={target.name}", f"-DZOB_MODEL_DIR={folder}", *_generator()]
        configure += [f"-DZOB_ENGINE={engine}"] if engine.exists() else []
        _run(configure, target)
        _run([_tool("cmake"), "--build", str(build), "--parallel"], target)
        if not engine.exists() and engine.parent.exists():
            write_atomic(engine.with_suffix(".ci"), _graphs(build, "engine", folder))
            write_atomic(engine, (build / "engine/libzob_engine.a").read_bytes())  # last: where it is, the other is
        graphs = _graphs(build, "agent", folder) + engine.with_suffix(".ci").read_bytes()
        link_map = (build / "firmware.map").read_bytes()
        return {".elf": (build / "firmware.elf").read_bytes(), ".map": link_map, ".ci": graphs}


def _graphs(build: Path, room: str, model: Path) -> bytes:
    """The call graphs of a room of the firmware: as in the debug information, the same wherever the sources lie."""
    graphs = "".join(file.read_text() for file in sorted(build.glob(f"{room}/**/*.ci")))
    for place, name in ((firmware_folder(), "."), (build, "build"), (model, "model")):
        graphs = graphs.replace(str(place), name)
    return graphs.encode()


def _generator() -> list[str]:
    ninja = shutil.which("ninja") or shutil.which("ninja", path=str(Path(sys.executable).parent))
    return ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"] if ninja else ["-G", "Unix Makefiles"]


def _run(command: list[str], target: Board) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise ToolError(_reason(result.stdout + result.stderr, target))


def _reason(log: str, target: Board) -> str:
    """The one line of a failed build's log that says why."""
    over = dict(re.findall(r"region `(\w+)' overflowed by (\d+) bytes", log))
    if over:
        sizes = {"FLASH": target.flash.bytes, "RAM": target.ram.bytes}
        short = " and ".join(f"{region} of {sizes[region]} bytes by {n} bytes" for region, n in over.items())
        return f"{target.name}: the network does not fit: it exceeds {short}; take a larger board or a smaller network"
    lines = [line.strip() for line in log.splitlines() if line.strip()] or ["no output"]
    why = next(
        (line for line in lines if re.search(r"error\b(?!=)", line, re.IGNORECASE) and "-Werror" not in line), lines[-1]
    )
    return f"{target.name}: building the firmware failed: {why}"

"""Building firmware: for every board, without a warning, whole or not at all, and once."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from converters.c_header import c_header
from tests.networks import Author
from zobnn_edge import firmware
from zobnn_edge.boards import Board, board, boards, firmware_folder, tomllib
from zobnn_edge.elf import FirmwareFile
from zobnn_edge.errors import InputError, ToolError
from zobnn_edge.firmware import build, built
from zobnn_edge.model_file import Model

every_board = pytest.mark.parametrize("name", list(boards()))


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def too_large() -> Model:
    """A model whose image takes 150 000 bytes."""
    return Model.of(Author((1, 1, 1200)).dense(1000).network())


@every_board
def test_every_board_builds_without_a_warning(name: str, model: Model) -> None:
    """Warnings are errors in all builds of these tests (conftest.py)."""
    assert os.environ["CFLAGS"] == "-Werror"
    assert built(model, name).exists()


@pytest.mark.parametrize("name", ["mps2-an386"])
def test_a_board_builds_by_cmake_alone(name: str, model: Model, tmp_path: Path) -> None:
    """What is loaded is the same as with the engine built before."""
    (tmp_path / "model.h").write_text(c_header(model))
    options = [f"-DZOB_BOARD={name}", f"-DZOB_MODEL_DIR={tmp_path}"]
    configure = ["cmake", "-S", str(firmware_folder()), "-B", str(tmp_path / "b"), *options]
    for command in (configure, ["cmake", "--build", str(tmp_path / "b"), "--parallel", "2"]):
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
    alone = FirmwareFile.read(tmp_path / "b/firmware.elf")
    assert alone.segments == FirmwareFile.read(built(model, name)).segments


ALLOCATORS = {"malloc", "calloc", "realloc", "free", "_malloc_r", "_free_r", "_sbrk", "_sbrk_r"}


@every_board
def test_nothing_allocates_memory(name: str, model: Model) -> None:
    """No allocator is linked in; on this machine, none is called."""
    table = ELFFile(io.BytesIO(built(model, name).read_bytes())).get_section_by_name(".symtab")
    names = {symbol.name.partition("@")[0] for symbol in table.iter_symbols()}
    assert "zob_run" in names
    assert not names & ALLOCATORS


@every_board
def test_the_image_lies_alone_in_its_section_inside_the_boards_ram(name: str, model: Model) -> None:
    elf = ELFFile(io.BytesIO(built(model, name).read_bytes()))
    section = elf.get_section_by_name(".parameters")
    ram = board(name).ram
    assert section["sh_size"] == -(-len(model.image.data) // 8) * 8
    assert ram.origin <= section["sh_addr"] < section["sh_addr"] + section["sh_size"] <= ram.origin + ram.bytes
    symbols = {s.name: s for s in elf.get_section_by_name(".symtab").iter_symbols()}
    assert symbols["image"]["st_value"] == section["sh_addr"]
    flash = symbols["model_image"]
    data = elf.get_section(flash["st_shndx"])
    start = flash["st_value"] - data["sh_addr"]
    assert data.data()[start : start + flash["st_size"]] == model.image.data


def test_a_build_holds_no_path_of_the_machine(model: Model) -> None:
    data = built(model, "mps2-an386").read_bytes()
    assert str(firmware_folder()).encode() not in data
    assert b"/tmp/zobnn" not in data


def test_the_same_build_twice_is_one_file_and_the_same_bytes(
    own_cache: Path, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(model, "mps2-an386", tmp_path / "a.elf").read_bytes()
    again = firmware._compile(c_header(model), board("mps2-an386"))
    assert again[".elf"] == first, "sources and model decide all bytes"
    monkeypatch.setattr(firmware, "_compile", lambda *_: pytest.fail("compiled again"))
    assert build(model, "mps2-an386", tmp_path / "b.elf").read_bytes() == first
    assert len(list(own_cache.rglob("*.elf"))) == 1


def test_another_network_board_or_source_is_another_build(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    header, an386 = c_header(model), board("mps2-an386")
    keys = {firmware._key(header, an386), firmware._key(header + "\n", an386)}
    keys.add(firmware._key(header, board("netduinoplus2")))
    monkeypatch.setattr(firmware, "_compiler_version", lambda _: "another")
    keys.add(firmware._key(header, an386))
    assert len(keys) == 4


@pytest.mark.parametrize(("name", "ram"), [("netduinoplus2", 131072), ("microbit", 16384), ("stm32vldiscovery", 8192)])
def test_a_network_too_large_says_by_how_much(name: str, ram: int, own_cache: Path, tmp_path: Path) -> None:
    output = tmp_path / "fw.elf"
    exceeds = rf"(FLASH of 131072 bytes by \d+ bytes and )?RAM of {ram} bytes by \d+ bytes"
    with pytest.raises(ToolError, match=rf"^{name}: the network does not fit: it exceeds {exceeds}; take"):
        build(too_large(), name, output)
    assert not output.exists()
    assert not list(own_cache.rglob("*.elf"))


def test_without_a_compiler_the_way_out_is_named(
    own_cache: Path, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolError, match=r"needs arm-none-eabi-gcc, which is not on PATH; install gcc-arm-none-eabi"):
        build(model, "mps2-an386", tmp_path / "fw.elf")


def test_a_failed_build_is_one_line(own_cache: Path, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"^mps2-an386: building the firmware failed: .*error.*$") as caught:
        firmware._compile("#error no network\n", board("mps2-an386"))
    assert "\n" not in str(caught.value)


def test_an_output_in_no_folder_is_one_line(model: Model, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written: No such file"):
        build(model, "mps2-an386", tmp_path / "nowhere" / "fw.elf")


def test_a_cache_that_cannot_be_made_is_one_line(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"cannot be made: .*set XDG_CACHE_HOME"):
        built(model, "mps2-an386")


def test_an_unknown_board_is_refused_with_those_there_are(model: Model, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no board nosuch; the boards are .*mps2-an386"):
        build(model, "nosuch", tmp_path / "fw.elf")


@every_board
def test_a_board_file_keeps_to_what_cmake_reads(name: str) -> None:
    """One `key = value` a line, keys that do not repeat: the build reads the file without a parser of TOML."""
    text = (firmware_folder() / "boards" / name / "board.toml").read_text()
    lines = [line.partition(" = ") for line in text.splitlines() if line and not line.startswith(("[", "#"))]
    table = tomllib.loads(text)
    flat = {k: v for value in [table, *table.values()] if isinstance(value, dict) for k, v in value.items()}
    assert [key for key, _, _ in lines] == list(dict.fromkeys(key for key, _, _ in lines))
    assert {key for key, _, _ in lines} <= set(flat)
    assert isinstance(board(name), Board)


@pytest.mark.parametrize("text", ["", "description = 1\n[memory]\n", "not toml ="])
def test_a_damaged_board_file_is_one_line(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "boards" / "broken"
    folder.mkdir(parents=True)
    (folder / "board.toml").write_text(text)
    monkeypatch.setattr("zobnn_edge.boards.firmware_folder", lambda: tmp_path)
    boards.cache_clear()
    try:
        with pytest.raises(InputError, match=r"broken/board\.toml: not a usable board file"):
            boards()
    finally:
        monkeypatch.undo()
        boards.cache_clear()


@every_board
def test_an_emulated_boards_timer_can_count_instructions(name: str) -> None:
    """At least two ticks an instruction, or exactly one: only then do counts round right (counter.h)."""
    emulator = tomllib.loads((firmware_folder() / "boards" / name / "board.toml").read_text()).get("emulator")
    if emulator:
        ticks = emulator["timer_hz"] * 2 ** emulator["icount_shift"] / 1e9
        assert ticks == 1 or ticks >= 2

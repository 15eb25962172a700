"""Flashing: what fits no board is refused, tools get exact commands, their failures are one line, writes are verified.

The tools are scripts that record their arguments; pyOCD is the real library up to where it would touch a probe.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock, create_autospec

import pytest
from typer.testing import CliRunner

from zobnn_edge import flash, ports
from zobnn_edge.boards import Memory, board, boards
from zobnn_edge.cli.main import app, run
from zobnn_edge.elf import FirmwareFile
from zobnn_edge.errors import InputError, TargetError, ToolError, ZobnnError
from zobnn_edge.firmware import built
from zobnn_edge.model_file import Model
from zobnn_edge.targets import open_target

NUCLEO, DISCOVERY, PICO = "nucleo-f446re", "stm32f407-discovery", "pico"
ST_LINK = (0x0483, 0x374B)


@dataclass
class Usb:
    """What pyserial tells of a port."""

    device: str
    vid: int | None
    pid: int | None
    product: str | None
    serial_number: str | None


PORTS = [
    Usb("/dev/ttyS0", None, None, None, None),
    Usb("/dev/ttyACM1", *ST_LINK, "STM32 STLink", "0671FF"),
    Usb("/dev/ttyACM0", *ST_LINK, "STM32 STLink", "066FAA"),
    Usb("/dev/ttyACM2", 0x2E8A, 0x000C, "Debug Probe (CMSIS-DAP)", "E66058"),
    Usb("/dev/ttyUSB0", 0x0403, 0x6001, None, None),
]


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> list[Usb]:
    """The ports there are; none to begin with."""
    there: list[Usb] = []
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: there)
    return there


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder first on PATH, for fake tools."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def fake(folder: Path, name: str, body: str = "") -> Path:
    """A tool that writes its arguments, one call a line, to the file that is returned, and then runs `body`."""
    log = folder / f"{name}.log"
    (folder / name).write_text(
        f'#!/bin/sh\nfor a in "$@"; do printf "[%s]" "$a"; done >> {log}\necho >> {log}\n{body}\n'
    )
    (folder / name).chmod(0o755)
    return log


def firmware_of(name: str, model: Model) -> FirmwareFile:
    return FirmwareFile.read(built(model, name))


def do(steps: list[flash.Step]) -> list[str]:
    """Carry out steps and return what was said."""
    said: list[str] = []
    flash.flash(steps, said.append)
    return said


@pytest.mark.parametrize("name", [name for name, b in boards().items() if b.probe or b.emulator])
def test_a_boards_own_firmware_fits_and_no_other_boards(name: str, model: Model) -> None:
    firmware = firmware_of(name, model)
    assert firmware.board == name
    assert firmware.image_crc == model.image.crc
    firmware.check(board(name))
    for other in set(boards()) - {name}:
        with pytest.raises(
            InputError, match=f"firmware for {name}, not for {other}; zobnn build --board {other} makes"
        ):
            firmware.check(board(other))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"core": "cortex-m0"}, "not code for the cortex-m0 of nucleo-f446re"),
        ({"core": "cortex-m33"}, "not code for the cortex-m33"),
        ({"flash": Memory(0x08000000, 0x400)}, r"\d+ bytes at 0x08000000 lie outside the flash of nucleo-f446re"),
        (
            {"flash": Memory(0x08004000, 0x80000)},
            r"lie outside the flash of nucleo-f446re \(0x08004000, 524288 bytes\)",
        ),
        ({"ram": Memory(0x20000000, 0x800)}, "lie outside the RAM of nucleo-f446re"),
        ({"ram": Memory(0x10000000, 0x20000)}, "lie outside the RAM of nucleo-f446re"),
        ({"toolchain": "native"}, "code for ARM; nucleo-f446re runs code for"),
    ],
)
def test_firmware_that_does_not_fit_is_refused(change: dict[str, object], line: str, model: Model) -> None:
    """Also when nothing in the file says whose it is."""
    anonymous = replace(firmware_of(NUCLEO, model), board=None)
    anonymous.check(board(NUCLEO))
    with pytest.raises(InputError, match=line) as caught:
        anonymous.check(replace(board(NUCLEO), **change))
    assert "\n" not in str(caught.value)


def test_files_that_are_no_firmware_are_refused(model: Model, tmp_path: Path) -> None:
    whole = built(model, NUCLEO).read_bytes()
    for name, data in {"empty": b"", "text": b"hello", "cut": whole[:2000], "header": whole[:52] + bytes(5000)}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=f"{name}: not a firmware: ") as caught:
            FirmwareFile.read(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="there is no such file"):
        FirmwareFile.read(tmp_path / "missing.elf")


def test_what_is_written_is_what_objcopy_makes_of_it(model: Model, tmp_path: Path) -> None:
    out = tmp_path / "out.bin"
    command = ["arm-none-eabi-objcopy", "-O", "binary", built(model, NUCLEO), out]
    subprocess.run(command, check=True)
    start, image = firmware_of(NUCLEO, model).binary()
    assert start == board(NUCLEO).flash.origin
    assert image[: len(out.read_bytes())] == out.read_bytes()
    assert len(image) - len(out.read_bytes()) < 8


def test_openocd_gets_configuration_probe_and_file(tools: Path, model: Model, plugged: list[Usb]) -> None:
    plugged += PORTS
    log = fake(tools, "openocd")
    firmware = firmware_of(NUCLEO, model)
    do(flash.steps(firmware, board(NUCLEO), "openocd", "0671"))
    assert log.read_text() == (
        "[-f][interface/stlink.cfg][-f][target/stm32f4x.cfg][-c][adapter serial 0671FF]"
        f"[-c][program {{{firmware.path}}} verify reset exit]\n"
    )


def test_a_serial_number_of_a_probe_without_a_port_is_passed_on(tools: Path, model: Model, plugged: list[Usb]) -> None:
    log = fake(tools, "openocd")
    do(flash.steps(firmware_of(DISCOVERY, model), board(DISCOVERY), "openocd", "0123456789"))
    assert "[-c][adapter serial 0123456789]" in log.read_text()
    do(flash.steps(firmware_of(DISCOVERY, model), board(DISCOVERY), "openocd"))
    assert "adapter" not in log.read_text().splitlines()[1]


def test_several_probes_of_the_board_must_be_told_apart(model: Model, plugged: list[Usb]) -> None:
    plugged += PORTS
    those = (
        r"2 ports may be nucleo-f446re's; name one: /dev/ttyACM0 \(STM32 STLink, serial number 066FAA\), /dev/ttyACM1"
    )
    for probe in (None, "stlink"):
        with pytest.raises(InputError, match=those):
            flash.steps(firmware_of(NUCLEO, model), board(NUCLEO), "openocd", probe)


def test_a_tool_that_fails_is_one_line(tools: Path, model: Model, plugged: list[Usb]) -> None:
    fake(tools, "openocd", "echo Open On-Chip Debugger; echo 'Error: open failed' >&2; exit 3")
    with pytest.raises(ToolError, match=r"^openocd failed with exit code 3: Error: open failed$"):
        do(flash.steps(firmware_of(NUCLEO, model), board(NUCLEO), "openocd"))
    fake(tools, "openocd", "exit 1")
    with pytest.raises(ToolError, match=r"^openocd failed with exit code 1: it says nothing$"):
        do(flash.steps(firmware_of(NUCLEO, model), board(NUCLEO), "openocd"))


FLASH_CHIP = '[ "$1" = --serial ] && shift 2\n[ $1 = write ] && cp $2 {chip}\n[ $1 = read ] && {read}\nexit 0'


def test_st_flash_writes_reads_back_and_resets(tools: Path, model: Model, plugged: list[Usb], tmp_path: Path) -> None:
    plugged += PORTS
    chip = tmp_path / "chip"
    log = fake(tools, "st-flash", FLASH_CHIP.format(chip=chip, read=f"cp {chip} $2"))
    firmware = firmware_of(NUCLEO, model)
    steps = flash.steps(firmware, board(NUCLEO), "st-flash", "066FAA")
    said = do(steps)
    start, image = firmware.binary()
    assert chip.read_bytes() == image
    assert log.read_text().splitlines() == [
        f"[--serial][066FAA][write][written.bin][0x{start:08x}]",
        f"[--serial][066FAA][read][read.bin][0x{start:08x}][{len(image)}]",
        "[--serial][066FAA][reset]",
    ]
    assert said == [step.text for step in steps]


@pytest.mark.parametrize(
    ("read", "at"),
    [("cp {chip} $2; printf X | dd of=$2 bs=1 seek=1000 conv=notrunc status=none", 0x080003E8), ("true", 0x08000000)],
)
def test_a_write_that_did_not_take_is_noticed(
    read: str, at: int, tools: Path, model: Model, plugged: list[Usb], tmp_path: Path
) -> None:
    chip = tmp_path / "chip"
    log = fake(tools, "st-flash", FLASH_CHIP.format(chip=chip, read=read.format(chip=chip)))
    with pytest.raises(ToolError, match=f"verifying failed: flash differs from 0x{at:08X} on"):
        do(flash.steps(firmware_of(NUCLEO, model), board(NUCLEO), "st-flash"))
    assert "reset" not in log.read_text(), "what is not verified is not started"


@pytest.mark.parametrize(
    ("name", "tool", "line"),
    [
        (PICO, "st-flash", "st-flash is for STM32, pico has an RP2040; use --tool pyocd or openocd"),
        ("mps2-an386", "openocd", "mps2-an386 has no debug probe; use --tool restart"),
        (NUCLEO, "restart", "nothing emulates nucleo-f446re"),
        (NUCLEO, "hammer", "there is no tool hammer; the tools are pyocd, openocd, st-flash, restart"),
    ],
)
def test_a_tool_that_is_not_for_the_board_is_refused(name: str, tool: str, line: str, model: Model) -> None:
    with pytest.raises(InputError, match=line):
        flash.steps(firmware_of(name, model), board(name), tool)


def test_without_a_tool_the_ways_out_are_named(
    model: Model, monkeypatch: pytest.MonkeyPatch, plugged: list[Usb]
) -> None:
    firmware = firmware_of(NUCLEO, model)
    monkeypatch.setattr(flash, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolError, match=r"needs a tool: pip install 'zobnn-edge\[flash\]'; or install openocd; or"):
        flash.steps(firmware, board(NUCLEO))
    with pytest.raises(ToolError, match="openocd is not on PATH; install openocd"):
        do(flash.steps(firmware, board(NUCLEO), "openocd"))


def test_what_is_installed_is_taken(
    tools: Path, model: Model, monkeypatch: pytest.MonkeyPatch, plugged: list[Usb]
) -> None:
    firmware = firmware_of(NUCLEO, model)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setattr(flash, "find_spec", lambda _: None)
    fake(tools, "st-flash")
    assert flash.steps(firmware, board(NUCLEO))[1].text.startswith("st-flash write")
    fake(tools, "openocd")
    assert flash.steps(firmware, board(NUCLEO))[0].text.startswith("openocd -f")
    monkeypatch.setattr(flash, "find_spec", lambda _: object())
    assert flash.steps(firmware, board(NUCLEO))[0].text.startswith("pyOCD: by the only debug probe")


@pytest.mark.parametrize("name", ["native", "mps2-an386", "microbit"])
def test_an_emulated_board_is_flashed_by_a_start(name: str, model: Model) -> None:
    (said,) = do(flash.steps(firmware_of(name, model), board(name), "restart"))
    assert said.startswith("start /")


def test_another_firmware_on_the_board_is_noticed(model: Model) -> None:
    firmware = replace(firmware_of("native", model), image_crc=1)
    with pytest.raises(TargetError, match=r"^native: another firmware answers, of native"):
        do(flash.steps(firmware, board("native")))


def test_firmware_that_ends_at_once_is_one_line(model: Model) -> None:
    firmware = replace(firmware_of("native", model), path=Path("/bin/true"))
    with pytest.raises(TargetError, match=r"^native: the firmware ended at once$"):
        do(flash.steps(firmware, board("native")))


def test_after_a_flash_the_firmware_is_asked_on_its_port(
    tools: Path, model: Model, plugged: list[Usb], monkeypatch: pytest.MonkeyPatch
) -> None:
    plugged += PORTS
    fake(tools, "openocd")
    opened = []

    def nobody(port: str, baud: int) -> None:
        opened.append((port, baud))
        raise TargetError(f"{port}: the serial port cannot be opened")

    monkeypatch.setattr(flash, "SerialTransport", nobody)
    for port, expected in (("auto", "/dev/ttyACM1"), ("/dev/ttyUSB0", "/dev/ttyUSB0")):
        with pytest.raises(TargetError, match=f"{expected}: the serial port cannot be opened"):
            do(flash.steps(firmware_of(NUCLEO, model), board(NUCLEO), "openocd", "0671FF", port))
    assert opened == [("/dev/ttyACM1", 115200), ("/dev/ttyUSB0", 115200)]


# The command line.


def test_dry_run_prints_the_exact_command_and_runs_nothing(tools: Path, model: Model, plugged: list[Usb]) -> None:
    log = fake(tools, "openocd")
    path = built(model, NUCLEO)
    result = CliRunner().invoke(app, ["flash", str(path), "--board", NUCLEO, "--tool", "openocd", "--dry-run"])
    assert result.exit_code == 0
    command = f"openocd -f interface/stlink.cfg -f target/stm32f4x.cfg -c 'program {{{path}}} verify reset exit'"
    assert result.output.strip() == command
    assert not log.exists()
    subprocess.run(["sh", "-c", command], check=True)
    assert log.exists(), "a shell takes what is printed"


def test_the_verb_flashes_a_native_board(model: Model) -> None:
    result = CliRunner().invoke(app, ["flash", str(built(model, "native")), "--board", "native"])
    assert result.exit_code == 0, result.output
    assert result.output.endswith("is on native, verified\n")


def test_another_boards_firmware_is_one_line_and_exit_code_2(model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["flash", str(built(model, PICO)), "--board", NUCLEO, "--dry-run"]) == 2
    assert "firmware for pico, not for nucleo-f446re" in capsys.readouterr().err


# Ports.


def test_a_port_is_found_by_its_boards_usb_ids(plugged: list[Usb]) -> None:
    plugged += PORTS
    assert ports.resolve(PICO) == "/dev/ttyACM2"
    assert ports.find(NUCLEO, "066f").device == "/dev/ttyACM0"
    assert ports.find(None, "debug probe").device == "/dev/ttyACM2"
    for text in ("/dev/ttyS0", "COM4", "socket://127.0.0.1:1"):
        assert ports.resolve(text) == text
    plugged[:] = PORTS[3:]
    assert ports.resolve("auto") == "/dev/ttyACM2"


@pytest.mark.parametrize(
    ("text", "there", "line"),
    [
        (
            "auto",
            PORTS,
            r"3 ports may be a board's; name one: /dev/ttyACM0 \(.*066FAA\), /dev/ttyACM1 .*, /dev/ttyACM2",
        ),
        ("auto", PORTS[:1], r"no serial port of a board found; is it plugged in\? USB serial ports: none"),
        (PICO, PORTS[:3], r"no serial port of pico found; .*: /dev/ttyACM0 \(STM32 STLink, serial number 066FAA\), "),
        (PICO, PORTS[4:], r"USB serial ports: /dev/ttyUSB0 \(0403:6001, serial number \?\)"),
        (DISCOVERY, PORTS, "stm32f407-discovery has no serial port on USB of its own; name the adapter's"),
        ("mps2-an386", PORTS, "mps2-an386 has no serial port on USB of its own"),
    ],
)
def test_none_or_several_are_listed(text: str, there: list[Usb], line: str, plugged: list[Usb], model: Model) -> None:
    plugged += there
    with pytest.raises(InputError, match=line):
        open_target(f"serial:{text}", model)


# pyOCD.


class Chip:
    """Flash behind a pyOCD session; `damage` is the offset of a bit that never takes, if any."""

    def __init__(self, damage: int | None = None) -> None:
        self.damage = damage
        self.memory: dict[int, int] = {}
        self.reset_count = 0

    def read_memory_block8(self, address: int, count: int) -> list[int]:
        return [self.memory.get(address + i, 0xFF) for i in range(count)]

    def reset(self) -> None:
        self.reset_count += 1


@pytest.fixture
def pyocd(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """pyOCD with two probes, sessions of which reach `chip`; its classes keep their signatures."""
    pytest.importorskip("pyocd")
    from pyocd.core import helpers, session
    from pyocd.flash import file_programmer
    from pyocd.probe.debug_probe import DebugProbe

    probes = []
    for description, number in (("STM32 STLink", "0671FF"), ("Picoprobe CMSIS-DAP", "E66058")):
        probe = create_autospec(DebugProbe, instance=True)
        probe.description, probe.unique_id = description, number
        probes.append(probe)
    state = SimpleNamespace(probes=probes, chip=Chip(), opened=[], error=None)

    def open_session(probe: object, options: dict[str, object]) -> MagicMock:
        if state.error:
            raise state.error
        state.opened.append((probe, options["target_override"]))
        opened = MagicMock()
        opened.__enter__.return_value.target = state.chip
        opened.__exit__.return_value = False
        return opened

    def program(path: str, file_format: str) -> None:
        assert file_format == "elf"
        for segment in FirmwareFile.read(Path(path)).segments:
            state.chip.memory |= {segment.flash_address + i: byte for i, byte in enumerate(segment.data)}
        if state.chip.damage is not None:
            state.chip.memory[state.chip.damage] ^= 1

    programmer = create_autospec(file_programmer.FileProgrammer)
    programmer.return_value.program.side_effect = program
    monkeypatch.setattr(file_programmer, "FileProgrammer", programmer)
    monkeypatch.setattr(session, "Session", create_autospec(session.Session, side_effect=open_session))
    listing = create_autospec(helpers.ConnectHelper.get_all_connected_probes, side_effect=lambda blocking: state.probes)
    monkeypatch.setattr(helpers.ConnectHelper, "get_all_connected_probes", listing)
    return state


@pytest.mark.parametrize("probe", ["0671", "stlink", "stm32 stlink (serial number 0671ff)"])
def test_pyocd_writes_reads_back_and_resets(probe: str, pyocd: SimpleNamespace, model: Model) -> None:
    do(flash.steps(firmware_of(NUCLEO, model), board(NUCLEO), "pyocd", probe))
    assert pyocd.opened == [(pyocd.probes[0], "stm32f446retx")]
    assert pyocd.chip.reset_count == 1
    pyocd.probes.pop()
    do(flash.steps(firmware_of(NUCLEO, model), board(NUCLEO), "pyocd"))


def test_pyocd_resets_and_does_nothing_else(pyocd: SimpleNamespace) -> None:
    do([flash.reset(board(NUCLEO), "0671")])
    assert pyocd.opened == [(pyocd.probes[0], "stm32f446retx")]
    assert (pyocd.chip.reset_count, pyocd.chip.memory) == (1, {})


def test_pyocd_does_not_start_what_is_not_verified(pyocd: SimpleNamespace, model: Model) -> None:
    pyocd.chip.damage = 0x08000123
    with pytest.raises(ToolError, match="verifying failed: flash differs from 0x08000123 on"):
        do(flash.steps(firmware_of(NUCLEO, model), board(NUCLEO), "pyocd", "0671FF"))
    assert pyocd.chip.reset_count == 0


def test_errors_of_pyocd_are_one_line(pyocd: SimpleNamespace, model: Model) -> None:
    from pyocd.core import exceptions

    def failing(probe: str | None = "0671FF") -> str:
        with pytest.raises(ZobnnError) as caught:
            do(flash.steps(firmware_of(NUCLEO, model), board(NUCLEO), "pyocd", probe))
        return str(caught.value)

    assert failing(None).startswith(
        "2 debug probes fit; name one by --probe: STM32 STLink (serial number 0671FF), Pico"
    )
    assert failing("J-Link").startswith("no debug probe called J-Link found; is it plugged in? There are: STM32")
    pyocd.error = exceptions.ProbeError("no\ntarget power")
    assert failing() == "pyOCD failed: no target power"
    pyocd.error = exceptions.TargetSupportError("unknown")
    assert failing() == "pyOCD does not know stm32f446retx yet; run: pyocd pack install stm32f446retx"
    pyocd.probes.clear()
    assert failing(None) == "no debug probe found; is it plugged in?"


def test_pyocd_knows_the_parts_that_need_no_pack() -> None:
    target = pytest.importorskip("pyocd.target")
    packs = {"netduinoplus2", "stm32vldiscovery", DISCOVERY, NUCLEO, "nucleo-l476rg"}
    for name, b in boards().items():
        if b.probe:
            assert (b.probe.pyocd in target.TARGET) == (name not in packs), name


def test_without_pyocd_the_way_out_is_named(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyocd.core.exceptions", None)
    with pytest.raises(ToolError, match=r"pyOCD is not installed; pip install 'zobnn-edge\[flash\]'"):
        do(flash.steps(firmware_of(NUCLEO, model), board(NUCLEO), "pyocd"))

"""The debug probe: that a flip was made is seen by somebody else than who made it; faults, hangs, foreign firmware."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from converters.c_header import c_header
from tests.boards.conftest import MAIN
from tests.boards.debug_port import Core, DebugPort, bitbang, remote_probe
from tests.networks import thresholds
from zobnn_edge import flash
from zobnn_edge.boards import CORES, Probe, board, firmware_folder
from zobnn_edge.campaign.bench import failure
from zobnn_edge.campaign.outcome import Outcome
from zobnn_edge.errors import InputError, TargetError
from zobnn_edge.firmware import built
from zobnn_edge.link.client import NoAnswer, Restarted
from zobnn_edge.link.remote import LR, PC, XPSR, Remote
from zobnn_edge.model_file import Model
from zobnn_edge.targets import emulated, open_target
from zobnn_edge.targets.emulated import EmulatedTarget, emulator_command
from zobnn_edge.targets.probe import ProbeTarget, symbols

HERE = Path(__file__).parent
LOOP = b"\xfe\xe7"  # b .
UNDEFINED = b"\x00\xde"  # udf #0
ELSEWHERE = 0x20300000  # SRAM that nothing uses


@pytest.fixture
def probed(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[EmulatedTarget, Remote]]:
    """A running board with the agent on its serial line and a debugger on the side."""
    path = tmp_path / "gdb"
    debugger = ["-chardev", f"socket,id=gdb0,path={path},server=on,wait=off", "-gdb", "chardev:gdb0"]
    plain = emulator_command
    monkeypatch.setattr(emulated, "emulator_command", lambda *a: plain(*a) + debugger)
    with open_target(MAIN, model) as target:
        assert isinstance(target, EmulatedTarget)
        with Remote(str(path)) as remote:
            remote.resume()
            yield target, remote


def test_the_probe_sees_what_the_agent_flipped(probed: tuple[EmulatedTarget, Remote], model: Model) -> None:
    target, remote = probed
    begin, size = target.info.memory_address, len(model.image.data)
    addresses = [0, 77, 1000, model.image.region("affine7/bias").first_bit + 31]
    for anywhere in (False, True):
        if anywhere:
            target.flip_memory("parameters", np.array(addresses))
        else:
            target.flip(addresses)
        remote.stop()
        assert remote.read(begin, size) == model.image.flipped(addresses).data, "these bits and no others"
        remote.resume()
        target.restore()


def test_a_hang_is_ended_by_the_watchdog_and_says_where(
    probed: tuple[EmulatedTarget, Remote], inputs: np.ndarray, model: Model
) -> None:
    """An inference is led into an endless loop."""
    target, remote = probed
    target.put_inputs(inputs)
    golden = target.run_plainly().scores
    remote.stop()
    remote.write(ELSEWHERE, LOOP)
    entry = symbols(built(model, "mps2-an386"))["network_run"]
    remote.set_breakpoint(entry)
    remote.resume()
    errors: list[TargetError] = []

    def run() -> None:
        with pytest.raises(TargetError) as caught:
            target.run()
        errors.append(caught.value)

    runner = threading.Thread(target=run)
    runner.start()
    assert remote.wait_stop(10)
    remote.clear_breakpoint(entry)
    remote.set_registers({PC: ELSEWHERE})
    remote.resume()
    runner.join()
    (error,) = errors
    assert isinstance(error, Restarted)
    assert f"watchdog at 0x{ELSEWHERE:08X}" in str(error)
    assert failure(error) is Outcome.HANG
    assert error.registers["pc"] == ELSEWHERE
    assert target.recover() == "reset command"
    assert target.run().scores.tobytes() == golden.tobytes()


@pytest.fixture(scope="module")
def own(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ELF file of firmware that is not the project's."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "model.h").write_text(c_header(model))
    engine = firmware_folder() / "engine"
    sources = [HERE / "own_firmware.c", *engine.glob("*.c"), *engine.glob("*.S")]
    flags = [
        "-mcpu=cortex-m4",
        "-mthumb",
        *CORES["cortex-m4"].split(),
        "-O2",
        "-ffp-contract=off",
        "-fno-tree-vectorize",
        "-ffunction-sections",
    ]
    linking = ["-nostartfiles", "--specs=nano.specs", "-Wl,--gc-sections", f"-T{HERE / 'own_firmware.ld'}"]
    elf = folder / "own.elf"
    command = ["arm-none-eabi-gcc", *flags, *linking, f"-I{folder}", f"-I{engine}", *map(str, sources), "-o", str(elf)]
    subprocess.run(command, check=True)
    return elf


@pytest.fixture
def stub(own: Path) -> Iterator[str]:
    """HOST:PORT of QEMU's stub at a board that runs it."""
    place = f"127.0.0.1:{free_port()}"
    command = [*emulator_command(board("mps2-an386"), own), "-S", "-gdb", f"tcp:{place}", "-serial", "null"]
    with running(command):
        answers(place)
        yield place


@pytest.fixture(params=["qemu", "openocd", "pyocd"])
def server(request: pytest.FixtureRequest, stub: str) -> Iterator[str]:
    """HOST:PORT of a debug server at that board: QEMU's own, or one that takes it for a part on a cable."""
    if request.param == "qemu":
        yield stub
        return
    with closing(Core(stub)) as core, served(request.param, DebugPort(core)) as place:
        yield place


@contextmanager
def served(tool: str, port: DebugPort) -> Iterator[str]:
    """A real debug server, as a user would start it, at a simulated debug port; skips where it is not installed."""
    program = shutil.which(tool, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if not program:
        pytest.skip(f"{tool} is not installed")
    listening = free_port()
    with running([program, *SERVERS[tool](port, listening)]):
        yield answers(f"127.0.0.1:{listening}")


def _openocd(port: DebugPort, listening: int) -> list[str]:
    ports = f"gdb_port {listening}; telnet_port disabled; tcl_port disabled; gdb_report_data_abort enable"
    return ["-c", ports, "-c", _configuration(port)]


def _configuration(port: DebugPort) -> str:
    """Adapter and part, as OpenOCD's files have them."""
    return f"""
        adapter driver remote_bitbang; remote_bitbang host 127.0.0.1; remote_bitbang port {bitbang(port)}
        jtag newtap part cpu -irlen 4 -expected-id {DebugPort.JTAG_ID}; dap create part.dap -chain-position part.cpu
        target create part.core cortex_m -dap part.dap; reset_config none; cortex_m reset_config sysresetreq"""


def _pyocd(port: DebugPort, listening: int) -> list[str]:
    probe = f"remote:127.0.0.1:{remote_probe(port)}"
    where = ["--uid", probe, "--target", "cortex_m", "--port", str(listening), "--telnet-port", "0"]
    return ["gdbserver", *where, "--no-config", "--persist", "-O", "cache.enable_memory=false"]


SERVERS = {"openocd": _openocd, "pyocd": _pyocd}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def running(command: list[str]) -> Iterator[None]:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def answers(place: str) -> str:
    """The place, as soon as somebody listens there; looked up, since to these servers a call is a debugger's."""
    port = f"{int(place.rpartition(':')[2]):04X}"
    for _ in range(1000):
        sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
        if any(local.endswith(f":{port}") and state == "0A" for _, local, _, state, *_ in sockets):
            return place
        time.sleep(0.02)
    raise TimeoutError(place)


def test_firmware_without_an_injector_can_be_hit(server: str, own: Path, model: Model) -> None:
    x = np.random.default_rng(1).integers(0, 256, (3, *model.network.input_shape), np.uint8)
    with open_target(f"gdb:{server},{own}", model) as target, open_target("host", model) as host:
        target.put_inputs(x)
        host.put_inputs(model.network.pixels.apply(x))
        for seed in range(3):
            assert target.run().scores.tobytes() == host.run().scores.tobytes()
            assert target.inject(0.01, seed) == host.inject(0.01, seed)
        target.reset()
        assert target.read() == model.image.data
        with pytest.raises(InputError, match="takes 8-bit inputs"):
            target.put_inputs(x.astype(np.float32))


def test_what_a_server_serves_is_the_memory_itself(server: str, stub: str, own: Path, model: Model) -> None:
    """Odd places and lengths, across a packet's and an address counter's end; seen again from another side."""
    rng = np.random.default_rng(2)
    with Remote(server) as remote:
        remote.reset()
        for at, count in ((ELSEWHERE, 4), (ELSEWHERE + 1, 1), (ELSEWHERE + 3, 7), (ELSEWHERE + 0xFFE, 3000)):
            data = rng.bytes(count)
            remote.write(at, data)
            assert remote.read(at, count) == data
        assert remote.read(ELSEWHERE + 0xFFE - 2, 1) == b"\0", "nothing is written beside"
        with pytest.raises(TargetError, match="memory at 0x50000000 cannot be read"):
            remote.read(0x50000000, 4)
        values = {n: int(rng.integers(1 << 32)) for n in range(13)}
        remote.set_registers(values)
        assert {n: value for n, value in enumerate(remote.registers()) if n < 13} == values
        remote.reset()
        entry = symbols(own)["zob_run"]
        remote.set_breakpoint(entry)
        remote.set_breakpoint(entry)
        remote.resume()
        assert remote.wait_stop(20)
        assert remote.registers()[PC] == entry & ~1
        assert remote.registers()[XPSR] >> 24 & 1, "Thumb code, so a register in the right place"
        remote.clear_breakpoint(entry)
        remote.resume()
        assert not remote.wait_stop(0.3), "the firmware runs on for ever"
        remote.stop()
        with pytest.raises(TargetError, match=r"refuses `monitor nonsense`: [^\n]+$"):
            remote.monitor("nonsense")
    counter = symbols(own)["classified"]
    with Remote(server) as remote:
        before = remote.read(counter, 4)
        remote.resume()
        assert not remote.wait_stop(0.3)
        remote.stop()
        assert remote.read(counter, 4) != before, "whoever leaves lets it run"


def test_openocd_resets_a_board_that_hangs(stub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the ladder of recovery does where there is a debug probe."""
    if not shutil.which("openocd"):
        pytest.skip("openocd is not installed")
    monkeypatch.setattr(flash, "find_spec", lambda name: None)
    with closing(Core(stub)) as core:
        (tmp_path / "part.cfg").write_text(_configuration(DebugPort(core)))
        nucleo = replace(board("nucleo-f446re"), probe=Probe("", (str(tmp_path / "part.cfg"),), ()))
        flash.flash([flash.reset(nucleo)], print)
        assert core.resets == 1


def test_memory_that_does_not_change_is_noticed(stub: str, own: Path, model: Model) -> None:
    """The image as if in flash."""
    with open_target(f"gdb:{stub},{own}", model) as target:
        assert isinstance(target, ProbeTarget)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Remote, "write", lambda *_: None)
            for change in (
                lambda: target.flip([5]),
                lambda: target.inject(0.1, 1),
                lambda: target.invert(np.array([5])),
            ):
                with pytest.raises(TargetError, match="keeps its value; does the image lie in flash"):
                    change()
        assert target.read() == model.image.data


def test_firmware_with_another_network_is_refused(stub: str, own: Path) -> None:
    with pytest.raises(TargetError, match="holds another network"):
        open_target(f"gdb:{stub},{own}", Model.of(thresholds(bits=None)))


def test_faults_and_hangs_seen_from_outside(server: str, own: Path, model: Model) -> None:
    """The way into the inference is changed to one that faults, then to one that never ends."""
    x = np.zeros((1, *model.network.input_shape), np.uint8)
    with open_target(f"gdb:{server},{own}", model) as target:
        assert isinstance(target, ProbeTarget)
        target.put_inputs(x)
        golden = target.run_plainly().scores
        call = target._call.registers
        entry = call[PC]
        target._gdb.write(ELSEWHERE, UNDEFINED)
        call[PC] = ELSEWHERE
        with pytest.raises(Restarted, match=f"exception 3 at 0x{ELSEWHERE:08X}, status 00010000") as crash:
            target.run()
        assert failure(crash.value) is Outcome.CRASH
        assert crash.value.registers["lr"] == call[LR]
        target.recover()
        assert target._call.registers[PC] == entry
        target._gdb.write(ELSEWHERE, LOOP)
        target._call.registers[PC] = ELSEWHERE
        with pytest.raises(NoAnswer, match=f"does not end; stopped at 0x{ELSEWHERE:08X}") as hang:
            target.run()
        assert failure(hang.value) is Outcome.HANG
        target.recover()
        within = symbols(own)["zob_run_ops"]
        target._gdb.set_breakpoint(within)
        with pytest.raises(Restarted, match=f"the core has stopped by itself at 0x{within & ~1:08X}") as stopped:
            target.run()
        assert failure(stopped.value) is Outcome.CRASH
        target.recover()
        assert target.run().scores.tobytes() == golden.tobytes()


def test_nobody_there_and_no_firmware_are_one_clear_line(model: Model, own: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(TargetError, match=r"^gdb:127\.0\.0\.1:\d+: no debug server answers there: [^\n]*$"):
        open_target(f"gdb:127.0.0.1:{port},{own}", model)
    (tmp_path / "x.elf").write_text("no ELF")
    with pytest.raises(InputError, match=r"x\.elf: not an ELF file"):
        open_target(f"gdb:127.0.0.1:{port},{tmp_path / 'x.elf'}", model)
    with pytest.raises(InputError, match=r"which firmware runs there\? gdb:localhost:3333,FW\.elf says so"):
        open_target("gdb:localhost:3333", model)
    with pytest.raises(InputError, match="there is no board nosuch"):
        open_target("gdb:nosuch", model)


class Stub:
    """A server that answers as it is told: by the letter of the protocol, not QEMU's."""

    def __init__(self, answers: dict[str, bytes]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.place = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked: list[str] = []
        self._answers = answers
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        peer, _ = self._listener.accept()
        rest = b""
        while data := peer.recv(4096):
            rest += data
            while b"#" in rest and len(rest.partition(b"#")[2]) >= 2:
                body, _, rest = rest.partition(b"#")
                rest, command = rest[2:], body.rpartition(b"$")[2].decode()
                self.asked.append(command)
                answer = next((a for start, a in self._answers.items() if command.startswith(start)), b"")
                peer.sendall(b"+$" + answer + b"#%02x" % (sum(answer) & 255))


def test_runs_and_escapes_are_expanded_and_packets_kept_small() -> None:
    stub = Stub({"qSupported": b"PacketSize=40;X+", "?": b"S05", "m": b"0* ", "g": b"xxxxxxxx0* 01"})
    with Remote(stub.place) as remote:
        assert not remote.is_qemu
        assert remote.read(0x100, 2) == bytes(2), "0* stands for four zeros"
        assert stub.asked[-1] == "m100,2"
        assert remote.read(0x100, 50) == bytes(50), "of a server that gives 2 at a time"
        assert stub.asked[-25:-23] == ["m100,18", "m102,18"]
        assert remote.registers()[0] == 0, "a register of no known value"


def test_an_answer_that_is_no_answer_is_one_clear_line() -> None:
    stub = Stub({"?": b"S05", "m": b"what?", "g": b"E.no such thread"})
    with Remote(stub.place) as remote:
        with pytest.raises(TargetError, match=r"the debug server answers 'what\?' where bytes should be$"):
            remote.read(0, 4)
        with pytest.raises(TargetError, match=r"the debug server answers 'E\.no such thread' where bytes should be$"):
            remote.registers()


def test_a_reset_is_asked_for_in_the_servers_own_words() -> None:
    words = b"reset halt".hex()
    stub = Stub({"qRcmd": b"OK", "?": b"T05"})
    with Remote(stub.place) as remote:
        remote.reset()
    assert f"qRcmd,{words}" in stub.asked


def test_where_there_are_no_breakpoints_in_hardware_others_are_taken() -> None:
    stub = Stub({"Z0": b"OK", "z0": b"OK", "?": b"T05", "m": b"E01"})
    with Remote(stub.place) as remote:
        remote.set_breakpoint(0x101)
        remote.clear_breakpoint(0x101)
        assert stub.asked[-3:] == ["Z1,100,2", "Z0,100,2", "z0,100,2"]
        with pytest.raises(TargetError, match=r"memory at 0x00000005 cannot be read \(E01\)"):
            remote.read(5, 1)


def test_a_server_that_would_read_its_own_cache_is_refused() -> None:
    """pyOCD's answer where it was not told otherwise."""
    stub = Stub({"qRcmd": b"Option 'cache.enable_memory' = True\n".hex().encode(), "?": b"T05"})
    with pytest.raises(TargetError, match=r"pyOCD reads its own cache; start it with -O cache\.enable_memory=false$"):
        Remote(stub.place)

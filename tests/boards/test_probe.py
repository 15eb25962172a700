"""The debug probe: that a flip was made is seen by somebody else than who made it; faults, hangs, foreign firmware."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from converters.c_header import c_header
from tests.boards.conftest import MAIN
from tests.networks import thresholds
from zobnn_edge.boards import CORES, board, firmware_folder
from zobnn_edge.campaign.bench import failure
from zobnn_edge.campaign.outcome import Outcome
from zobnn_edge.errors import InputError, TargetError
from zobnn_edge.firmware import built
from zobnn_edge.link.client import NoAnswer, Restarted
from zobnn_edge.link.remote import LR, PC, Remote
from zobnn_edge.model_file import Model
from zobnn_edge.targets import emulated, open_target
from zobnn_edge.targets.emulated import EmulatedTarget, emulator_command
from zobnn_edge.targets.probe import ProbeTarget, symbols

HERE = Path(__file__).parent
LOOP = b"\xfe\xe7"  # b .
SYSTEM_REGION = 0xE000E010  # no code can be executed there
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
def server(own: Path) -> Iterator[str]:
    """HOST:PORT of a debug server at a board that runs it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    command = [*emulator_command(board("mps2-an386"), own), "-S", "-gdb", f"tcp:{place}", "-serial", "null"]
    emulator = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    for _ in range(200):
        with socket.socket() as trial:
            host, _, port = place.partition(":")
            if trial.connect_ex((host, int(port))) == 0:
                break
        threading.Event().wait(0.02)
    yield place
    emulator.kill()
    emulator.wait()


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


def test_firmware_with_another_network_is_refused(server: str, own: Path) -> None:
    with pytest.raises(TargetError, match="holds another network"):
        open_target(f"gdb:{server},{own}", Model.of(thresholds(bits=None)))


def test_faults_and_hangs_seen_from_outside(server: str, own: Path, model: Model) -> None:
    """The way into the inference is changed to one that faults, then to one that never ends."""
    x = np.zeros((1, *model.network.input_shape), np.uint8)
    with open_target(f"gdb:{server},{own}", model) as target:
        assert isinstance(target, ProbeTarget)
        target.put_inputs(x)
        golden = target.run_plainly().scores
        call = target._call.registers
        entry = call[PC]
        call[PC] = SYSTEM_REGION
        with pytest.raises(Restarted, match="exception 3 at 0xE000E010, status 00000001") as crash:
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
        assert remote.read(0x100, 4) == bytes(2), "0* stands for four zeros"
        assert "m100,4" in stub.asked
        remote.read(0x100, 50)
        assert {"m100,18", "m118,18", "m130,2"} <= set(stub.asked)
        assert remote.registers()[0] == 0, "a register of no known value"


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

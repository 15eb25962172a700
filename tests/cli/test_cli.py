"""The command line: what it prints and writes, and that bad input ends with exit code 2, one line, nothing written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.networks import NETWORKS, Author, binary_chain, dyadic_inputs
from zobnn_edge import model_file, reference
from zobnn_edge.cli.main import run
from zobnn_edge.encoding import Uniform


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a float32 network, its inputs as floats and as pixels."""
    monkeypatch.chdir(tmp_path)
    net = binary_chain(1)
    model_file.save(net, tmp_path / "net.zob")
    np.save(tmp_path / "x.npy", dyadic_inputs(net, 12))
    np.save(tmp_path / "p.npy", np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8))
    return tmp_path


def test_help_lists_every_verb_in_one_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    for verb in (
        "import",
        "harden",
        "export",
        "predict",
        "show",
        "boards",
        "build",
        "inject",
        "campaign",
        "report",
        "audit",
        "demo",
    ):
        assert f"\n  {verb} " in out
    assert "..." not in out.split("Commands:")[1], "a summary is cut off"
    assert len(out.splitlines()) < 40


def test_harden_export_predict(folder: Path) -> None:
    assert run(["harden", "net.zob", "--bits", "8", "-o", "hard.zob"]) == 0
    hard = model_file.load(folder / "hard.zob")
    assert {p.encoding.bits for p in hard.network.parameters.values() if isinstance(p.encoding, Uniform)} == {8}
    assert run(["export", "hard.zob", "--tflite", "f.tflite", "--header", "model.h"]) == 0
    assert (folder / "f.tflite").read_bytes()[4:8] == b"TFL3"
    assert "hard" in (folder / "model.h").read_text() or "test" in (folder / "model.h").read_text()
    for inputs in ("x.npy", "p.npy"):
        assert run(["predict", "hard.zob", "--inputs", inputs, "-o", "y.npy"]) == 0
        y = np.load("y.npy")
        assert y.dtype == np.float32
        np.testing.assert_array_equal(y, reference.run(hard.network, np.load(inputs)))


def test_show_json_adds_up(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "net.zob", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    model = model_file.load(folder / "net.zob")
    assert shown["fault_bits"] == sum(p["bits"] for p in shown["parameters"]) == model.image.bits
    assert shown["macs"] == sum(op["macs"] for op in shown["operations"])
    assert shown["arena_bytes"] == model.arena_bytes
    assert run(["show", "net.zob"]) == 0
    out = capsys.readouterr().out
    for name in model.network.parameters:
        assert name in out


def test_inject_names_the_bits(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = model_file.load(folder / "net.zob")
    address = model.image.address("affine2/scale", (3,), 30)
    assert run(["inject", "net.zob", "--inputs", "x.npy", "--flip", str(address)]) == 0
    assert f"{address}: affine2/scale[3], bit 30" in capsys.readouterr().out
    arguments = ["inject", "net.zob", "--inputs", "x.npy", "--rate", "0.01", "--seed", "3", "--json"]
    assert run(arguments) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["flips"] == len(answer["addresses"]) > 0
    assert answer["restored"] is True
    assert run([*arguments, "--region", "affine2/scale"]) == 0
    region = model.image.region("affine2/scale")
    inside = [a for a in answer["addresses"] if 0 <= a - region.first_bit < region.bits]
    assert json.loads(capsys.readouterr().out)["addresses"] == inside


def test_boards(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["boards", "--json"]) == 0
    names = {board["name"] for board in json.loads(capsys.readouterr().out)}
    assert {"mps2-an386", "netduinoplus2"} <= names


BAD = {
    "missing file": (["show", "none.zob"], "none.zob: there is no such file"),
    "missing model": (["import", "none.h5", "-o", "out.zob"], "none.h5: there is no such file"),
    "missing inputs": (["predict", "net.zob", "--inputs", "none.npy", "-o", "out.npy"], "none.npy: there is no such"),
    "wrong shape": (
        ["predict", "net.zob", "--inputs", "wrong.npy", "-o", "out.npy"],
        "wrong.npy: inputs of shape (3, 9",
    ),
    "wrong type": (["predict", "net.zob", "--inputs", "f64.npy", "-o", "out.npy"], "f64.npy: inputs of type float64"),
    "no numbers": (["predict", "net.zob", "--inputs", "text.npy", "-o", "out.npy"], "text.npy: not a .npy file"),
    "pickle": (["predict", "net.zob", "--inputs", "object.npy", "-o", "out.npy"], "object.npy: not a .npy file"),
    "truncated": (["harden", "cut.zob", "-o", "out.zob"], "cut.zob: not a usable model file: it should have"),
    "bit-flipped": (["export", "flipped.zob", "--header", "out.h"], "flipped.zob: not a usable model file: the image"),
    "empty": (["show", "empty.zob"], "empty.zob: not a usable model file"),
    "no format": (["import", "text.npy", "-o", "out.zob"], "text.npy"),
    "unknown board": (["build", "net.zob", "--board", "nobody", "-o", "out.elf"], "mps2-an386"),
    "unknown target": (["predict", "net.zob", "--inputs", "x.npy", "-o", "out.npy", "--target", "moon"], "moon"),
    "unknown emulator": (["predict", "net.zob", "--inputs", "x.npy", "-o", "o.npy", "--target", "qemu:moon"], "moon"),
    "no port": (
        ["predict", "net.zob", "--inputs", "x.npy", "-o", "o.npy", "--target", "serial:/dev/none"],
        "/dev/none",
    ),
    "bits": (["harden", "net.zob", "--bits", "17", "-o", "out.zob"], "codes of 17 bits"),
    "no bits": (["harden", "net.zob", "--bits", "many", "-o", "out.zob"], "--bits"),
    "no output": (["harden", "net.zob"], "--output"),
    "no policy": (["harden", "net.zob", "--policy", "none", "-o", "out.zob"], "there is no policy none"),
    "suggest what": (["harden", "net.zob", "--suggest"], "--suggest needs --fault-rate"),
    "no folder": (["harden", "net.zob", "-o", "no/where/out.zob"], "cannot be written"),
    "nothing to export": (["export", "net.zob"], "--tflite"),
    "unknown verb": (["frobnicate"], "frobnicate"),
    "no fault set": (["inject", "net.zob", "--inputs", "x.npy"], "either --rate or --flip"),
    "rate": (["inject", "net.zob", "--inputs", "x.npy", "--rate", "2"], "fault rate of 2"),
    "bit": (["inject", "net.zob", "--inputs", "x.npy", "--flip", "99999999"], "bit 99999999 belongs to no parameter"),
    "region": (
        ["inject", "net.zob", "--inputs", "x.npy", "--rate", "0.1", "--region", "nobody"],
        "no parameter nobody",
    ),
    "zoo": (["show", "zoo:nobody"], "there is no zoo:nobody"),
    "data set": (["demo", "--dataset", "nobody"], "--dataset nobody"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, exactly one line on stderr that names the thing, and no file that was not there before."""
    np.save("wrong.npy", np.zeros((3, 9, 9, 1), np.float32))
    np.save("f64.npy", np.zeros((3, 8, 8, 1)))
    np.save("object.npy", np.array([{}], object))
    (folder / "text.npy").write_text("hello")
    data = (folder / "net.zob").read_bytes()
    (folder / "cut.zob").write_bytes(data[:-10])
    flipped = bytearray(data)
    flipped[model_file.fmt.FILE_HEADER.unpack(data)["image_offset"] + 5] ^= 8
    (folder / "flipped.zob").write_bytes(flipped)
    (folder / "empty.zob").write_bytes(b"")
    before = sorted(folder.rglob("*"))
    arguments, message = BAD[case]
    assert run(arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1, printed.err
    assert message in printed.err
    assert "Traceback" not in printed.err
    assert sorted(folder.rglob("*")) == before


def zobnn(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "zobnn_edge.cli.main", *arguments], capture_output=True, text=True)


def test_predicting_with_a_model_file_never_loads_tensorflow(folder: Path) -> None:
    code = (
        "import sys; from zobnn_edge.cli.main import run;"
        "code = run(['predict', 'net.zob', '--inputs', 'x.npy', '-o', 'y.npy']);"
        "sys.exit(code or any(m.split('.')[0] in ('tensorflow', 'larq', 'keras') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
    assert (folder / "y.npy").exists()


def test_version_and_usage_in_a_process_of_its_own() -> None:
    assert zobnn("--version").stdout.startswith("zobnn-edge ")
    wrong = zobnn("predict")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)


def test_every_network_can_be_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, make in NETWORKS.items():
        model_file.save(make(), tmp_path / f"{name}.zob")
        assert run(["show", str(tmp_path / f"{name}.zob")]) == 0
    assert "Softmax" in capsys.readouterr().out


def test_size_is_preferred_where_it_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["harden", "net.zob", "-o", "few.zob", "--prefer", "size"]) == 0
    assert model_file.load(folder / "few.zob").prefer == "size"
    assert "size preferred" in capsys.readouterr().out
    assert run(["show", "few.zob", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["prefer"] == "size"
    assert run(["harden", "net.zob", "-o", "x.zob", "--prefer", "size", "--arena", "9000"]) == 2
    assert "give one of them" in capsys.readouterr().err
    assert not (folder / "x.zob").exists()


def test_more_arena_buys_fewer_instructions_and_is_kept_in_the_file(folder: Path) -> None:
    net = Author((12, 12, 64), 0).sign().conv(64, 3, padding="same").affine().sign().dense(4).network()
    model_file.save(net, folder / "wide.zob")
    assert run(["harden", "wide.zob", "-o", "small.zob", "--arena", "0"]) == 0
    assert run(["harden", "wide.zob", "-o", "large.zob", "--arena", "65536"]) == 0
    small, large = (model_file.load(folder / f"{name}.zob") for name in ("small", "large"))
    assert small.arena_bytes < large.arena_bytes <= 65536
    assert {w.algorithm for w in small.work.values()} == {"count"}
    assert "table" in {w.algorithm for w in large.work.values()}

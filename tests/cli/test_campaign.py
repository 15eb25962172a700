"""The verbs campaign and report: what they print and write, and how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.networks import binary_chain, dyadic_inputs
from zobnn_edge import model_file, reference
from zobnn_edge.campaign import lanes
from zobnn_edge.campaign.bench import Bench
from zobnn_edge.campaign.journal import Control, Journal
from zobnn_edge.campaign.outcome import Outcome
from zobnn_edge.cli.main import run
from zobnn_edge.errors import InputError
from zobnn_edge.faults.sampling import sample_size
from zobnn_edge.harden import harden
from zobnn_edge.policy import Policy


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in: a network, hardened as well, and inputs that it classifies rightly without faults."""
    monkeypatch.chdir(tmp_path)
    net = binary_chain(1)
    model_file.save(net, tmp_path / "net.zob")
    model_file.save(harden(net, Policy(8)), tmp_path / "hard.zob")
    x = dyadic_inputs(net, 40)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", reference.run(net, x).argmax(axis=1))
    return tmp_path


def command(*more: str, net: str = "net.zob", journal: str = "run.db") -> list[str]:
    fixed = ["campaign", net, "--dataset", "x.npy,y.npy", "--images", "20", "--journal", journal, "--workers", "1"]
    return [*fixed, *more]


RATES = ("--rates", "1e-3:1e-2", "--trials", "12")


def test_a_campaign_and_its_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command(*RATES)) == 0
    assert "0.003" in capsys.readouterr().out
    assert run(command(*RATES, "--json")) == 0, "nothing is left to do"
    printed = json.loads(capsys.readouterr().out)["journals"]["run"]
    assert [p["amount"] for p in printed["points"]] == [0.001, 0.003, 0.01]
    assert {p["trials"] for p in printed["points"]} == {12}
    assert printed["fault_free"][0] == 100.0
    assert run(command(*RATES, net="hard.zob", journal="hard.db")) == 0
    capsys.readouterr()
    assert run(["report", "run.db", "hard.db", "-o", "r.html", "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    assert compared["journals"]["run"]["digest"] == printed["digest"]
    assert any("fewer points lost at 0.01" in line["text"] for line in compared["times_more_robust"])
    assert printed["digest"] in (folder / "r.html").read_text()


@pytest.mark.parametrize(
    ("options", "amounts", "trials"),
    [
        (("--model", "single", "--type", "S", "--bits", "31", "--trials", "all"), [1.0], None),
        (("--model", "single", "--type", "S", "--bits", "30,31", "--error", "8"), [1.0], 112),
        (("--model", "count", "--rates", "1e-3,1e-2", "--trials", "3"), [24.0, 240.0], 3),
        (("--model", "adjacent", "--counts", "2,4", "--trials", "3"), [2.0, 4.0], 3),
        (("--model", "burst", "--counts", "8", "--layer", "conv1", "--trials", "3", "--parts", "2"), [8.0], 3),
        (("--model", "stuck0", "--rates", "0.01", "--role", "weight", "--trials", "3"), [0.01], 3),
        (("--rates", "0.01", "--region", "affine2/scale", "--trials", "3"), [0.01], 3),
        (("--rates", "1e-5", "--trials", "1000", "--half-width", "5"), [1e-5], 100),
    ],
    ids=lambda options: " ".join(options[:4]) if isinstance(options, tuple) else "",
)
def test_fault_models(
    options: tuple[str, ...], amounts: list[float], trials: int | None, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command(*options, "--json")) == 0
    points = json.loads(capsys.readouterr().out)["journals"]["run"]["points"]
    image = model_file.load(folder / "net.zob").image
    if trials == 112:
        assert sample_size(2 * sum(r.count for r in image.regions if r.type == "S"), 0.08) == 112
    if trials is None:
        trials = sum(r.count for r in image.regions if r.type == "S")
    if options[1] == "count":
        amounts = [round(rate * image.bits) for rate in (1e-3, 1e-2)]
    assert [(p["amount"], p["trials"]) for p in points] == [(a, trials) for a in amounts]


BAD = {
    "no rates": ((), "--model rate: give --rates"),
    "rates": (("--rates", "1e-2:1e-6"), "--rates 1e-2:1e-6: give LOW:HIGH"),
    "no number": (("--rates", "low"), "--rates low: give numbers"),
    "rate": (("--rates", "2"), "a fault rate of 2"),
    "counts": (("--rates", "0.1", "--counts", "3"), "give --rates"),
    "no counts": (("--model", "burst", "--rates", "0.1"), "--model burst: give --counts"),
    "single": (("--model", "single", "--rates", "0.1"), "hits one bit a trial"),
    "model": (("--model", "cosmic", "--rates", "0.1"), "no fault model cosmic"),
    "trials": (("--rates", "0.1", "--trials", "few"), "--trials few"),
    "all": (("--rates", "0.1", "--trials", "all"), "--trials all is for --model single"),
    "error": (("--rates", "0.1", "--error", "1"), "--error is for --model single"),
    "error of nothing": (("--model", "single", "--error", "0"), "error 0: it must lie between 0 and 1"),
    "both": (("--model", "single", "--error", "1", "--trials", "5"), "leave --trials out"),
    "layer": (("--rates", "0.1", "--layer", "nobody"), "no layer nobody; there are conv1"),
    "bits": (("--rates", "0.1", "--bits", "high"), "--bits high"),
    "no bits": (("--rates", "0.1", "--type", "binary", "--bits", "9"), "no stored bit"),
    "images": (("--rates", "0.1", "--parts", "3"), "x.npy,y.npy has 40 test images, not 60"),
    "half width": (("--rates", "0.1", "--half-width", "100"), "half width"),
    "target": (("--rates", "0.1", "--target", "moon"), "there is no target 'moon'"),
    "twice": (("--rates", "0.1", "--target", "host", "--target", "host"), "a target is given twice"),
    "cluster": (("--rates", "0.1", "--cluster", "local", "--target", "qemu:mps2-an386"), "leave --target out"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, one line on stderr, no journal."""
    options, message = BAD[case]
    before = sorted(folder.iterdir())
    assert run(command(*options)) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1, printed.err
    assert message in printed.err
    assert sorted(folder.iterdir()) == before


def test_another_campaign_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command(*RATES)) == 0
    assert run(command(*RATES, "--seed", "1")) == 2
    assert "run.db: a journal of another campaign (inputs, plan, plan_hash differ)" in capsys.readouterr().err
    assert run(["report", "net.zob"]) == 2
    assert run(["report", "run.db", "run.db", "--export", "a.csv"]) == 2
    assert run(["report", "run.db", "--export", "a.txt"]) == 2


def test_an_invalid_campaign_ends_with_1(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Bench, "_control", lambda self: [Control("host", 7, Outcome.SDC_BENIGN)])
        assert run(command(*RATES)) == 1
    assert "the campaign is invalid" in capsys.readouterr().err
    for again in (command(*RATES), ["report", "run.db"]):
        assert run(again) == 1
        printed = capsys.readouterr()
        assert printed.err.count("\n") == 1
        assert "the campaign is invalid" in printed.err
        assert not printed.out


def endless(folder: Path, workers: int) -> subprocess.Popen[str]:
    """A long campaign that has begun, in a group of processes of its own."""
    arguments = command("--rates", "1e-3", "--trials", "100000")
    arguments[-arguments[::-1].index("--workers")] = str(workers)
    process = subprocess.Popen(
        [sys.executable, "-m", "zobnn_edge.cli.main", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 30
    while recorded(folder / "run.db") < 20 and time.monotonic() < deadline:
        time.sleep(0.05)
    return process


@pytest.mark.parametrize("workers", [1, 2])
def test_interrupted(workers: int, folder: Path) -> None:
    """Ctrl-C: exit code 130, what is done is recorded, and no process is left."""
    process = endless(folder, workers)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "zobnn: interrupted"
    assert ends(process.pid)
    assert recorded(folder / "run.db") >= 20


def test_killed(folder: Path) -> None:
    """kill -9 of the command alone: its workers end by themselves."""
    process = endless(folder, 2)
    process.kill()
    process.communicate(timeout=30)
    assert ends(process.pid)
    assert recorded(folder / "run.db") >= 20


def ends(group: int) -> bool:
    """Whether a group of processes is gone soon."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def recorded(path: Path) -> int:
    if not path.exists() or not path.stat().st_size:
        return 0
    try:
        with Journal(path) as journal:
            return len(list(journal.rows()))
    except InputError:  # it is just being made
        return 0


def test_a_cluster_runs_the_same_plan(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    assert run(command(*RATES)) == 0
    assert run([*command(*RATES, "--cluster", "local", journal="cluster.db")]) == 0
    with Journal(folder / "run.db") as here, Journal(folder / "cluster.db") as there:
        assert there.digest() == here.digest()
    capsys.readouterr()
    monkeypatch.setattr(lanes, "CONNECT_SECONDS", 0.5)
    assert run(command(*RATES, "--cluster", "tcp://127.0.0.1:1", journal="none.db")) == 2
    assert "no scheduler answers there" in capsys.readouterr().err


def test_worst_case(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three bits are found; injecting them gives the accuracy that was told."""
    options = ["--dataset", "x.npy,y.npy", "--images", "40", "--candidates", "300", "--trials", "20", "--flips", "3"]
    assert run(["worst-case", "net.zob", *options, "--type", "S", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fault_free"] == 100.0
    accuracies = [step["accuracy"] for step in found["steps"]]
    assert all(a <= step["random"][0] for a, step in zip(accuracies, found["steps"], strict=True))
    flips = [word for step in found["steps"] for word in ("--flip", str(step["address"]))]
    assert run(["inject", "net.zob", "--inputs", "x.npy", "--json", *flips]) == 0
    assert json.loads(capsys.readouterr().out)["top1_changed"] == round(40 * (1 - accuracies[-1] / 100))
    assert run(["worst-case", "net.zob", *options]) == 0
    assert "worst bits of 300 tried" in capsys.readouterr().out


def test_faults_beyond_the_parameters(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By name, on a target that can; the others say so in one line and leave no journal."""
    net, data = "net.zob", ["--dataset", "x.npy,y.npy", "--images", "2", "--trials", "4"]

    def campaign(*options: str) -> int:
        return run(["campaign", net, *data, "--journal", "wide.db", *options])

    arena = ["--space", "arena", "--model", "count", "--counts", "3"]
    assert campaign(*arena) == 2
    assert "say when faults come, by --at OP" in capsys.readouterr().err
    assert campaign(*arena, "--at", "nowhere") == 2
    assert "there is no operation nowhere; there are" in capsys.readouterr().err
    assert campaign("--space", "sram", "--model", "single", "--target", "native") == 2
    assert "give targets qemu:BOARD" in capsys.readouterr().err
    assert campaign("--space", "flash", "--model", "single") == 2
    assert "there is no fault space flash" in capsys.readouterr().err
    assert campaign("--space", "plan", "--model", "single") == 2
    assert "host: cannot make faults in plan" in capsys.readouterr().err
    assert campaign("--space", "plan", "--model", "single", "--role", "weight") == 2
    assert "a choice of parameters makes no sense" in capsys.readouterr().err
    assert not Path("wide.db").exists()
    last = model_file.load(folder / net).network.ops[-1].name
    assert campaign(*arena, "--at", last) == 0
    with Journal(folder / "wide.db") as journal:
        rows = list(journal.rows())
        assert journal.plan.where.memory == "arena"
        assert {row.flips for row in rows} == {3}
    assert run(["campaign", net, *data, "--journal", "n.db", *arena, "--at", last, "--target", "native"]) == 0
    assert "frames sent again" in capsys.readouterr().out
    with Journal(folder / "n.db") as journal:
        assert [r.outcome for r in journal.rows()] == [r.outcome for r in rows]

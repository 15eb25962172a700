"""`zobnn verify`: agreement is found where it is, and a place that disagrees or fails is named, with exit code 1."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from converters import lce_interpreter
from converters.lce_graph import Graph
from tests.conformance.tflite_files import stored
from tests.networks import NETWORKS, Author
from zobnn_edge import model_file, reference
from zobnn_edge.cli.main import run
from zobnn_edge.datasets import Dataset
from zobnn_edge.engine import Engine
from zobnn_edge.errors import TargetError
from zobnn_edge.harden import harden
from zobnn_edge.model_file import Model
from zobnn_edge.verify import Place, compare


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hardened network, images, and labels that are its own classes."""
    monkeypatch.chdir(tmp_path)
    a = Author((6, 6, 1), 3).conv(32, 3, weight=None).affine().sign().conv(32, 3).affine().sign()
    model = model_file.save(harden(a.dense(5).affine().network()), tmp_path / "net.zob")
    x = np.random.default_rng(0).integers(0, 256, (40, 6, 6, 1), np.uint8)
    np.save("x.npy", x)
    np.save("y.npy", Engine(model.plan).run(model.image.data, x).argmax(axis=1))
    return tmp_path


def test_all_places_agree(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["verify", "net.zob", "--dataset", "x.npy,y.npy", "--few", "7", "--board", "netduinoplus2"]
    assert run([*arguments, "--json"]) == 0
    rows = {row["place"]: row for row in json.loads(capsys.readouterr().out)}
    identical = {"host engine": 40, "NumPy reference": 7, "qemu:netduinoplus2": 7}
    for place, images in identical.items():
        assert (rows[place]["images"], rows[place]["bits"]) == (images, images)
    assert ("LCE interpreter" in rows) == lce_interpreter.installed()
    assert all(row["agrees"] and row["accuracy"][0] == 100 for row in rows.values())
    assert run(arguments) == 0
    assert "…" not in capsys.readouterr().out


def test_an_int8_file_is_verified_with_the_reference_kernels(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("larq")
    g = Graph()
    start, end = stored(g, (1, 4, 5, 2), 0.03, -7), stored(g, (1, 4, 5, 2), 0.02, -128)
    g._append("RELU", [start], end)
    Path("int.tflite").write_bytes(g.file("int", start, end))
    x = np.random.default_rng(0).normal(size=(20, 4, 5, 2)).astype(np.float32)
    np.save("ix.npy", x)
    np.save("iy.npy", np.zeros(20, np.int64))
    assert run(["verify", "int.tflite", "--dataset", "ix.npy,iy.npy", "--few", "3", "--json"]) == 0
    rows = {row["place"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["TFLite reference"]["bits"] == 20
    assert "LCE interpreter" not in rows


def test_keras_models_of_the_zoo_are_a_place_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("larq")
    np.save("mx.npy", np.random.default_rng(0).integers(0, 256, (30, 28, 28, 1), np.uint8))
    np.save("my.npy", np.zeros(30, np.int64))
    assert run(["verify", "zoo:mnist_bnn", "--dataset", "mx.npy,my.npy", "--few", "2", "--json"]) == 0
    rows = {row["place"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["Keras"]["top1"] == 30


def test_a_network_of_integers_is_verified_where_it_can_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of int8 networks no flatbuffer is written: LCE's interpreter is no place of theirs."""
    model = model_file.save(NETWORKS["integer"](), Path("int.zob"))
    x = np.random.default_rng(0).integers(0, 256, (20, 9, 8, 3)).astype(np.uint8)
    np.save("ix.npy", x)
    np.save("iy.npy", Engine(model.plan).run(model.image.data, x).argmax(axis=1))
    assert run(["verify", "int.zob", "--dataset", "ix.npy,iy.npy", "--few", "3", "--json"]) == 0
    assert "LCE interpreter" not in capsys.readouterr().out
    assert run(["show", "int.zob"]) == 0
    shown = capsys.readouterr().out
    assert "int32" in shown
    assert "float32" not in shown


def test_a_place_that_differs_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = reference.run
    monkeypatch.setattr(reference, "run", lambda *arguments: np.nextafter(right(*arguments), np.float32(9)))
    assert run(["verify", "net.zob", "--dataset", "x.npy,y.npy", "--few", "3"]) == 1
    lines = capsys.readouterr().out.splitlines()
    (wrong,) = [line for line in lines if line.rstrip().endswith("NO")]
    assert wrong.startswith(" NumPy reference") or wrong.startswith("NumPy reference")


def test_a_place_that_fails_does_not_agree(folder: Path) -> None:
    model = model_file.load(folder / "net.zob")
    data = Dataset("mine", np.load("x.npy"), np.load("y.npy"))

    def gone(_: np.ndarray) -> np.ndarray:
        raise TargetError("the board is gone")

    engine = Engine(model.plan)
    ours = Place("host engine", lambda x: engine.run(model.image.data, x), 10, True)
    first, second = compare(model, data, iter([ours, Place("board", gone, 10, True)]))
    assert first.agrees
    assert not second.agrees
    assert second.problem == "the board is gone"


def test_other_arithmetic_may_round_otherwise_but_not_decide_otherwise(folder: Path) -> None:
    model: Model = model_file.load(folder / "net.zob")
    data = Dataset("mine", np.load("x.npy"), np.load("y.npy"))
    engine = Engine(model.plan)
    places = [
        Place("host engine", lambda x: engine.run(model.image.data, x), 40, True),
        Place("rounds", lambda x: engine.run(model.image.data, x) * np.float32(1 + 1e-6), 40, False),
        Place("decides", lambda x: -engine.run(model.image.data, x), 40, False),
    ]
    assert [row.agrees for row in compare(model, data, iter(places))] == [True, True, False]

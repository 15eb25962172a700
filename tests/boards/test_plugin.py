"""The pytest plugin: the documented example on the host and an emulated board, and how tests are spread over boards."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from zobnn_edge.model_file import Model, save

EXAMPLE = Path(__file__).parents[2] / "docs/examples/own_tests"


def run(folder: Path, *options: str) -> str:
    """Run pytest as a user does; returns what it printed."""
    command = [sys.executable, "-m", "pytest", "-c", "/dev/null", "--rootdir", folder, "-p", "no:cacheprovider", folder]
    return subprocess.run([*command, *options], capture_output=True, text=True, check=False).stdout


def outcomes(said: str) -> dict[str, int]:
    """Numbers of passed, failed ... tests, from the last line."""
    return {
        word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", said.splitlines()[-1])
    }


def test_the_example_passes_on_the_host_and_on_an_emulated_board() -> None:
    said = run(EXAMPLE, "--zobnn-target", "host", "--zobnn-target", "qemu:mps2-an386")
    assert outcomes(said) == {"passed": 7, "skipped": 1}, said
    assert "nothing is counted here" in run(EXAMPLE, "-rs", "-k", "fast"), "without the option it runs on the host"


TESTS = """
import os
from pathlib import Path
import pytest
from zobnn_edge import model_file

@pytest.mark.parametrize("n", range(3))
def test_where(board, n, zobnn_target):
    target = board({path!r})
    with open({log!r}, "a") as log:
        print(zobnn_target, target.info.board, os.environ.get("PYTEST_XDIST_WORKER"), id(target), file=log)

def test_each_gets_an_unharmed_board_without_inputs(board):
    target = board({path!r})
    assert target.inject(0.3, 1) > 0
    target = board(model_file.load(Path({path!r})))
    assert target.read() == target.model.image.data
    assert len(target.run().scores) == 0
    if hasattr(target, "pid"):
        os.kill(target.pid, 9)

def test_also_when_the_one_before_broke_it(board):
    target = board(model_file.load(Path({path!r})).network)
    assert target.read() == target.model.image.data
"""


def test_every_board_has_a_worker_of_its_own(model: Model, tmp_path: Path) -> None:
    log, path = tmp_path / "log", tmp_path / "net.zob"
    save(model.network, path)
    (tmp_path / "test_it.py").write_text(TESTS.format(path=str(path), log=str(log)))
    said = run(tmp_path, "--zobnn-target", "native", "--zobnn-target", "host", "--zobnn-target", "native", "-n", "2")
    assert outcomes(said) == {"passed": 10}, said
    lines = [line.split() for line in log.read_text().splitlines()]
    assert sorted(line[:2] for line in lines) == [["host", "host"]] * 3 + [["native", "native"]] * 3
    for place in ("host", "native"):
        assert len({tuple(line[2:]) for line in lines if line[0] == place}) == 1, "one worker, one open target"
    assert len({line[2] for line in lines}) == 2


def test_a_target_that_there_is_not_is_said_in_its_one_line(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "net.zob"
    save(model.network, path)
    (tmp_path / "test_it.py").write_text(f"def test_it(board):\n    board({str(path)!r})\n")
    said = run(tmp_path, "--zobnn-target", "qemu:nosuch")
    assert outcomes(said) == {"failed": 1}
    assert "there is no board nosuch; the boards are" in said
    assert "board = " not in said, "and nothing of how it came to that"


def test_nothing_heavy_is_imported_before_a_test_needs_it() -> None:
    code = "import sys, zobnn_edge.pytest_plugin; print([m for m in sys.modules if m in ('numpy', 'serial', 'scipy')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"

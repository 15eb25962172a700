"""A short run of every fuzz target from its corpus on; and that the targets notice what is broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import libfuzzer, reader
from zobnn_edge.errors import ToolError

SECONDS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        libfuzzer.clang()
    except ToolError as error:
        pytest.skip(str(error))
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("name", libfuzzer.TARGETS)
def test_nothing_is_found_from_the_corpus_on(name: str, folder: Path, tmp_path: Path) -> None:
    program = libfuzzer.build(name, folder / name)
    outcome = libfuzzer.fuzz(program, tmp_path, [f"-max_total_time={SECONDS}", "-seed=1"])
    print(f"{name}: {outcome.summary}")
    assert not outcome.failed, outcome.summary
    assert outcome.executions > 1000


@pytest.mark.parametrize(
    ("name", "source", "check", "instead"),
    [
        ("frame", libfuzzer.AGENT / "frame.c", "if (code > length - in) return 0u;", ""),
        ("agent", libfuzzer.AGENT / "agent.c", "f.header.sequence == last.sequence)", "0)"),
        ("agent", libfuzzer.AGENT / "commands.c", "if (!network_holds(addresses[i], 1u))", "if (0)"),
        ("plan", libfuzzer.ENGINE / "zob_load.c", "|| tensor_extent(t).end > m->header->arena_bytes", "|| m == 0"),
    ],
)
def test_a_check_taken_out_of_the_code_is_missed(
    name: str, source: Path, check: str, instead: str, folder: Path, tmp_path: Path
) -> None:
    text = source.read_text()
    assert text.count(check) == 1
    changed = folder / f"{name}-{source.stem}" / source.name
    changed.parent.mkdir()
    changed.write_text(text.replace(check, instead))
    program = libfuzzer.build(name, changed.parent, changed)
    outcome = libfuzzer.fuzz(program, tmp_path, ["-max_total_time=30", "-seed=1"])
    assert outcome.failed


def test_mutated_model_files_are_refused_or_mean_what_they_say() -> None:
    outcome = reader.fuzz(SECONDS, seed=1)
    print(f"reader: {outcome.summary}")
    assert not outcome.failed, outcome.summary
    assert outcome.executions > 100

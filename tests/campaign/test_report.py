"""What people see of a campaign: numbers that are right, a table that fits 80 columns, a page that stands alone."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from zobnn_edge.campaign.export import COLUMNS, export
from zobnn_edge.campaign.journal import Golden, Journal, Link, Row, packed
from zobnn_edge.campaign.outcome import Outcome
from zobnn_edge.campaign.plan import Plan
from zobnn_edge.errors import InputError
from zobnn_edge.link.client import Counters
from zobnn_edge.report.page import write_page
from zobnn_edge.report.summary import Summary, points, summarise
from zobnn_edge.report.table import points_table

STRATA = [["conv", "weight", 0, 900], ["conv", "scale", 30, 60], ["conv", "scale", 31, 40]]
LINKS = [
    Link("qemu:mps2-an386", Counters(requests=1000, resends=2, resets=1)),
    Link("native", Counters(requests=7)),
    Link("qemu:mps2-an386", Counters(requests=234, bad_frames=3, restarts=1, board_bad_frames=4, overruns=5)),
]


def rows(rate: float, correct: list[int], outcome: Outcome = Outcome.SDC_CRITICAL, first: int = 0) -> list[Row]:
    out = []
    for i, c in enumerate(correct):
        right = packed(np.arange(10) < c)
        numbers = (first + i, int(first > 0), rate, i, 0, 100 * i)
        out.append(Row(*numbers, (i,), i % 3, outcome, 10 - c, 0.5, i % 2, c, 10, right, None, "host"))
    return out


def journal(path: Path, trials: list[Row], model: str = "rate") -> Journal:
    amounts = tuple(sorted({row.amount for row in trials}))
    plan = Plan(amounts, 1000, model=model)
    header = {"network": "net", "source": "pictures", "plan": plan.text(), "strata": json.dumps(STRATA)}
    book = Journal(path, {**header, "fault_bits": "1000", "targets": "[]"})
    book.append([Golden(0, "scores", packed(np.arange(10) < 9), 9, 10), *trials, *LINKS])
    return book


@pytest.fixture
def summary(tmp_path: Path) -> Summary:
    trials = [*rows(1e-4, [9, 10] * 60), *rows(1e-2, [0, 10] * 60, first=1000)]
    harness = rows(1e-2, [0, 0], Outcome.HARNESS_ERROR, first=1500)
    with journal(tmp_path / "run.db", [*trials, *harness]) as book:
        return summarise(book)


def test_points() -> None:
    low, high = points([*rows(1e-2, [1, 1, 3, 3]), *rows(1e-3, [9, 10], Outcome.MASKED)])
    assert (low.amount, low.trials, low.flips, low.outcomes) == (1e-3, 2, 50.0, {"masked": 2})
    assert low.accuracy.value == low.agreement.value == 95.0
    assert low.failures == (0.0, 0.0, low.failures.high)
    assert (high.trials, high.accuracy.value, high.median.value, high.failures.value) == (4, 20.0, 20.0, 1.0)
    assert high.accuracy.low < 20.0 < high.accuracy.high
    assert high.images is not None
    assert high.images.both.value == pytest.approx(20.0)


def test_summaries(summary: Summary) -> None:
    assert (summary.harness_errors, summary.fault_free.value, summary.amount) == (2, 90.0, "fault rate")
    assert [p.trials for p in summary.points] == [120, 120]
    assert summary.curve.rates == [1e-4, 1e-2]
    both = {"resends": 2, "resets": 1, "bad_frames": 3, "restarts": 1, "board_bad_frames": 4, "overruns": 5}
    assert summary.links == {"qemu:mps2-an386": Counters(requests=1234, **both), "native": Counters(requests=7)}


def test_strata_are_weighted_by_their_bits(tmp_path: Path) -> None:
    """All of the scale's trials fail, none of the weights': a tenth of the fault space fails, not two thirds."""
    trials = rows(1.0, [5] * 60)
    fine = [i for i, row in enumerate(trials) if row.stratum == 0]
    for i in fine:
        trials[i] = rows(1.0, [9] * 60, Outcome.MASKED)[i]
    with journal(tmp_path / "run.db", trials, "single") as book:
        summary = summarise(book)
    assert [(s.name, s.bits, s.trials, s.failures.value) for s in summary.strata] == [
        ("conv, scale, bit 30", 60, 20, 1.0),
        ("conv, scale, bit 31", 40, 20, 1.0),
        ("conv, weight, bit 0", 900, 20, 0.0),
    ]
    assert summary.weighted is not None
    assert summary.weighted.value == pytest.approx(0.1)
    assert summary.amount == "bits inverted"


def test_the_table_fits_eighty_columns_uncut(summary: Summary) -> None:
    out = io.StringIO()
    Console(file=out, width=80).print(points_table("digits", {"float32": summary, "hardened": summary}))
    text = out.getvalue()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    for part in ("float32", "hardened", "0.0001", "0.01", "120", "95.0 (94.1-95.9)", "0-100", "fail "):
        assert part in text


def test_the_table_tells_crashes_and_hangs_from_wrong_classes_where_there_are_any(tmp_path: Path) -> None:
    trials = [*rows(1.0, [9, 8]), *rows(2e3, [0], Outcome.CRASH, 500), *rows(2e3, [0, 0], Outcome.HANG, 1000)]
    with journal(tmp_path / "run.db", [*trials, *rows(2e3, [5], first=1500)]) as book:
        table = points_table("digits", {"hardened": summarise(book)})
    assert table.columns[-1].header == "fail/end"
    assert list(table.columns[-1].cells) == ["2/0", "4/3"]
    assert list(table.columns[1].cells) == ["1", "2,000"]
    out = io.StringIO()
    Console(file=out, width=80).print(table)
    assert "…" not in out.getvalue()


def test_the_page_stands_alone(summary: Summary, tmp_path: Path) -> None:
    write_page("title <of> it", {"hardened": summary}, tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text()
    assert "title &lt;of&gt; it" in page
    assert "hardened (fault-free 90.0 %)" in page
    assert "<script src=" not in page, "it must not need the network"
    assert page.count("https://cdn.plot.ly") == 0 or 'src="https' not in page
    parts = (summary.digest, "sdc_critical", "95.0 (94.1-95.9)", "5 to 95 % of the trials", "hardened: median")
    for part in (*parts, "1,234 requests, 2 frames sent again"):
        assert part in page


def test_exports(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", exc_type=ImportError)
    parquet = pytest.importorskip("pyarrow.parquet")
    trials = rows(1.0, [5, 9, 10])
    with journal(tmp_path / "run.db", trials, "single") as book:
        export(book, tmp_path / "t.csv")
        export(book, tmp_path / "t.parquet")
        with pytest.raises(InputError, match=r"t\.xls: trials are written as \.csv or \.parquet"):
            export(book, tmp_path / "t.xls")
        digest = book.digest()
    lines = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert list(lines[0]) == list(COLUMNS)
    assert [(line["addresses"], line["role"], line["correct"]) for line in lines] == [
        ("0", "weight", "5"), ("1", "scale", "9"), ("2", "scale", "10"),
    ]  # fmt: skip
    table = parquet.read_table(tmp_path / "t.parquet")
    assert table.column_names == list(COLUMNS)
    assert table["accuracy"].to_pylist() == [0.5, 0.9, 1.0]
    assert json.loads(table.schema.metadata[b"zobnn"])["digest"] == digest


def test_parquet_without_pyarrow_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with journal(tmp_path / "run.db", rows(1.0, [5])) as book, pytest.raises(InputError, match="Parquet needs pyarrow"):
        export(book, tmp_path / "t.parquet")
    assert not (tmp_path / "t.parquet").exists()

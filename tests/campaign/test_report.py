"""What people see of a campaign: numbers that are right, a table that fits 80 columns, a page that stands alone."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from rich.console import Console

from zobnn_edge.campaign.journal import Row
from zobnn_edge.campaign.outcome import Outcome
from zobnn_edge.report.table import plot, summarise, table


def rows(rate: float, correct: list[int], outcome: Outcome = Outcome.SDC_CRITICAL) -> list[Row]:
    return [Row(i, rate, i, 100 * i, outcome, c, 10, None) for i, c in enumerate(correct)]


def test_summaries() -> None:
    harness = rows(1e-3, [0, 0, 0], Outcome.HARNESS_ERROR)
    low, high = summarise([*rows(1e-2, [1, 1, 3, 3]), *rows(1e-3, [9, 10], Outcome.MASKED), *harness])
    assert (low.rate, low.trials, low.flips, low.outcomes) == (1e-3, 2, 50.0, {"masked": 2})
    assert low.accuracy[0] == 95.0
    assert (high.trials, high.accuracy[0]) == (4, 20.0)
    assert high.accuracy[1] < 20.0 < high.accuracy[2]


def test_the_table_fits_eighty_columns_uncut() -> None:
    variants = {
        "float32": summarise([*rows(1e-4, [9, 10] * 60), *rows(1e-2, [0, 10] * 60)]),
        "hardened": summarise(rows(3e-4, [10] * 120)),
    }
    out = io.StringIO()
    Console(file=out, width=80).print(table("digits", variants))
    text = out.getvalue()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    for part in ("float32", "hardened", "0.0001", "0.0003", "0.01", "120", "100.0 (100.0-100.0)", "critical"):
        assert part in text


def test_the_plot_is_a_page_of_its_own(tmp_path: Path) -> None:
    summaries = summarise([*rows(1e-4, [9, 10]), *rows(1e-2, [0, 10])])
    plot("title of it", {"hardened": summaries}, {"hardened": 97.25}, tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text()
    assert "title of it" in page
    assert "hardened (fault-free 97.2 %)" in page or "hardened (fault-free 97.3 %)" in page
    assert "<script src=" not in page, "it must not need the network"
    assert np.isclose(summaries[0].accuracy[0], 95)

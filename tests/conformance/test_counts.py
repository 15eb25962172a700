"""Instructions counted on emulated cores stay what they are, or get fewer: tests/baseline.json holds them.

After a change for the better, or one that is worth its price: `python tools/bench.py --baseline`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools import layers

BASELINE: dict[str, dict[str, int]] = json.loads((Path(__file__).parents[1] / "baseline.json").read_text())
ALLOWED = 1.03


@pytest.mark.parametrize(("core", "case"), [(core, case) for core, counts in BASELINE.items() for case in counts])
def test_no_more_instructions(core: str, case: str) -> None:
    counted = layers.count(case, layers.cores()[core])
    assert counted <= ALLOWED * BASELINE[core][case], f"{counted} instructions; make it faster or the baseline anew"

"""Fuzz the C code: `python -m tests.fuzz [TARGET ...] --seconds N`; `make fuzz SECONDS=N` does that."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.fuzz.libfuzzer import TARGETS, build, fuzz

BUILD = Path(__file__).parents[2] / "build" / "fuzz"


def main() -> None:
    """Fuzz each target for so many seconds; what makes one fail stays in build/fuzz."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"{', '.join(TARGETS)}; default all")
    parser.add_argument("--seconds", type=int, default=60, help="time for each")
    options = parser.parse_args()
    unknown = [name for name in options.targets if name not in TARGETS]
    if unknown:
        parser.error(f"there is no target {unknown[0]}; the targets are {', '.join(TARGETS)}")
    failed = False
    for name in options.targets or TARGETS:
        found = BUILD / name / "found"
        found.mkdir(parents=True, exist_ok=True)
        outcome = fuzz(build(name, BUILD / name), found, ["-rss_limit_mb=1024", f"-max_total_time={options.seconds}"])
        print(f"{name}: {outcome.summary}", flush=True)
        failed |= outcome.failed
    sys.exit(failed)


if __name__ == "__main__":
    main()

"""Fuzz what takes bytes from outside: `python -m tests.fuzz [TARGET ...] --seconds N`, or `make fuzz SECONDS=N`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.fuzz import libfuzzer, reader
from tests.fuzz.libfuzzer import Outcome

TARGETS = [*libfuzzer.TARGETS, "reader"]
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
        outcome = reader.fuzz(options.seconds, time.time_ns()) if name == "reader" else _fuzz_c(name, options.seconds)
        print(f"{name}: {outcome.summary}", flush=True)
        failed |= outcome.failed
    sys.exit(failed)


def _fuzz_c(name: str, seconds: int) -> Outcome:
    found = BUILD / name / "found"
    found.mkdir(parents=True, exist_ok=True)
    program = libfuzzer.build(name, BUILD / name)
    return libfuzzer.fuzz(program, found, ["-rss_limit_mb=1024", f"-max_total_time={seconds}"])


if __name__ == "__main__":
    main()

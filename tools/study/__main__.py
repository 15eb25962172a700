"""See the package's docstring."""

from __future__ import annotations

import argparse
import os

from tools.study.campaigns import SINGLE, run_all
from tools.study.variants import VARIANTS


def main() -> None:
    """Run campaigns, or write the page."""
    parser = argparse.ArgumentParser(prog="python -m tools.study")
    parser.add_argument("what", choices=["run", "write"])
    parser.add_argument("names", nargs="*", help=f"of {', '.join((*VARIANTS, SINGLE))}; default all")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    if arguments.what == "run":
        run_all(arguments.names or [*VARIANTS, SINGLE], arguments.workers)


if __name__ == "__main__":
    main()

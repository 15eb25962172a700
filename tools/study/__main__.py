"""See the package's docstring."""

from __future__ import annotations

import argparse
import os
import sys

from tools.study import costs, page
from tools.study.campaigns import SINGLE, run_all
from tools.study.variants import VARIANTS


def main() -> None:
    """Run campaigns, measure costs, or write the page: exit code 1 when a figure asked for is not met."""
    parser = argparse.ArgumentParser(prog="python -m tools.study")
    parser.add_argument("what", choices=["run", "costs", "write"])
    parser.add_argument("names", nargs="*", help=f"of {', '.join((*VARIANTS, SINGLE))}; default all")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_intermixed_args()
    if arguments.what == "run":
        run_all(arguments.names or [*VARIANTS, SINGLE], arguments.workers)
    elif arguments.what == "costs":
        costs.measure_all(arguments.names or page.DESCRIBED)
    else:
        asked = page.write()
        for figure in asked:
            print(f"{'met' if figure.met else 'NOT MET'}: {figure.what}: asked {figure.asked}, seen {figure.seen}")
        sys.exit(not all(figure.met for figure in asked))


if __name__ == "__main__":
    main()

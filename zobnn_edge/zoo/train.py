"""Train a network of the zoo: `python -m zobnn_edge.zoo.train NAME`. Stop it at any time; started again, it goes on.

After each epoch a checkpoint and the log are kept in the cache folder, `training/NAME-SEED`. The trained model is
written there as NAME.keras; `zoo:NAME` is that network from then on, unless the package or others have weights for it.
Fewer or more `--epochs` than before change how fast the learning rate falls from here.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from zobnn_edge import zoo
from zobnn_edge.errors import ZobnnError
from zobnn_edge.zoo import models, weights
from zobnn_edge.zoo.training import folder_of


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m zobnn_edge.zoo.train", description=__doc__)
    parser.add_argument("name", metavar="NAME", help=f"one of {', '.join(zoo.RECIPES)}")
    parser.add_argument("--epochs", type=int, help="by default the recipe's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ship", action="store_true", help="put weights and log into the package (for its developers)")
    options = parser.parse_args(arguments)
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # trains twice as fast; the importer turns it off
    try:
        recipe = zoo.recipe(options.name)
        folder = folder_of(options.name, options.seed)
        started = time.monotonic()

        def progress(epoch: int, epochs: int, accuracy: float) -> None:
            minutes = (time.monotonic() - started) / 60
            print(f"epoch {epoch}/{epochs}: {100 * accuracy:.2f} % in training, {minutes:.1f} min", flush=True)

        print(f"checkpoints and log: {folder}", flush=True)
        model = recipe.train(options.seed, options.epochs, progress, folder)
        models.save(model, folder / f"{options.name}.keras")
        zoo.keep(options.name, options.seed, model)
        log = (folder / "log.csv").read_text()
        if options.ship:
            weights.ship(options.name, weights.pack(model), log)
        print("\n".join(log.splitlines()[:1] + log.splitlines()[-1:]))
        print(folder / f"{options.name}.keras")
    except ZobnnError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

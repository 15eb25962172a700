"""`zobnn demo`: the main job, end to end. Train, harden, export, build, boot, flip bits in SRAM, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import numpy as np
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from zobnn_edge.encoding import InputArray
from zobnn_edge.errors import InputError
from zobnn_edge.files import write_atomic
from zobnn_edge.model_file import Model

if TYPE_CHECKING:
    from zobnn_edge.report.summary import Summary

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Settings:
    """What the demo does: data set, board, trials a fault rate, test images a trial, seed, folder for its files."""

    dataset: str
    board: str
    trials: int
    images: int
    seed: int
    folder: Path


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(demo)


def demo(
    dataset: Annotated[str, typer.Option(help="digits (no network needed) or mnist.")] = "digits",
    board: Annotated[str, typer.Option(help="The emulated board; `zobnn boards` lists them.")] = "mps2-an386",
    trials: Annotated[int, typer.Option(min=2, help="Trials at each fault rate.")] = 40,
    images: Annotated[int | None, typer.Option(min=1, help="Test images a trial; default 60, of mnist 20.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of training and of every fault set.")] = 0,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where to put the files.")] = Path(
        "demo-out"
    ),
) -> None:
    """The main job, end to end, on an emulated board.

    Trains a small network with Larq, hardens and exports it, builds the firmware, boots the board, flips bits in its
    SRAM at rates from 1e-4 to 1e-2 with float32 and with hardened parameters, and reports. Stopped in the middle
    (Ctrl-C), the same command goes on where it was.
    """
    from zobnn_edge.boards import board as find_board
    from zobnn_edge.report.page import write_page
    from zobnn_edge.report.table import points_table

    recipes = {"digits": "digits", "mnist": "mnist_tutorial"}
    images = images or (60 if dataset == "digits" else 20)
    if dataset not in recipes:
        raise InputError(f"--dataset {dataset}: the demo knows {' and '.join(recipes)}")
    if find_board(board).emulator is None:
        raise InputError(f"--board {board}: not emulated; `zobnn boards` lists those with a qemu: target")
    output.mkdir(parents=True, exist_ok=True)
    settings = Settings(dataset, board, trials, images, seed, output)
    console, started = Console(), time.monotonic()

    keras_file = _train(console, settings, recipes[dataset])
    models = _import_and_harden(console, settings, keras_file)
    exports = _export(console, settings, models["hardened"])
    x, y = _test_images(settings)
    summaries = {variant: _campaign(console, settings, variant, model, x, y) for variant, model in models.items()}
    console.print()
    title = f"{settings.dataset} on {board}: bit flips in SRAM, {images} test images a trial, seed {seed}"
    console.print(points_table(title, summaries))
    fault_free_text = ", ".join(f"{variant} {s.fault_free.value:.1f} %" for variant, s in summaries.items())
    console.print(f"fault-free accuracy on these images: {fault_free_text}")
    plot = output / "accuracy.html"
    write_page(title, summaries, plot)
    console.print("\nfiles made:")
    made = [keras_file, *(output / f"{v}.zob" for v in models), *exports]
    for path in [*made, *(output / f"{v}.{kind}" for v in models for kind in ("elf", "db")), plot]:
        console.print(f"  {path}  {path.stat().st_size:,} bytes", highlight=False)
    console.print(f"done in {time.monotonic() - started:.0f} s")


def _train(console: Console, s: Settings, name: str) -> Path:
    path = s.folder / f"{name}-seed{s.seed}.keras"
    if path.exists():
        console.print(f"[bold]trained already[/]: {path}", highlight=False)
        return path
    from zobnn_edge import zoo
    from zobnn_edge.zoo import models

    recipe = zoo.recipe(name)
    with _bar(console, f"training {name} with Larq", recipe.epochs) as advance:
        keras_model = recipe.train(s.seed, recipe.epochs, lambda epoch, epochs, accuracy: advance(epoch))
    models.save(keras_model, path)
    return path


def _import_and_harden(console: Console, s: Settings, keras_file: Path) -> dict[str, Model]:
    """The float32 and the hardened model, from the Keras file or, when they are newer than it, from their own."""
    from converters.larq import import_keras
    from zobnn_edge import zoo
    from zobnn_edge.harden import harden
    from zobnn_edge.policy import Policy

    def imported() -> Model:
        pixels = zoo.recipe(keras_file.stem.split("-")[0]).pixels
        return Model.of(import_keras(str(keras_file), pixels=pixels))

    def hardened() -> Model:
        return Model.of(harden(models["float32"].network, Policy(8)))

    models: dict[str, Model] = {}
    for variant, make in (("float32", imported), ("hardened", hardened)):
        path = s.folder / f"{variant}.zob"
        models[variant] = _stage(console, f"making {path}", make)
        write_atomic(path, models[variant].to_bytes())
        console.print(f"  parameters {len(models[variant].image.data):,} bytes, {models[variant].image.bits:,} bits")
    return models


def _export(console: Console, s: Settings, model: Model) -> list[Path]:
    from converters import lce
    from converters.c_header import c_header

    flatbuffer, header = s.folder / "hardened.tflite", s.folder / "hardened.h"
    write_atomic(flatbuffer, _stage(console, f"exporting {flatbuffer}", lambda: lce.write(model.network)))
    write_atomic(header, _stage(console, f"exporting {header}", lambda: c_header(model)))
    return [flatbuffer, header]


def _test_images(s: Settings) -> tuple[InputArray, InputArray]:
    from zobnn_edge import datasets

    data = datasets.load(s.dataset, "test")
    chosen = np.random.default_rng(s.seed).permutation(len(data.x))[: s.images]
    return data.x[chosen], data.y[chosen]


def _campaign(console: Console, s: Settings, variant: str, model: Model, x: InputArray, y: InputArray) -> Summary:
    """Build and boot the board, run the trials that the journal lacks, sum up."""
    from zobnn_edge import firmware
    from zobnn_edge.campaign.lanes import lanes
    from zobnn_edge.campaign.plan import Job, Plan
    from zobnn_edge.campaign.runner import opened, run
    from zobnn_edge.report.summary import summarise

    elf = s.folder / f"{variant}.elf"
    _stage(console, f"building {elf}", lambda: firmware.build(model, s.board, elf))
    job = Job(Plan(RATES, s.trials, s.seed), model.to_bytes(), x, y, f"{s.dataset}, {s.images} images a trial")
    places = lanes(job, [f"qemu:{s.board}"])
    with (
        opened(job, s.folder / f"{variant}.db", places) as journal,
        _bar(console, f"flipping bits, {variant} parameters", job.plan.total) as advance,
    ):
        run(job, journal, places, lambda schedule: advance(schedule.done))
        return summarise(journal)


def _stage(console: Console, what: str, work: Callable[[], Result]) -> Result:
    """Say what is being done, do it, say how long it took."""
    started = time.monotonic()
    with console.status(what):
        result = work()
    console.print(f"[bold]{what}[/]: {time.monotonic() - started:.1f} s", highlight=False)
    return result


@contextmanager
def _bar(console: Console, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar with time left; yields a function to call with the number done."""
    columns = (TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TaskProgressColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)

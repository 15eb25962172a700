"""`zobnn worst-case`: the bits that do most harm, beside as many random ones."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from zobnn_edge.cli.campaign import parse_bits, some, test_images
from zobnn_edge.cli.common import DatasetOption, JsonOption, NetArgument, print_json, read_model


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("worst-case")(worst_case)


def worst_case(
    net: NetArgument,
    dataset: DatasetOption,
    flips: Annotated[int, typer.Option(min=1, help="Bits to invert, one after the other.")] = 5,
    candidates: Annotated[int, typer.Option(min=1, help="Bits tried for the first one, at random.")] = 2000,
    images: Annotated[int, typer.Option(min=1, help="Test images to judge by.")] = 60,
    trials: Annotated[int, typer.Option(min=2, help="Random fault sets of each size, to compare with.")] = 100,
    type: Annotated[list[str] | None, typer.Option(metavar="TYPE", help="Only binary, L or S (repeat).")] = None,
    layer: Annotated[list[str] | None, typer.Option(metavar="LAYER", help="Only this layer (repeat).")] = None,
    role: Annotated[
        list[str] | None, typer.Option(metavar="ROLE", help="Only weight, scale, bias ... (repeat).")
    ] = None,
    bits: Annotated[
        str | None, typer.Option(metavar="J,K-L", help="Only these bit positions; 0 is the lowest.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of candidates, random fault sets and choice of images.")] = 0,
    json: JsonOption = False,
) -> None:
    """Search for the bits that do most harm.

    Greedy: each bit is the worst one together with those before. Beside it what as many random bits do.
    """
    from zobnn_edge.faults.models import FaultSet
    from zobnn_edge.faults.space import Addresses, Filter
    from zobnn_edge.faults.statistics import mean
    from zobnn_edge.faults.worst_case import Harm, Judge, search
    from zobnn_edge.targets.host import HostTarget

    model = read_model(net)
    space = Filter(None, some(type), some(layer), some(role), parse_bits(bits)).of(model.image)
    x, y = test_images(dataset, images, seed)
    target = HostTarget(model)
    target.put_inputs(x)
    judge = Judge.of(golden := target.run().scores, y)
    target.expect_many_runs()

    def harm_of(addresses: Addresses) -> Harm:
        target.invert(addresses)
        scores = target.run().scores
        target.restore()
        return judge(scores)

    console, steps = Console(stderr=json, highlight=False), list[dict[str, Any]]()
    with console.status("searching") as status:
        for step in search(space, harm_of, flips, candidates, seed):
            n = len(steps) + 1
            sets = (FaultSet("count", n, (seed << 32) + i).addresses(space) for i in range(trials))
            chance = mean(np.array([100 * (1 - harm_of(a).wrong / len(y)) for a in sets]))
            accuracy = 100 * (1 - step.harm.wrong / len(y))
            place = str(model.image.locate(step.address))
            steps.append({"address": step.address, "place": place, "accuracy": accuracy, "random": chance})
            status.update(f"{n} bits: accuracy {accuracy:.1f} %")
    fault_free = 100 * (1 - judge(golden).wrong / len(y))
    if json:
        print_json({"fault_free": fault_free, "images": len(y), "trials": trials, "seed": seed, "steps": steps})
        return
    title = (
        f"{model.network.name}: worst bits of {min(candidates, space.size):,} tried of {space.size:,}, {len(y)} images"
    )
    console.print(_table(title, steps))
    console.print(
        f"fault-free accuracy {fault_free:.1f} %; random: mean of {trials} sets of as many bits, 95 % interval"
    )


def _table(title: str, steps: list[dict[str, Any]]) -> Table:
    from zobnn_edge.report.table import interval

    out = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    out.add_column("bits", justify="right")
    out.add_column("one more: address", justify="right")
    out.add_column("where")
    out.add_column("accuracy %", justify="right")
    out.add_column("random %", justify="right", no_wrap=True)
    for n, step in enumerate(steps, 1):
        out.add_row(str(n), str(step["address"]), step["place"], f"{step['accuracy']:.1f}", interval(step["random"]))
    return out

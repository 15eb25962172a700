"""Verbs about fault campaigns: campaign, report."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from zobnn_edge.cli.common import DatasetOption, JsonOption, NetArgument, print_json, read_model
from zobnn_edge.errors import InputError

FAILED = 1
DROP_POINTS = 10.0

RatesOption = Annotated[
    str | None, typer.Option(metavar="LOW:HIGH", help="Fault rates: two a decade from LOW to HIGH, or a,b,c.")
]
CountsOption = Annotated[
    str | None, typer.Option(metavar="N,M", help="Bits to invert a trial, of models count, adjacent and burst.")
]
Names = Annotated[list[str] | None, typer.Option(metavar="NAME")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command()(campaign)
    app.command()(report)


def campaign(
    net: NetArgument,
    dataset: DatasetOption,
    journal: Annotated[Path, typer.Option(metavar="RUN.db", help="Where trials are recorded; if it is there: go on.")],
    target: Annotated[
        list[str] | None,
        typer.Option(metavar="TARGET", help="host, qemu:BOARD, serial:PORT ... (repeat); default host."),
    ] = None,
    model: Annotated[
        str, typer.Option(help="rate, single, count, adjacent, burst, stuck0 or stuck1: what is hit in a trial.")
    ] = "rate",
    rates: RatesOption = None,
    counts: CountsOption = None,
    trials: Annotated[
        str | None, typer.Option(metavar="N|all", help="Trials at each rate, default 100; all: every bit once.")
    ] = None,
    error: Annotated[
        float | None,
        typer.Option(metavar="POINTS", help="Of models that hit one place: trials for +-POINTS at 95 %, not --trials."),
    ] = None,
    half_width: Annotated[
        float | None, typer.Option(metavar="POINTS", help="Stop a rate early, its accuracy known to +-POINTS.")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Test images a trial.")] = 100,
    parts: Annotated[int, typer.Option(min=1, help="Sets of so many images that trials take in turn.")] = 1,
    type: Annotated[list[str] | None, typer.Option(metavar="TYPE", help="Only binary, L or S (repeat).")] = None,
    layer: Annotated[list[str] | None, typer.Option(metavar="LAYER", help="Only this layer (repeat).")] = None,
    role: Annotated[
        list[str] | None, typer.Option(metavar="ROLE", help="Only weight, scale, bias ... (repeat).")
    ] = None,
    region: Annotated[list[str] | None, typer.Option(metavar="PARAMETER", help="Only this one (repeat).")] = None,
    bits: Annotated[
        str | None, typer.Option(metavar="J,K-L", help="Only these bit positions; 0 is the lowest.")
    ] = None,
    space: Annotated[
        str, typer.Option(metavar="MEMORY", help="parameters, arena, plan or sram: where faults are.")
    ] = "parameters",
    at: Annotated[
        str | None, typer.Option(metavar="OP", help="Faults come in mid-inference, when this operation begins.")
    ] = None,
    power_cycle: Annotated[
        str | None, typer.Option(metavar="CMD", help="Command that turns a hung board off and on, as the last means.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of every fault set and of the choice of images.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes on the host; default one a core.")] = None,
    cluster: Annotated[
        str | None, typer.Option(metavar="tcp://HOST:PORT", help="Run on a Dask cluster; local: one of this machine.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Run a fault campaign: many trials, a journal, estimates.

    Every trial is committed to the journal. Stopped in any way (Ctrl-C, kill -9, power), the same command goes on.
    Exit code 1: a run without faults gave other scores, the campaign is invalid.
    """
    from zobnn_edge.campaign.lanes import cluster_lanes, lanes
    from zobnn_edge.campaign.plan import Job, Plan
    from zobnn_edge.campaign.runner import opened, run
    from zobnn_edge.faults.space import Filter
    from zobnn_edge.report.summary import summarise

    network = read_model(net)
    targets = target or ["host"]
    sram = _sram_bytes(targets) if space == "sram" else None
    where = Filter(some(region), some(type), some(layer), some(role), parse_bits(bits), space, at, sram)
    faults = where.within(network)
    amounts = _amounts(model, rates, counts, faults.size)
    points = None if half_width is None else half_width / 100
    plan = Plan(amounts, _trials(trials, error, model, amounts, faults), seed, model, where, parts, points)
    x, y = test_images(dataset, images * parts, seed)
    job = Job(plan, network.to_bytes(), x, y, f"{dataset}, {images} images a trial", power_cycle)
    plan.check(faults)
    count = workers or os.cpu_count() or 1
    places = cluster_lanes(job, cluster, targets, count) if cluster else lanes(job, targets, count)
    with _valid(), opened(job, journal, places) as book:
        with _progress(plan, Console(stderr=True)) as show:
            effort = run(job, book, places, show)
        summary = summarise(book)
    if effort.trials:
        took = f"{effort.trials} trials in {effort.seconds:.1f} s ({effort.trials / effort.seconds:.0f}/s)"
        if set(targets) == {"host"}:
            took += f"; computed of their operations what faults can reach: {100 * effort.work / effort.trials:.1f} %"
        typer.echo(took, err=True)
    _print({journal.stem: summary}, json)


def report(
    journals: Annotated[list[Path], typer.Argument(metavar="RUN.db", help="Journals; several are compared.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="REPORT.html", help="An interactive page to write.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(metavar="FILE", help="All trials of one journal, as .csv or .parquet.")
    ] = None,
    drop: Annotated[
        float, typer.Option(metavar="POINTS", help="Loss of accuracy at which fault rates are compared.")
    ] = DROP_POINTS,
    json: JsonOption = False,
) -> None:
    """Sum up campaigns: a table, a page with curves, comparisons.

    Of several journals all are compared with the first: how many times more robust, by rate and by drop.
    """
    from zobnn_edge.campaign.export import export as write_trials
    from zobnn_edge.campaign.journal import Journal
    from zobnn_edge.report.page import write_page
    from zobnn_edge.report.summary import summarise

    if export and len(journals) > 1:
        raise InputError("--export takes the trials of one journal; name only one")
    summaries = {}
    with _valid():
        for path in journals:
            with Journal(path) as book:
                summaries[path.stem if path.stem not in summaries else str(path)] = summarise(book)
                if export:
                    write_trials(book, export)
    if output:
        title = ", ".join(dict.fromkeys(s.header["network"] for s in summaries.values())) + ": bit flips in memory"
        write_page(title, summaries, output)
    _print(summaries, json, drop)


@contextmanager
def _valid() -> Iterator[None]:
    """Turn an invalid campaign into one line and exit code 1."""
    from zobnn_edge.campaign.journal import CampaignInvalid

    try:
        yield
    except CampaignInvalid as error:
        typer.echo(f"zobnn: {error}", err=True)
        raise typer.Exit(FAILED) from None


def some(names: list[str] | None) -> tuple[str, ...] | None:
    """The values of an option that can be repeated; None if it was not given."""
    return tuple(names) if names else None


def parse_bits(text: str | None) -> tuple[int, ...] | None:
    """Bit positions such as 30 or 0,23-30."""
    if text is None:
        return None
    positions: set[int] = set()
    try:
        for part in text.split(","):
            low, _, high = part.partition("-")
            positions |= set(range(int(low), int(high or low) + 1))
    except ValueError:
        raise InputError(f"--bits {text}: give bit positions such as 30 or 0,23-30") from None
    return tuple(sorted(positions))


def _amounts(model: str, rates: str | None, counts: str | None, size: int) -> tuple[float, ...]:
    """The rates or numbers of bits; a rate p of the model count stands for round(p * size) bits."""
    from zobnn_edge.faults import models

    takes_rates = models.model(model).amount == "rate"
    if model == "single":
        if rates or counts:
            raise InputError("--model single hits one bit a trial; leave --rates and --counts out")
        return (1.0,)
    wanted = {"--rates"} if takes_rates else {"--counts"} if model != "count" else {"--rates", "--counts"}
    given = {name for name, value in (("--rates", rates), ("--counts", counts)) if value}
    if len(given) != 1 or not given <= wanted:
        raise InputError(f"--model {model}: give {' or '.join(sorted(wanted))}")
    if counts:
        return tuple(float(n) for n in _numbers("--counts", counts))
    found = _rates(rates or "")
    if takes_rates:
        return found
    return tuple(dict.fromkeys(float(round(rate * size)) for rate in found))


def _sram_bytes(targets: list[str]) -> int:
    """The size of the SRAM that all targets have: that of a board described by its board.toml."""
    from zobnn_edge.boards import board

    sizes = {board(spec.removeprefix("qemu:")).ram.bytes if spec.startswith("qemu:") else 0 for spec in targets}
    if len(sizes) != 1 or 0 in sizes:
        raise InputError("--space sram: give targets qemu:BOARD whose boards have the same SRAM")
    return sizes.pop()


def _rates(text: str) -> tuple[float, ...]:
    """LOW:HIGH is 1, 3, 10, 30 ... times powers of ten between the two, ends included; else a,b,c."""
    if ":" not in text:
        return _numbers("--rates", text)
    ends = _numbers("--rates", text.replace(":", ","))
    if len(ends) != 2 or not 0 < ends[0] <= ends[1] < 1:
        raise InputError(f"--rates {text}: give LOW:HIGH with 0 < LOW <= HIGH < 1, for instance 1e-6:1e-2")
    low, high = ends
    exponents = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    inner = (float(f"{m}e{k}") for k in exponents for m in (1, 3))
    return tuple(dict.fromkeys([low, *(x for x in inner if low < x < high), high]))


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{option} {text}: give numbers separated by commas") from None


def _trials(text: str | None, error: float | None, model: str, amounts: tuple[float, ...], space: Any) -> int:
    """Trials at each amount: as given, one for every place, or as many as the error asked for needs."""
    from zobnn_edge.faults import models
    from zobnn_edge.faults.sampling import sample_size

    if text and error is not None:
        raise InputError("--error works out the number of trials; leave --trials out")
    if text == "all" or error is not None:
        places = {models.model(model).places(space, amount) for amount in amounts}
        (population,) = places if len(places) == 1 else (None,)
        if population is None:
            option = "--error" if error is not None else "--trials all"
            raise InputError(f"{option} is for --model single, and for adjacent and burst with one --counts")
        return population if error is None else sample_size(population, error / 100)
    text = text or "100"
    if not text.isdigit() or int(text) < 1:
        raise InputError(f"--trials {text}: give a number from 1 on, or all")
    return int(text)


def test_images(dataset: str, count: int, seed: int) -> tuple[Any, Any]:
    """So many test images of a data set, at random: inputs and labels."""
    from zobnn_edge import datasets

    data = datasets.load(dataset, "test")
    if count > len(data):
        raise InputError(f"{dataset} has {len(data)} test images, not {count}; lower --images or --parts")
    chosen = np.random.default_rng(seed).permutation(len(data))[:count]
    return data.x[chosen], data.y[chosen]


@contextmanager
def _progress(plan: Any, console: Console) -> Iterator[Callable[[Any], None]]:
    """A bar with the rate, the time left and, of the amounts tried, the mean accuracies so far."""
    columns = (
        *(TextColumn("[bold]{task.description}"), BarColumn(12), MofNCompleteColumn()),
        *(TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), TextColumn("{task.fields[estimates]}")),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("trials", total=plan.total, rate="", estimates="")

        def show(schedule: Any) -> None:
            speed = progress.tasks[task].speed
            rate = f"{speed:.0f}/s" if speed else ""
            samples = filter(None, map(schedule.accuracy, range(len(plan.amounts))))
            text = "accuracy " + " ".join(f"{100 * sum(x) / len(x):.1f}" for x in samples) + " %"
            progress.update(task, completed=schedule.done, total=schedule.total, rate=rate, estimates=text)

        yield show


def _print(summaries: dict[str, Any], json: bool, drop: float = DROP_POINTS) -> None:
    from zobnn_edge.report.table import link, percent, points_table, strata_table

    ratios = _compare(summaries, drop)
    if json:
        described = {name: _described(summary) for name, summary in summaries.items()}
        print_json({"journals": described, "times_more_robust": ratios})
        return
    console = Console(highlight=False)
    first = next(iter(summaries.values()))
    title = f"{first.header['network']} on {first.header['source']}, model {_model_of(first)}"
    console.print(points_table(title, summaries))
    for name, s in summaries.items():
        console.print(
            f"{name}: fault-free {s.fault_free.value:.1f} % ({s.fault_free.low:.1f}-{s.fault_free.high:.1f}), "
            f"{s.controls} controls masked, {s.harness_errors} harness errors, hash {s.digest[:16]}",
            soft_wrap=True,
        )
        for target, seen in s.links.items():
            console.print(f"{name}: link to {target}: {link(seen)}", soft_wrap=True)
        if s.weighted:
            console.print(f"{name}: of {int(s.header['fault_bits']):,} bits {percent(s.weighted)} fail when hit alone")
        if s.strata:
            console.print(strata_table(f"{name}: strata that fail most often", s.strata))
    for line in ratios:
        console.print(f"{line['network']} against {line['against']}: {line['text']}", soft_wrap=True)


def _model_of(summary: Any) -> str:
    from zobnn_edge.campaign.plan import Plan

    return Plan.parse(summary.header["plan"]).model


def _described(summary: Any) -> dict[str, Any]:
    """A summary for JSON; what every trial gave is in the journal."""
    fields = asdict(summary)
    for point in fields["points"]:
        del point["samples"]
    fields["header"] = {key: value for key, value in summary.header.items() if key != "strata"}
    return fields


def _compare(summaries: dict[str, Any], drop: float) -> list[dict[str, Any]]:
    """Both ways in which every other network is more robust than the first."""
    from zobnn_edge.faults.robustness import drop_ratio, rate_ratio

    (base, plain), *others = summaries.items()
    lines: list[dict[str, Any]] = []
    for name, hard in others:
        shared = sorted({p.amount for p in plain.points} & {p.amount for p in hard.points})
        cases: list[tuple[str, Callable[[], Any]]] = [
            (f"fault rate borne at {drop:g} points lost", lambda h=hard: rate_ratio(h.curve, plain.curve, drop)),  # type: ignore[misc]
        ]
        for rate in shared:
            cases.append(
                (f"fewer points lost at {rate:.3g}", lambda h=hard, r=rate: drop_ratio(h.curve, plain.curve, r))  # type: ignore[misc]
            )
        for what, compute in cases:
            try:
                ratio = compute()
            except InputError:
                continue  # not defined here: nothing is lost, or it was not measured
            value, low, high = ratio.ratio
            text = f"{ratio.bound} {value:.3g} times ({low:.3g}-{high:.3g}): {what}".strip()
            lines.append({"network": name, "against": base, "what": what, **asdict(ratio), "text": text})
    return lines

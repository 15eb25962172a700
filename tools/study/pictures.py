"""The pictures of the study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from tools.study.exhaustive import Bits
from zobnn_edge.report.summary import Summary

mpl.use("svg")
mpl.rcParams.update(
    {
        "svg.hashsalt": "zobnn-edge",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.constrained_layout.use": True,
        "axes.prop_cycle": mpl.cycler(linestyle=["-", "--"]) * mpl.cycler(color=plt.get_cmap("tab10").colors),
    }
)


def curves(summaries: Mapping[str, Summary], path: Path) -> None:
    """Mean accuracy against fault rate, with 95 % intervals as bands."""
    figure, axes = plt.subplots(figsize=(8, 4.6))
    for label, summary in summaries.items():
        rates = [p.amount for p in summary.points]
        (line,) = axes.plot(rates, [p.accuracy.value for p in summary.points], marker="o", ms=3.5, lw=1.4, label=label)
        low, high = [p.accuracy.low for p in summary.points], [p.accuracy.high for p in summary.points]
        axes.fill_between(rates, low, high, alpha=0.18, color=line.get_color(), lw=0)
    axes.set(
        xscale="log", ylim=(0, 100), ylabel="accuracy, %", xlabel="fault rate: probability that a stored bit flips"
    )
    axes.grid(alpha=0.25)
    axes.legend(loc="lower left", fontsize=8.5, frameon=False)
    _save(figure, path)


def distribution(summaries: Mapping[str, Summary], rate: float, path: Path) -> None:
    """How the trials at one rate are spread: a histogram for each variant."""
    figure, axes = plt.subplots(len(summaries), 1, figsize=(8, 1.3 * len(summaries) + 0.8), sharex=True)
    for axis, (label, summary) in zip(axes, summaries.items(), strict=True):
        (point,) = [p for p in summary.points if p.amount == rate]
        axis.hist(point.samples, bins=np.arange(0, 101, 2), color="#4c72b0")
        axis.axvline(point.accuracy.value, color="#c44e52", lw=1.5)
        axis.set_title(f"{label}: mean {point.accuracy.value:.1f} %, median {point.median.value:.1f} %", fontsize=9.5)
        axis.set_ylabel("trials")
    axes[-1].set_xlabel(f"accuracy of a trial, %, at a fault rate of {rate:g}")
    _save(figure, path)


def critical(bits: Bits, path: Path) -> None:
    """The share of critical bits of every parameter and bit position."""
    shares = 100 * bits.by_position()
    figure, axes = plt.subplots(figsize=(8, 0.17 * len(bits.regions) + 1.2))
    picture = axes.imshow(shares, aspect="auto", cmap="magma_r", vmin=0, vmax=100)
    axes.set_yticks(range(len(bits.regions)), bits.regions, fontsize=6.5)
    axes.set_xticks(range(shares.shape[1]))
    axes.set_xlabel("bit of the code, 0 the lowest")
    figure.colorbar(picture, label=f"critical, % (class of one of {bits.images} images changed)", shrink=0.6)
    _save(figure, path)


def costs(points: Sequence[tuple[str, float, float]], what: str, path: Path) -> None:
    """Accuracy at a high fault rate, called `what`, against the bytes of all parameters: (label, bytes, accuracy)."""
    figure, axes = plt.subplots(figsize=(8, 4))
    for (label, size, accuracy), marker in zip(points, cycle("osD^vP"), strict=False):
        axes.plot(size / 1024, accuracy, marker, markersize=8, linestyle="none", label=label)
    axes.set(xlabel="all parameters, KiB", ylabel=what)
    axes.margins(0.05)
    axes.grid(alpha=0.25)
    figure.legend(loc="outside right upper", fontsize=8.5)
    _save(figure, path)


def _save(figure: plt.Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)

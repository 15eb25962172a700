"""Speed of the serial link: round trips and goodput of boards that are processes of this machine, and what a campaign's
trial costs beside its inferences; also written to build/bench_link.json.

    python tools/bench_link.py

Best of several, since the machine does other things, too. QEMU hands its UART a byte a pass of its main loop, some
15 us, whatever the baud rate, and a sixth of that from the buffer of a multiplexer, which emulated boards have; the
reference is what a bare echo without one reached (65 kB/s towards the board).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from tools import whole
from zobnn_edge import zoo
from zobnn_edge.link import messages as msg
from zobnn_edge.link.frames import Frame
from zobnn_edge.model_file import Model
from zobnn_edge.targets import open_target
from zobnn_edge.targets.board import BoardTarget

OUTPUT = Path("build/bench_link.json")
BOARDS = ("native", "qemu:mps2-an386")
ECHO_BYTES = 65_000
"""Bytes a second towards an emulated MPS2 board with bare echo firmware, and of 4 KiB frames back and forth."""
TURNS, ROUND_TRIPS, BULK = 7, 200, 1 << 15
IMAGES, FEW = 100, 4
SHORT = 128
"""A frame with so many bytes behind its record is short enough for every board."""
NETWORKS = ("SmallCifar", "digits")
"""A small network for photographs, and one that is done in a few times what its scores take on the line."""

Record = dict[str, Any]


def best(act: Callable[[], object], turns: int = TURNS) -> float:
    """Seconds of the fastest of several turns."""
    seconds = []
    for _ in range(turns):
        begin = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def round_trips(board: BoardTarget) -> Record:
    """Requests of four bytes' reply, one after the other."""
    sent = len(Frame(msg.READ.type, 0x101, msg.READ.request.pack(offset=0, bytes=4)).encode())

    def act() -> None:
        for _ in range(ROUND_TRIPS):
            board._client.request(msg.READ, offset=0, bytes=4)

    rate = ROUND_TRIPS / best(act)
    return {"round trips/s": rate, "bytes/s towards the board": rate * sent}


def goodput(board: BoardTarget, pixels: np.ndarray) -> Record:
    """Payload bytes a second, with several frames under way."""
    data = board._inputs = pixels[: BULK // pixels[0].size]

    def put() -> None:
        board._on_board = slice(0, 0)
        board._bring(slice(0, len(data)))

    seconds = best(put, 3)
    return {"put bytes/s": data.nbytes / seconds, "read bytes/s": len(board.model.image.data) / best(board.read, 3)}


def overhead(spec: str, network: str) -> Record:
    """A trial beside its inferences: what an inference takes is the slope between RUNs of few and of many; what the
    line takes is measured with requests that move as many bytes and compute nothing. The rest of a trial is drawing
    the faults and restoring the image, on the board."""
    model = Model.of(whole.NETWORKS[network].network())
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, *model.network.input_shape), np.uint8)
    with open_target(spec, model) as board:
        assert isinstance(board, BoardTarget)
        board.put_inputs(pixels)
        board._bring(slice(0, IMAGES))
        many = board._batch
        outputs = 4 * model.network.outputs
        runs = [outputs * min(many, IMAGES - first) for first in range(0, IMAGES, many)]

        def inferences(count: int) -> Callable[[], object]:
            return lambda: board._run(0, count)

        def line() -> None:
            for reply in [*runs, msg.INJECT.reply.size, msg.RESTORE.reply.size]:
                board._client.request(msg.READ, offset=0, bytes=reply)
            longer = len(runs) * (msg.RUN.request.size - msg.READ.request.size) + msg.INJECT.request.size
            for at in range(0, longer, SHORT):
                board._client.request(msg.PUT_INPUTS, bytes(min(SHORT, longer - at)), offset=0)

        few = min(many, FEW)
        one = (best(inferences(few), 3) - best(inferences(1), 3)) / (few - 1)
        serial = best(line)
    return {
        "inference ms": 1e3 * one,
        "line in a trial, ms": 1e3 * serial,
        "line, % of inference": 100 * serial / (IMAGES * one),
    }


def main() -> None:
    """Measure, print, write."""
    model = Model.of(zoo.load("digits"))
    pixels = np.random.default_rng(0).integers(0, 256, (1 << 12, math.prod(model.network.input_shape)), np.uint8)
    records = {}
    for spec in BOARDS:
        with open_target(spec, model) as board:
            assert isinstance(board, BoardTarget)
            records[spec] = {**round_trips(board), **goodput(board, pixels)}
        for network in NETWORKS:
            records[spec] |= {f"{network}: {name}": value for name, value in overhead(spec, network).items()}
    emulated = records[BOARDS[1]]
    for name in ("bytes/s towards the board", "put bytes/s"):
        emulated[f"{name}, % of echo"] = 100 * emulated[name] / ECHO_BYTES
    table = Table(box=box.SIMPLE_HEAD, title=f"Serial link; trials of {IMAGES} images")
    table.add_column("")
    for spec in BOARDS:
        table.add_column(spec, justify="right")
    for name in emulated:
        table.add_row(name, *(f"{records[spec][name]:,.1f}" if name in records[spec] else "" for spec in BOARDS))
    Console().print(table)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(records, indent=2) + "\n")


if __name__ == "__main__":
    main()

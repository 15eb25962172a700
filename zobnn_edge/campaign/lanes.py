"""Lanes: where trials run side by side. Each has a bench of its own and does one thing after the other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from zobnn_edge.campaign.bench import Batch, Bench
from zobnn_edge.campaign.plan import Job, Trial
from zobnn_edge.errors import InputError, TargetError

CONNECT_SECONDS = 10.0
"""How long a scheduler of a cluster may take to answer."""

_benches: dict[str, Bench] = {}
"""The benches of this process, by lane."""


class Lane:
    """One bench, in a thread, a process or on a machine of a cluster."""

    def __init__(self, name: str, job: Any, spec: str, executor: Executor, shut: Callable[[], None]) -> None:
        """`job` is a Job, or what the executor turns into one."""
        self.name = name
        self.spec = spec
        self._job = job
        self._executor = executor
        self._shut = shut

    def open(self) -> Future[str]:
        """Open the bench; the result names the firmware that runs there."""
        return self._executor.submit(_open, self.name, self._job, self.spec)

    def run(self, trials: Sequence[Trial], last: bool = False) -> Future[Batch]:
        """Run trials (see `Bench.run`)."""
        return self._executor.submit(_run, self.name, list(trials), last)

    def close(self) -> None:
        """Wait for what is under way and give everything back."""
        with suppress(BrokenExecutor):
            self._executor.submit(_close, self.name).result()
        self._shut()


def _open(lane: str, job: Job, spec: str) -> str:
    bench = _benches[lane] = Bench(job, spec)
    return bench.target.info.firmware


def _run(lane: str, trials: list[Trial], last: bool) -> Batch:
    return _benches[lane].run(trials, last)


def _close(lane: str) -> None:
    bench = _benches.pop(lane, None)
    if bench:
        bench.close()


def lanes(job: Job, targets: Sequence[str], workers: int = 1) -> list[Lane]:
    """A lane for each target; for the host `workers` of them, which are processes if there are several.

    Raises InputError when a target is given twice.
    """
    if len(set(targets)) != len(targets):
        raise InputError("a target is given twice; host processes are set by --workers")
    out = []
    for spec in targets:
        if spec == "host" and workers > 1:
            out += [_process_lane(f"{spec} {i}", job, spec) for i in range(workers)]
        else:
            threads = ThreadPoolExecutor(1)
            out.append(Lane(f"{spec} of {id(job)}", job, spec, threads, threads.shutdown))
    return out


def _process_lane(name: str, job: Job, spec: str) -> Lane:
    fresh = multiprocessing.get_context("spawn")  # a fork would copy locks that threads of this process hold
    process = ProcessPoolExecutor(1, mp_context=fresh, initializer=_follow_parent)
    return Lane(name, job, spec, process, process.shutdown)


def _follow_parent() -> None:
    """In a worker: leave Ctrl-C to the parent, and end when the parent has ended, however it did."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def cluster_lanes(job: Job, address: str, targets: Sequence[str], workers: int) -> list[Lane]:
    """A lane for each thread of the workers of a Dask cluster at `tcp://HOST:PORT`, or on a scheduler and `workers`
    processes of this machine's own (`local`).

    Raises InputError when Dask is not installed or other targets than the host are asked for, and TargetError when
    nobody answers at the address or there are no workers.
    """
    if list(targets) != ["host"]:
        raise InputError("--cluster runs trials on the workers' own hosts; leave --target out or give host")
    try:
        from distributed import Client, LocalCluster
    except ModuleNotFoundError:
        raise InputError("--cluster needs Dask; pip install 'zobnn-edge[cluster]'") from None
    local = None
    try:
        if address == "local":
            local = LocalCluster(workers, threads_per_worker=1, dashboard_address=None)
        client = Client(local or address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise TargetError(f"--cluster {address}: no scheduler answers there ({error})") from None
    threads = {worker: info["nthreads"] for worker, info in client.scheduler_info(n_workers=-1)["workers"].items()}
    if not threads:
        client.close()
        raise TargetError(f"--cluster {address}: it has no workers; start some with dask worker {address}")
    brought = client.scatter(job, broadcast=True, hash=False)
    places = [(worker, i) for worker, n in sorted(threads.items()) for i in range(n)]

    def shut_after(lane: int) -> Callable[[], None]:
        def shut() -> None:
            if lane == len(places) - 1:
                client.close()
                if local:
                    local.close()

        return shut

    out = []
    for i, (worker, thread) in enumerate(places):
        executor = client.get_executor(workers=[worker], allow_other_workers=False, pure=False, retries=0)
        out.append(Lane(f"{client.id} {thread}", brought, "host", executor, shut_after(i)))
    return out

"""Faults beyond the parameters: the arena and the plan, all of SRAM, and in the middle of an inference."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.boards.conftest import MAIN
from tests.networks import dyadic_inputs
from zobnn_edge.campaign.lanes import lanes
from zobnn_edge.campaign.outcome import Outcome
from zobnn_edge.campaign.plan import Job, Plan
from zobnn_edge.campaign.runner import opened, run
from zobnn_edge.errors import InputError
from zobnn_edge.faults.space import Filter
from zobnn_edge.layout import lay_out
from zobnn_edge.link import messages as msg
from zobnn_edge.link.client import Refused
from zobnn_edge.model_file import Model
from zobnn_edge.targets import Options, Target, open_target
from zobnn_edge.targets.board import BoardTarget
from zobnn_edge.targets.process import ProcessTarget

SMALLEST = "qemu:stm32vldiscovery"
SRAM = 8192
"""Of the smallest board, where nearly every byte is in use."""


def stops(model: Model) -> list[int]:
    """The operations that an inference can be stopped at."""
    sizes = [len(group) for group in lay_out(model.network).groups]
    return [sum(sizes[:i]) for i in range(len(sizes))]


def bits(*addresses: int) -> np.ndarray:
    return np.array(addresses, np.int64)


def test_a_flip_in_sram_hits_its_byte_and_is_there_for_all_to_read(board: ProcessTarget, model: Model) -> None:
    begin = board.info.memory_address
    assert board.flip_memory("parameters", bits(77)) == 1
    assert board.read() == model.image.flipped([77]).data
    assert board.read_memory(begin, len(model.image.data)) == board.read()


def test_arena_faults_at_every_operation_act_as_on_the_host(board: ProcessTarget, host: Target, model: Model) -> None:
    differing = 0
    golden = host.run().scores
    for op in stops(model):
        hit = np.random.default_rng(op).choice(8 * model.arena_bytes, 20, replace=False)
        for target in (board, host):
            assert target.arm("arena", hit, op) == 20
        first, again = host.run().scores, board.run().scores
        assert first.tobytes() == again.tobytes() == board.run().scores.tobytes(), "as long as they are armed"
        differing += not np.array_equal(first, golden)
        for target in (board, host):
            target.restore()
            assert target.run().scores.tobytes() == golden.tobytes()
    assert differing > 1


def test_parameters_hit_in_mid_inference_act_as_on_the_host(board: ProcessTarget, host: Target, model: Model) -> None:
    """The first input sees them from the operation on, all others from the beginning."""
    hit = np.flatnonzero(np.random.default_rng(5).random(8 * len(model.image.data)) < 0.02)
    inside = [bit for bit in hit.tolist() if any(f <= bit < f + n for f, n in model.image.ranges())][:20]
    results = []
    for op in (0, stops(model)[-1]):
        for target in (board, host):
            target.restore()
            target.arm("parameters", bits(*inside), op)
        assert host.run().scores.tobytes() == board.run().scores.tobytes()
        assert host.read() == board.read() == model.image.flipped(inside).data
        results.append(host.run().scores)
        assert results[-1].tobytes() == board.run().scores.tobytes(), "they stay, and are not made again"
    assert results[0].tobytes() == results[1].tobytes()


def test_no_inference_is_stopped_within_fused_operations(board: ProcessTarget, host: Target, model: Model) -> None:
    total = sum(len(group) for group in lay_out(model.network).groups)
    fused = sorted(set(range(total)) - set(stops(model)))
    assert fused
    for op in (*fused, total, 1 << 31):
        with pytest.raises(Refused, match="refuses arm"):
            board.arm("arena", bits(1), op)
    host.arm("arena", bits(1), fused[0])
    with pytest.raises(InputError, match=f"stopped at operation {fused[0]}"):
        host.run()
    host.restore()


@pytest.mark.parametrize("address", [0xFFFFFFFF, 0xE000E010, 0x40004000])
def test_addresses_outside_sram_are_refused(board: ProcessTarget, model: Model, address: int) -> None:
    bit = msg.MEMORY_BIT.pack(address=address, bit=0)
    good = msg.MEMORY_BIT.pack(address=board.info.memory_address, bit=0)
    for message, tail, fields in (
        (msg.FLIP_MEMORY, good + bit, {"count": 2}),
        (msg.ARM, bit, {"op": 0, "every": 0, "count": 1}),
        (msg.READ_MEMORY, b"", {"address": address, "bytes": 4}),
    ):
        with pytest.raises(Refused) as caught:
            board._client.request(message, tail, **fields)
        assert caught.value.error == "address"
    assert board.read() == model.image.data


def test_memories_that_a_target_does_not_have_are_refused_by_name(board: ProcessTarget, host: Target) -> None:
    for target, memory in ((host, "sram"), (host, "plan"), (board, "plan"), (board, "flash")):
        with pytest.raises(InputError, match=memory):
            target.memory_bytes(memory)
    with pytest.raises(InputError, match=r"takes up to .* bits in the middle of an inference, not 500"):
        board.arm("arena", np.arange(500), 0)


@pytest.mark.parametrize("spec", ["native", MAIN])
def test_a_plan_in_ram_can_be_hit_and_is_restored(spec: str, model: Model, inputs: np.ndarray) -> None:
    with open_target(spec, model, Options(plan_in_ram=True)) as target, open_target("host", model) as host:
        for t in (target, host):
            t.put_inputs(inputs)
        assert target.memory_bytes("plan") == len(model.plan)
        golden = host.run().scores.tobytes()
        assert target.run().scores.tobytes() == golden
        record = model.plan.index(np.float32(2.0).tobytes()) if np.float32(2.0).tobytes() in model.plan else 40
        target.flip_memory("plan", bits(8 * record))
        assert isinstance(target, BoardTarget)
        begin, size = target._memory("plan")
        assert target.read_memory(begin, size) != model.plan
        target.restore()
        assert target.read_memory(begin, size) == model.plan
        assert target.run().scores.tobytes() == golden


def test_the_watchdog_costs_nothing(board: ProcessTarget) -> None:
    client = board._client
    plain, watched = (client.request(msg.RUN, first=0, count=1, format=0, limit=limit) for limit in (0, 100_000_000))
    assert plain.fields == watched.fields
    assert plain.tail == watched.tail


def job(model: Model, plan: Plan, images: int = 3) -> Job:
    return Job(plan, model.to_bytes(), dyadic_inputs(model.network, images), np.arange(images) % 10)


def campaign(what: Job, spec: str, path: Path) -> Counter[str]:
    """Run a campaign to its end; the outcomes, after a look at whether all is there."""
    places = lanes(what, [spec])
    with opened(what, path, places) as journal:
        run(what, journal, places)
        rows = list(journal.rows())
        assert [row.number for row in rows] == list(range(what.plan.total)), "every trial once"
        for row in rows:
            bad = row.outcome in (Outcome.HANG, Outcome.CRASH, Outcome.DETECTED)
            assert ("brought back by" in row.detail) == bad, row
        assert {control.outcome for control in journal.controls()} == {Outcome.MASKED}
    return Counter(row.outcome.value for row in rows)


def sram(counts: tuple[int, ...], trials: int) -> Plan:
    return Plan(tuple(map(float, counts)), trials, 7, "count", Filter(memory="sram", sram_bytes=SRAM))


def test_faults_in_the_whole_sram_are_classified_and_recovered_from(model: Model, tmp_path: Path) -> None:
    found = campaign(job(model, sram((3, 40), 30)), SMALLEST, tmp_path / "run.db")
    assert found["crash"] + found["hang"] > 5, found
    assert found["masked"] > 5
    assert found["harness_error"] == 0


@pytest.mark.study
def test_two_thousand_trials_in_the_whole_sram(model: Model) -> None:
    path = Path("build/study/sram.db")
    path.parent.mkdir(parents=True, exist_ok=True)
    found = campaign(job(model, sram((1, 3, 10, 40), 500)), SMALLEST, path)
    print(f"\n{dict(found)}")
    assert found["harness_error"] == 0

"""What is predicted without a compiler is what the compiler makes; else the stored sizes are stale."""

from __future__ import annotations

import pytest

from tests.audit.conftest import CORTEX_M
from tests.boards.conftest import small
from tests.networks import NETWORKS, Author, residual
from zobnn_edge import zoo
from zobnn_edge.audit.audit import Firmware, audit_firmware
from zobnn_edge.audit.kernels import ENTERED_BY, features
from zobnn_edge.audit.policies import compare_policies, usual_policies
from zobnn_edge.audit.prediction import predict, sizes
from zobnn_edge.audit.vulnerability import Mission
from zobnn_edge.boards import board, boards, firmware_folder
from zobnn_edge.errors import InputError, ToolError, ZobnnError
from zobnn_edge.firmware import built
from zobnn_edge.harden import harden
from zobnn_edge.model_file import Model
from zobnn_edge.policy import Policy

AGAIN = "the stored sizes are stale; run tools/engine_sizes.py"


def check(model: Model, name: str) -> tuple[int, int]:
    """Compare prediction and firmware; returns the differences of flash and RAM in bytes."""
    predicted = predict(model, board(name))
    if min(r.free or 0 for r in predicted.regions) < 0:
        with pytest.raises(ToolError, match="does not fit"):
            built(model, name)
        return 0, 0
    path = built(model, name)
    measured = audit_firmware(Firmware.read(path), model=model)
    for kind in ("flash", "ram"):
        ours, theirs = predicted.totals[kind], measured.totals[kind]
        assert abs(ours - theirs) <= max(256, theirs // 100), (
            f"{name}: {kind} {ours} predicted, {theirs} built; {AGAIN}"
        )
    assert measured.stack is not None
    assert measured.stack.worst is not None
    assert predicted.stack is not None
    assert predicted.stack.worst is not None
    assert measured.stack.worst <= predicted.stack.worst + 64 <= 1.2 * measured.stack.worst + 64, (
        f"{name}: stack; {AGAIN}"
    )
    return tuple(predicted.totals[kind] - measured.totals[kind] for kind in ("flash", "ram"))  # type: ignore[return-value]


@pytest.mark.parametrize("name", CORTEX_M)
def test_sizes_are_those_of_the_firmware_of_every_board(name: str, model: Model) -> None:
    check(model, name)


FEW = ("gated-float32", "two_bits-hardened-8", "bytes_in-hardened-8", "integer")
OTHERS = [pytest.param(name, marks=pytest.mark.study) for name in NETWORKS if name not in FEW]


@pytest.mark.parametrize("name", [*FEW, *OTHERS])
def test_networks_of_every_operation_are_predicted(name: str) -> None:
    check(Model.of(NETWORKS[name]()), "mps2-an386")


@pytest.mark.study
@pytest.mark.parametrize("name", CORTEX_M)
@pytest.mark.parametrize("network", [*zoo.RECIPES, *zoo.PUBLISHED])
def test_sizes_of_the_zoo(network: str, name: str) -> None:
    try:
        net = zoo.load(network)
    except ZobnnError as error:
        pytest.skip(str(error))
    for variant in (net, harden(net, Policy(8))):
        flash, ram = check(Model.of(variant), name)
        print(f"{network} on {name}: flash {flash:+}, RAM {ram:+}")


def test_sizes_are_stored_for_every_board_and_function() -> None:
    assert set(sizes()["boards"]) == set(CORTEX_M)
    known = set(next(iter(sizes()["boards"].values()))["stack"]["main"])
    assert set(ENTERED_BY.values()) <= known
    sources = "".join(f.read_text() for f in (firmware_folder() / "engine").glob("*.[ch]"))
    assert all(f"{function}(" in sources for function in ENTERED_BY), "functions of the engine"


def test_a_network_too_large_is_predicted_not_to_fit() -> None:
    large = Model.of(Author((1, 1, 1200)).dense(200).network())
    audit = predict(large, board("stm32vldiscovery"))
    assert audit.fits is False
    ram = next(r for r in audit.regions if r.kind == "ram")
    assert ram.free is not None
    with pytest.raises(ToolError, match=rf"RAM of {ram.capacity} bytes by (\d+) bytes") as caught:
        built(large, "stm32vldiscovery")
    over = int(str(caught.value).split(" by ")[-1].split()[0])
    assert abs(over + ram.free) <= 64


def test_what_is_not_stored_is_refused(model: Model) -> None:
    with pytest.raises(InputError, match="native: no sizes are stored for it"):
        predict(model, boards()["native"])


def test_policies_side_by_side_are_the_predictions_of_each() -> None:
    net = residual()
    target = board("mps2-an386")
    rows = {row["policy"]: row for row in compare_policies(net, target, Mission(1000, 100), usual_policies())}
    assert list(rows)[:3] == ["as given", "8 bit", "12 bit"]
    assert rows["8 bit"]["parameters"] < rows["12 bit"]["parameters"] < rows["as given"]["parameters"]
    eight = Model.of(harden(net, Policy(8)))
    assert rows["8 bit"]["flash"] == predict(eight, target).totals["flash"]
    assert rows["8 bit"]["arena"] == eight.arena_bytes
    bits = sum(r.count * r.encoding.bits for r in eight.image.regions)
    assert rows["8 bit"]["upsets"] == pytest.approx(1000 * bits / 2**20 * 100 / 1e9)
    assert features(Model.of(net)) <= set(sizes()["boards"]["mps2-an386"]["stack"]["main"])


def test_the_smallest_board_runs_the_tests_network() -> None:
    assert predict(Model.of(small()), board("stm32vldiscovery")).fits

"""What is predicted without a compiler is what the compiler makes; else the stored sizes are stale."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest

from tests.audit.checks import engine_is_what_features_need, is_predicted, shortage_is_predicted
from tests.audit.conftest import CORTEX_M
from tests.boards.conftest import small
from tests.networks import NETWORKS, Author, bytes_in, residual
from zobnn_edge.audit.audit import Firmware, audit_firmware
from zobnn_edge.audit.policies import compare_policies, usual_policies
from zobnn_edge.audit.prediction import predict, sizes
from zobnn_edge.audit.vulnerability import Mission
from zobnn_edge.boards import board, boards
from zobnn_edge.errors import InputError, ToolError
from zobnn_edge.features import FEATURES, features
from zobnn_edge.firmware import built
from zobnn_edge.harden import harden
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network
from zobnn_edge.plan import Preference
from zobnn_edge.policy import Policy


def check(model: Model, name: str) -> Firmware:
    """Hold a prediction against the firmware."""
    firmware = Firmware.read(built(model, name))
    is_predicted(predict(model, board(name)), audit_firmware(firmware, board(name), model))
    return firmware


@pytest.mark.parametrize("name", CORTEX_M)
def test_sizes_are_those_of_the_firmware_of_every_board(name: str, model: Model) -> None:
    check(model, name)


FEW = ("gated-float32", "two_bits-hardened-8", "bytes_in-hardened-8", "integer")
OTHERS = [pytest.param(name, marks=pytest.mark.study) for name in NETWORKS if name not in FEW]


@pytest.mark.parametrize("name", [*FEW, *OTHERS])
def test_networks_of_every_operation_are_predicted(name: str) -> None:
    for prefer in get_args(Preference):
        model = Model.of(NETWORKS[name](), prefer=prefer)
        engine_is_what_features_need(check(model, "mps2-an386"), model, board("mps2-an386"))


PROTECTED = [("hamming", residual), ("secded", bytes_in), ("voted:3", residual)]


@pytest.mark.parametrize(("protection", "network"), PROTECTED)
def test_protected_networks_are_predicted(protection: str, network: Callable[[], Network]) -> None:
    model = Model.of(harden(network(), Policy(8, protection=protection)))
    assert "protected" in features(model)
    engine_is_what_features_need(check(model, "mps2-an386"), model, board("mps2-an386"))


@pytest.mark.parametrize("name", {board.core: name for name, board in reversed(boards().items())}.values())
def test_the_engine_of_every_core_has_what_its_network_enters(name: str, model: Model) -> None:
    if name in CORTEX_M:
        assert engine_is_what_features_need(Firmware.read(built(model, name)), model, board(name)) > 20


def test_sizes_are_stored_for_every_board_and_feature() -> None:
    assert set(sizes()["boards"]) == set(CORTEX_M)
    for stored in sizes()["boards"].values():
        assert set(stored) == {"speed", "size"}
        assert all(set(s["stack"]["main"]) == set(FEATURES) for s in stored.values())


def test_a_network_too_large_is_predicted_not_to_fit() -> None:
    large = Model.of(Author((1, 1, 1200)).dense(200).network())
    audit = predict(large, board("stm32vldiscovery"))
    assert audit.fits is False
    with pytest.raises(ToolError, match="does not fit") as caught:
        built(large, "stm32vldiscovery")
    off = shortage_is_predicted(audit, caught.value)
    assert abs(off["RAM"]) <= 64


def test_what_is_not_stored_is_refused(model: Model) -> None:
    with pytest.raises(InputError, match="native: no sizes are stored for it"):
        predict(model, boards()["native"])


def test_policies_side_by_side_are_the_predictions_of_each() -> None:
    net = residual()
    target = board("mps2-an386")
    rows = {row["policy"]: row for row in compare_policies(net, target, Mission(1000, 100), usual_policies())}
    assert list(rows)[:4] == ["as given", "8 bit", "12 bit", "8 bit, hamming"]
    assert rows["8 bit, hamming"]["flash"] > rows["8 bit"]["flash"]
    assert rows["8 bit"]["parameters"] < rows["12 bit"]["parameters"] < rows["as given"]["parameters"]
    eight = Model.of(harden(net, Policy(8)))
    assert rows["8 bit"]["flash"] == predict(eight, target).totals["flash"]
    assert rows["8 bit"]["arena"] == eight.arena_bytes
    bits = sum(r.count * r.encoding.bits for r in eight.image.regions)
    assert rows["8 bit"]["upsets"] == pytest.approx(1000 * bits / 2**20 * 100 / 1e9)
    assert features(Model.of(net)) <= set(sizes()["boards"]["mps2-an386"]["speed"]["stack"]["main"])


def test_the_smallest_board_runs_the_tests_network() -> None:
    assert predict(Model.of(small()), board("stm32vldiscovery")).fits

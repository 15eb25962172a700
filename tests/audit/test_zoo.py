"""Every network of the zoo on every board: what the audit says is what was built and what ran.

Recipes that are not trained at hand count with the weights they begin with: memory depends on shapes alone. A row a
pair is printed. Built for the first time, all of it takes some minutes.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from converters.larq import import_keras
from tests.audit.checks import (
    engine_is_what_features_need,
    is_predicted,
    parts_are_the_segments,
    ram_is_what_hello_says,
    shortage_is_predicted,
    stack_is_bounded,
)
from tests.audit.conftest import CORTEX_M
from tests.audit.paint import use
from zobnn_edge import zoo
from zobnn_edge.audit.audit import Firmware, audit_firmware
from zobnn_edge.audit.prediction import predict
from zobnn_edge.boards import Board, board
from zobnn_edge.errors import InputError, ToolError
from zobnn_edge.firmware import built
from zobnn_edge.harden import harden
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network
from zobnn_edge.policy import Policy

pytestmark = pytest.mark.study

NETWORKS = zoo.names()
_HEAD = ("network", "board", "core", "flash", "off", "RAM", "off", "stack", "used", "ratio")
_FORMAT = "{:18} {:19} {:14} {:>9} {:>6} {:>9} {:>6} {:>6} {:>6} {:>6}"


@cache
def network(name: str) -> Network:
    """A network of the zoo; of a recipe with the weights that come with the package, or untrained."""
    if name in zoo.PUBLISHED:
        try:
            return zoo.load(name)
        except InputError as error:
            pytest.skip(str(error))
    recipe = zoo.recipe(name)
    return import_keras(zoo.keras_model(name) or recipe.build(), name, recipe.pixels)


@pytest.fixture(scope="module", autouse=True)
def _head() -> None:
    print("\n" + _FORMAT.format(*_HEAD))


@pytest.mark.parametrize("board_name", CORTEX_M)
@pytest.mark.parametrize("name", NETWORKS)
def test_firmware_is_what_the_audit_says(name: str, board_name: str) -> None:
    """Parts add up; flash, RAM and stack are as predicted; on an emulator RAM and stack are those of the running
    board. What does not fit is short of as many bytes as was predicted."""
    print(_FORMAT.format(*_row(Model.of(network(name)), name, board(board_name))))


@pytest.mark.parametrize("name", NETWORKS)
def test_hardened_networks_are_predicted(name: str) -> None:
    model = Model.of(harden(network(name), Policy(8)))
    firmware = Firmware.read(built(model, "mps2-an386"))
    off = is_predicted(predict(model, board("mps2-an386")), audit_firmware(firmware, model=model))
    print(f"{name}, 8 bits, on mps2-an386: flash {off[0]:+}, RAM {off[1]:+}")


def _row(model: Model, name: str, target: Board) -> tuple[str, ...]:
    predicted = predict(model, target)
    place = (name, target.name, target.core)
    try:
        path = built(model, target.name)
    except ToolError as error:
        off = shortage_is_predicted(predicted, error)
        flash, ram = (f"{off[region]:+}" if region in off else "" for region in ("FLASH", "RAM"))
        return (*place, "no room" if flash else "", flash, "no room" if ram else "", ram, "", "", "")
    firmware = Firmware.read(path)
    engine_is_what_features_need(firmware, model, target)
    audit = audit_firmware(firmware, target, model)
    parts_are_the_segments(firmware, audit)
    flash, ram = (f"{off:+}" for off in is_predicted(predicted, audit))
    assert audit.stack is not None
    row = (*place, f"{audit.totals['flash']:,}", flash, f"{audit.totals['ram']:,}", ram, str(audit.stack.worst))
    if not target.emulator:
        return (*row, "", "")
    found = use(model, target.name, np.zeros((1, *model.network.input_shape), np.uint8))
    ram_is_what_hello_says(audit, found.hello)
    return (*row, str(found.stack), f"{stack_is_bounded(audit, found.stack):.2f}")

"""What every target promises, host and boards alike."""

from __future__ import annotations

import random
import zlib

import numpy as np
import pytest

from tests.boards.conftest import MAIN, wide
from tests.networks import NETWORKS, dyadic_inputs, real
from zobnn_edge.errors import InputError
from zobnn_edge.model_file import Model
from zobnn_edge.targets import Flip, Target, open_target


def differing_bits(a: bytes, b: bytes) -> list[int]:
    x = np.frombuffer(a, np.uint8) ^ np.frombuffer(b, np.uint8)
    return [int(i) for i in np.flatnonzero(np.unpackbits(x, bitorder="little"))]


def test_the_memory_holds_the_bytes_of_the_image(target: Target, model: Model) -> None:
    assert target.read() == model.image.data


def test_a_flip_changes_its_bit_and_no_other(target: Target, model: Model) -> None:
    bits = [first + k for first, size in model.image.ranges() for k in (0, size // 2, size - 1)]
    for address in random.Random(1).sample(bits, 12):
        target.restore()
        (flip,) = target.flip([address])
        memory = target.read()
        assert differing_bits(memory, model.image.data) == [address]
        assert flip == Flip(address, model.image.data[address // 8], memory[address // 8])


def test_more_flips_than_a_frame_holds_are_all_made_in_order(target: Target, model: Model) -> None:
    addresses = [*range(400), 3, 3, 5]
    flips = target.flip(addresses)
    assert [f.address for f in flips] == addresses
    assert (flips[400].old, flips[400].new) == (flips[401].new, flips[401].old)
    assert differing_bits(target.read(), model.image.data) == sorted(set(range(400)) - {5})


@pytest.mark.parametrize("where", ["gap", "end", "far"])
def test_a_flip_outside_the_parameters_is_refused_and_none_is_made(where: str, target: Target, model: Model) -> None:
    scale = model.image.region("affine7/scale")
    bad = {"gap": scale.first_bit + scale.bits, "end": 8 * len(model.image.data), "far": 1 << 40}[where]
    with pytest.raises(InputError, match=f"bit {bad} belongs to no parameter"):
        target.flip([0, 1, bad])
    assert target.read() == model.image.data


def test_restore_brings_the_crc_back(target: Target, model: Model) -> None:
    target.inject(0.01, 3)
    assert zlib.crc32(target.read()) != model.image.crc
    assert target.restore() == model.image.crc
    assert target.read() == model.image.data


def test_inject_hits_the_same_bits_everywhere(target: Target, host: Target) -> None:
    for rate, seed in ((1e-3, 0), (0.02, 1), (0.5, (1 << 64) - 1)):
        assert target.inject(rate, seed) == host.inject(rate, seed)
        assert target.read() == host.read()


def test_inject_into_named_parameters_stays_in_them(target: Target, host: Target, model: Model) -> None:
    names = ["conv3/weight", "affine7/bias"]
    count = target.inject(0.05, 9, names)
    hits = differing_bits(target.read(), model.image.data)
    assert count == len(hits) > 0
    assert {model.image.locate(bit).region.name for bit in hits} == set(names)
    assert host.inject(0.05, 9, [*names, names[0]]) == count, "a name given twice must not flip back"
    assert host.read() == target.read()


def test_a_rate_of_zero_and_no_names_flip_nothing(target: Target, model: Model) -> None:
    assert target.inject(0.0, 1) == target.inject(0.5, 1, []) == 0
    assert target.read() == model.image.data


@pytest.mark.parametrize(("rate", "seed", "names"), [(1.0, 0, None), (-0.1, 0, None), (0.1, -1, None), (0.1, 0, ["x"])])
def test_inject_refuses_nonsense(rate: float, seed: int, names: list[str] | None, target: Target, model: Model) -> None:
    with pytest.raises(InputError):
        target.inject(rate, seed, names)
    assert target.read() == model.image.data


def test_scores_are_bit_identical_to_the_hosts_with_and_without_faults(target: Target, host: Target) -> None:
    for seed in range(3):
        assert target.run().scores.tobytes() == host.run().scores.tobytes()
        target.inject(0.01, seed)
        host.inject(0.01, seed)


def test_pixels_are_taken_as_bytes(target: Target, host: Target, model: Model, inputs: np.ndarray) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, *model.network.input_shape), np.uint8)
    try:
        target.put_inputs(pixels)
        host.put_inputs(model.network.pixels.apply(pixels))
        assert target.run().scores.tobytes() == host.run().scores.tobytes()
    finally:
        target.put_inputs(inputs)


def test_no_inputs_give_no_scores(target: Target, model: Model, inputs: np.ndarray) -> None:
    try:
        target.put_inputs(inputs[:0])
        assert target.run().scores.shape == (0, model.network.outputs)
    finally:
        target.put_inputs(inputs)


def test_inputs_are_copied(target: Target, host: Target, inputs: np.ndarray) -> None:
    mine = inputs.copy()
    target.put_inputs(mine)
    mine[:] = 0
    assert target.run().scores.tobytes() == host.run().scores.tobytes()


@pytest.mark.parametrize("bad", [np.zeros((2, 6, 6, 2)), np.zeros((2, 6, 6, 3), np.float32), np.zeros(72, np.uint8)])
def test_inputs_that_do_not_fit_the_network_are_refused(target: Target, bad: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"inputs of (type|shape)"):
        target.put_inputs(bad)


def test_a_reset_undoes_faults_and_keeps_inputs(target: Target, host: Target, model: Model) -> None:
    boots = target.info.boots
    target.inject(0.1, 4)
    target.reset()
    assert target.read() == model.image.data
    assert target.run().scores.tobytes() == host.run().scores.tobytes()
    assert target.info.boots == (boots + 1 if boots else 0)


@pytest.mark.parametrize("spec", ["host", "native", MAIN, "qemu:microbit"])
def test_many_scores_and_many_parameters_pass(spec: str) -> None:
    model = Model.of(wide())
    x = dyadic_inputs(model.network, 3)
    names = [region.name for region in model.image.regions]
    with open_target(spec, model) as target, open_target("host", model) as host:
        for t in (target, host):
            t.put_inputs(x)
            t.inject(0.01, 5, names)
        assert len(names) > 32
        assert target.read() == host.read()
        assert target.run().scores.tobytes() == host.run().scores.tobytes()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_test_network_gives_the_hosts_scores_on_a_board(name: str) -> None:
    model = Model.of(NETWORKS[name]())
    x = dyadic_inputs(model.network, 3)
    with open_target(MAIN, model) as target, open_target("host", model) as host:
        for t in (target, host):
            t.put_inputs(x)
        assert target.run().scores.tobytes() == host.run().scores.tobytes()
        for t in (target, host):
            t.inject(0.02, 6)
        assert target.run().scores.tobytes() == host.run().scores.tobytes()


def test_a_target_takes_another_model(model: Model) -> None:
    other = Model.of(real())
    for spec in ("host", MAIN):
        with open_target(spec, model) as target:
            target.load(other)
            assert target.read() == other.image.data
            assert target.run().scores.shape == (0, other.network.outputs)


@pytest.mark.parametrize("spec", ["", "qemu", "qemu:", "serial:", "usb:x", "host:x"])
def test_an_unknown_target_is_refused_with_those_there_are(spec: str, model: Model) -> None:
    with pytest.raises(InputError, match="targets are host, native, qemu:BOARD, serial:PORT and gdb:PLACE"):
        open_target(spec, model)


def test_an_unknown_board_is_refused_with_those_there_are(model: Model) -> None:
    with pytest.raises(InputError, match=r"there is no board nosuch; the boards are .*mps2-an386.*netduinoplus2"):
        open_target("qemu:nosuch", model)

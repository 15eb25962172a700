"""ParameterImage: every bit address names layer, parameter, element and bit, and back; a flip changes only its bit."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from tests.networks import NETWORKS
from zobnn_edge.errors import InputError
from zobnn_edge.image import ParameterImage


@pytest.fixture(params=["binary_chain-8", "residual-hardened-12", "residual-float32", "real-hardened-5"])
def image(request: pytest.FixtureRequest) -> ParameterImage:
    return ParameterImage.of(NETWORKS[request.param]())


def test_every_address_and_back(image: ParameterImage) -> None:
    padding = 0
    for region in image.regions:
        seen = set()
        for address in range(region.first_bit, region.first_bit + region.bits):
            place = image.locate(address)
            assert place.region is region
            if place.index is None:
                padding += 1
                continue
            assert image.address(region.name, place.index, place.bit) == address
            seen.add((place.index, place.bit))
        assert len(seen) == region.count * region.encoding.bits
    coded = sum(r.count * r.encoding.bits for r in image.regions)
    assert image.bits == coded + padding


def test_regions_are_aligned_and_do_not_overlap(image: ParameterImage) -> None:
    end = 0
    for region in image.regions:
        assert region.offset % 4 == 0
        assert region.offset >= end
        end = region.offset + region.bytes
    assert end <= len(image.data) < end + 4
    assert image.crc == zlib.crc32(image.data)


def test_a_flip_changes_its_bit_and_its_value_only(image: ParameterImage) -> None:
    rng = np.random.default_rng(0)
    for address in rng.choice([a for f, n in image.ranges() for a in range(f, f + n)], 200).tolist():
        place, flipped = image.locate(address), image.flipped([address])
        difference = int.from_bytes(image.data, "little") ^ int.from_bytes(flipped.data, "little")
        assert difference == 1 << address
        for region in image.regions:
            before, after = image.values(region.name), flipped.values(region.name)
            changed = np.argwhere(before.view(np.uint32) != after.view(np.uint32)).tolist()
            expected = [list(place.index)] if region is place.region and place.index is not None else []
            assert changed == expected
        assert flipped.flipped([address]).data == image.data


def test_addresses_of_nobody_are_refused(image: ParameterImage) -> None:
    for address in (-1, 8 * len(image.data), 1 << 40):
        with pytest.raises(InputError, match=f"bit {address} belongs to no parameter"):
            image.flipped([address])
    region = image.regions[0]
    with pytest.raises(InputError, match="there is no parameter nobody"):
        image.address("nobody", (0,), 0)
    with pytest.raises(InputError, match="has no element"):
        image.address(region.name, tuple(region.shape), 0)
    with pytest.raises(InputError, match="there is no bit"):
        image.address(region.name, (0,) * len(region.shape), 99)


def test_gaps_between_regions_belong_to_nobody() -> None:
    image = ParameterImage.of(NETWORKS["real-hardened-5"]())
    gaps = [a for a in range(8 * len(image.data)) if not any(f <= a < f + n for f, n in image.ranges())]
    assert gaps
    for address in gaps:
        with pytest.raises(InputError, match="belongs to no parameter"):
            image.locate(address)

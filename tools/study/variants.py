"""The networks that the study compares: as trained, and hardened in several ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from converters.larq import import_keras
from zobnn_edge import zoo
from zobnn_edge.faults.space import Filter
from zobnn_edge.harden import harden
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network
from zobnn_edge.policy import Policy, load

FRACBNN, RESNET = "fracbnn_cifar10", "resnet8"
BEST = "best12"
"""The policy that holds most at no more than 12 bits a parameter."""
CODED = Filter(bits=tuple(range(32)))
"""All bits of all parameters; not those that fill up rows of binary weights, which other tools do not store."""
DECADES = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


@dataclass(frozen=True)
class Variant:
    """A network stored in one way, which of its bits are hit, at which rates, in how many trials each."""

    label: str
    network: str
    made: Callable[[Network], Network] = lambda net: net
    where: Filter = CODED
    rates: tuple[float, ...] = DECADES
    trials: int = 100

    def model(self) -> Model:
        """The model; raises what the zoo raises where the trained arrays are not at hand."""
        return Model.of(self.made(trained(self.network)))


@cache
def trained(network: str) -> Network:
    """A network of the zoo, as trained."""
    return zoo.load(network)


def coded(policy: Policy) -> Callable[[Network], Network]:
    """Hardening after a policy."""
    return lambda net: harden(net, policy)


def unmerged(net: Network) -> Network:
    """FracBNN with all parameters that were published, where `net` has shifts merged."""
    return import_keras(zoo.keras_model(FRACBNN), net.name, net.pixels, merge=False)


_MANY = tuple(sorted((*DECADES, 3e-4, 2e-3, 3e-3, 2e-2)))
_PLAIN = Policy(8, "minmax")
VARIANTS = {
    "best": Variant(f"best policy ({BEST})", FRACBNN, coded(load(BEST)), rates=_MANY),
    "bits8": Variant("8-bit codes, min-max", FRACBNN, coded(_PLAIN), rates=_MANY, trials=400),
    "float32": Variant("float32, as trained", FRACBNN),
    "published": Variant("float32, shifts not merged", FRACBNN, unmerged, rates=(1e-4,), trials=3000),
    "resnet8": Variant("ResNet-8, float32", RESNET, rates=tuple(sorted((*DECADES, 3e-7, 3e-6)))),
    "weights": Variant("only binary weights hit", FRACBNN, where=Filter(types=("binary",), bits=(0,)), rates=_MANY),
    "bits4": Variant("4-bit codes, min-max", FRACBNN, coded(Policy(4, "minmax"))),
    "bits6": Variant("6-bit codes, min-max", FRACBNN, coded(Policy(6, "minmax"))),
    "bits12": Variant("12-bit codes, min-max", FRACBNN, coded(Policy(12, "minmax"))),
    "bits16": Variant("16-bit codes, min-max", FRACBNN, coded(Policy(16, "minmax"))),
    "hamming": Variant("8-bit codes in Hamming cells", FRACBNN, coded(replace(_PLAIN, protection="hamming"))),
    "voted": Variant("8-bit codes stored three times", FRACBNN, coded(replace(_PLAIN, protection="voted:8"))),
    "float16": Variant("float16", FRACBNN, coded(Policy(encoding="float16"))),
    "guarded": Variant("float32, exponent guarded", FRACBNN, coded(Policy(encoding="guarded"))),
    "clamped": Variant("float32, clamped", FRACBNN, coded(Policy(encoding="clamped"))),
    "secded": Variant("float32, SECDED words", FRACBNN, coded(Policy(encoding="float32", protection="secded"))),
    "filled": Variant(f"{BEST}, bits that fill up rows hit, too", FRACBNN, coded(load(BEST)), Filter()),
    "resnet8_int8": Variant("ResNet-8, int8", "resnet8_int8"),
    "resnet8_bits8": Variant("ResNet-8, 8-bit codes", RESNET, coded(_PLAIN)),
}
"""The variants by name; journals are called after them."""

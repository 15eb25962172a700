"""The networks that the study compares: as trained, and hardened in several ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from zobnn_edge import zoo
from zobnn_edge.faults.space import Filter
from zobnn_edge.harden import harden
from zobnn_edge.model_file import Model
from zobnn_edge.network import Network
from zobnn_edge.policy import Policy, load

FRACBNN, RESNET = "fracbnn_cifar10", "resnet8"
BEST = "codes8"
"""The policy that holds most at no more than 12 bits a parameter."""


@dataclass(frozen=True)
class Variant:
    """A network stored in one way, and which of its bits are hit."""

    label: str
    network: str
    made: Callable[[Network], Network] = lambda net: net
    where: Filter = field(default_factory=Filter)

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


VARIANTS = {
    "float32": Variant("float32, as trained", FRACBNN),
    "bits8": Variant("8-bit codes, min-max", FRACBNN, coded(Policy(8, "minmax"))),
    "bits12": Variant("12-bit codes, min-max", FRACBNN, coded(Policy(12, "minmax"))),
    "bits8_error": Variant("8-bit codes, least error", FRACBNN, coded(Policy(8))),
    "best": Variant(f"best policy ({BEST})", FRACBNN, coded(load(BEST))),
    "weights": Variant("only binary weights hit", FRACBNN, where=Filter(types=("binary",))),
    "resnet8": Variant("ResNet-8, float32", RESNET),
    "resnet8_bits8": Variant("ResNet-8, 8-bit codes", RESNET, coded(Policy(8, "minmax"))),
}
"""The variants by name; journals are called after them."""

"""Fault injectors for PyTorch, MRFI and PyTorchFI, on FracBNN as an ordinary PyTorch module: what a campaign costs with
them.

Every trial they draw faults their own way, and invert signs of the 281,088 binary weights alone: real-valued parameters
stay, which the engine's trials invert bits of too. The module is written as its authors' is
(github.com/cornell-zhang/FracBNN), less what only training needs, and as PyTorch is usually written.
"""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tools.emulation import fastest
from zobnn_edge import datasets
from zobnn_edge.encoding import FloatArray, InputArray
from zobnn_edge.zoo.fracbnn import CIFAR10_FILE, GAIN, PLANES


class Thermometer(nn.Module):
    """Pixels of 0..255, each channel as planes of +1 and -1."""

    def forward(self, x: Tensor) -> Tensor:
        levels = torch.arange(PLANES).view(1, 1, -1, 1, 1)
        planes = torch.where(levels < torch.round(x * GAIN).unsqueeze(2), 1.0, -1.0)
        return planes.flatten(1, 2)


class TwoBit(nn.Module):
    """The levels -1, -1/3, 1/3, 1."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.round((torch.clamp(x, -1, 1) + 1) * 1.5) / 1.5 - 1


class GatedConv2d(nn.Conv2d):
    """What both bits give where what the high ones give exceeds the threshold of the channel, else the latter."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, 3, stride, padding=1, bias=False)
        self.threshold = nn.Parameter(torch.zeros(outputs, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        high = super().forward(torch.sign(x)) * 2 / 3
        return torch.where(high > self.threshold, super().forward(x), high)


class Bias(nn.Module):
    """A shift a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


class RPRelu(nn.Sequential):
    """A PReLU between two shifts."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift_x = Bias(channels)
        self.prelu = nn.PReLU(channels)
        self.shift_y = Bias(channels)


class Doubled(nn.Module):
    """The channels, then the channels again."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, x), 1)


class Block(nn.Module):
    """Two convolutions, each with a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.quantize = TwoBit()
        self.conv1 = GatedConv2d(inputs, outputs, outputs // inputs)
        self.conv2 = GatedConv2d(outputs, outputs, 1)
        self.bn1, self.bn2, self.bn3, self.bn4 = (nn.BatchNorm2d(outputs) for _ in range(4))
        self.rprelu1, self.rprelu2 = RPRelu(outputs), RPRelu(outputs)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), Doubled()) if outputs > inputs else nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn3(self.rprelu1(self.bn1(self.conv1(self.quantize(x)))) + self.shortcut(x))
        y: Tensor = self.bn4(self.rprelu2(self.bn2(self.conv2(self.quantize(x)))) + x)
        return y


class FracBnn(nn.Sequential):
    """Pixels (N, 3, 32, 32) of 0..255 in, scores (N, 10) out."""

    def __init__(self) -> None:
        super().__init__()
        self.planes = Thermometer()
        self.conv1 = nn.Conv2d(3 * PLANES, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        for stage, (inputs, outputs) in enumerate(((16, 16), (16, 32), (32, 64)), 1):
            for block in range(3):
                self.add_module(f"layer{stage}_{block}", Block(outputs if block else inputs, outputs))
        self.pool = nn.AvgPool2d(8)
        self.flat = nn.Flatten()
        self.linear = nn.Linear(64, 10)


def trained() -> FracBnn:
    """The published network, ready for inference; raises ZobnnError when it cannot be had."""
    module = FracBnn()
    arrays = datasets.published_arrays(datasets.published(CIFAR10_FILE))
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(_values(name, arrays).reshape(parameter.shape))
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):  # published folded to a weight and a bias
                assert part.running_var is not None
                part.running_var.fill_(1 - part.eps)
    return module.eval()


def _values(name: str, arrays: Mapping[str, NDArray[Any]]) -> Tensor:
    values = torch.from_numpy(arrays[name.replace(".", "_")].astype(np.float32))
    return values.permute(*((3, 2, 0, 1) if values.ndim == 4 else reversed(range(values.ndim))))


class Plain:
    """The module alone, without faults: no injector can be faster on it."""

    def __init__(self, inputs: InputArray) -> None:
        self._pixels = inputs
        self._module = trained()
        self.faulty: Any = self._prepared()
        """The module that runs."""
        self._in_batches = fastest([self.run], inputs)

    def trial(self, rate: float) -> FloatArray:
        """Scores (N, 10) of all images with new faults."""
        self.draw(rate)
        return self._in_batches(self._pixels)

    def draw(self, rate: float) -> None:
        """New faults, for the runs that follow."""

    def run(self, pixels: InputArray) -> FloatArray:
        """Scores of a batch."""
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float()
        with torch.inference_mode():
            scores: FloatArray = self.faulty(x).numpy()
        return scores

    def _prepared(self) -> Any:
        return self._module


class Mrfi(Plain):
    """MRFI, which draws faults in hooks, at every call: the batches of a trial start from one seed."""

    CONFIG = """
        faultinject:
          - type: weight
            selector: {method: RandomPositionByRate, poisson: true, rate: 0}
            error_mode: {method: FloatFixedBitFlip, bit: 31}
            module_type: [Conv2d]
        """

    def _prepared(self) -> Any:
        from mrfi import MRFI, EasyConfig

        self._seed = 0
        model = MRFI(self._module, EasyConfig.load_string(self.CONFIG))
        self._arguments = model.get_weights_configs("selector.args", module_type="Conv2d")
        return model

    def draw(self, rate: float) -> None:
        self._arguments.rate = rate
        self._seed += 1

    def run(self, pixels: InputArray) -> FloatArray:
        torch.manual_seed(self._seed)
        np.random.seed(self._seed)  # noqa: NPY002  # scipy's generator, which draws how many faults there are
        return super().run(pixels)


class PyTorchFi(Plain):
    """PyTorchFI, which copies the module and changes weights one by one. Its helper finds a place in a given layer."""

    def _prepared(self) -> Any:
        from pytorchfi.core import fault_injection
        from pytorchfi.weight_error_models import random_weight_location

        self._injector = fault_injection(self._module, 1, [3, 32, 32], [nn.Conv2d])
        self._place = random_weight_location
        self._sizes = [m.weight.numel() for m in self._module.modules() if isinstance(m, nn.Conv2d)]
        return self._module

    def draw(self, rate: float) -> None:
        count = np.random.default_rng().binomial(sum(self._sizes), rate)
        layers = random.choices(range(len(self._sizes)), self._sizes, k=count)
        places = [self._place(self._injector, layer) for layer in layers]
        axes = ("layer_num", "k", "dim1", "dim2", "dim3")
        lists = {axis: [place[i][0] for place in places] for i, axis in enumerate(axes)}
        self.faulty = self._injector.declare_weight_fi(function=lambda weight, place: -weight[place], **lists)


def peers() -> dict[str, type[Plain]]:
    """By name, those that are installed; a line says how to get the others."""
    found: dict[str, type[Plain]] = {"module": Plain}
    for name, peer in (("MRFI", Mrfi), ("PyTorchFI", PyTorchFi)):
        if importlib.util.find_spec(name.lower()):
            found[name] = peer
        else:
            print(f"{name} is not installed, and left out: pip install --no-deps {name.lower()} pyyaml")
    return found

"""A GAN on paper: layers, shapes, parameters, FLOPs and file size, without training."""

from dataclasses import dataclass

import torch
import torch.nn as nn
from tabulate import tabulate
from torch.utils.flop_counter import FlopCounterMode
from torchinfo import ModelStatistics, summary

from ..generator import Network, build_generator
from ..generator.networks import GANS, TimeAttention
from .config import DistillConfig
from .critic import Critic


@dataclass(frozen=True)
class Layer:
    """A layer of a generator, for one sample."""

    name: str
    kind: str
    shape: list[int]
    """Of its output, without the batch."""

    parameters: int


@dataclass(frozen=True)
class Description:
    """What a configuration makes of features of D dimensions; FLOPs count a multiply and add as two."""

    architecture: str
    frames: int
    dim: int
    noise: int
    parameters: int
    """Of the generator."""

    file_bytes: int
    """Of the generator file, without a teacher."""

    flops_per_sample: int
    critic_parameters: int
    """0 where there is no critic."""

    critic_flops_per_sample: int
    layers: list[Layer]
    """Of the generator, in order."""


def describe(config: DistillConfig, dim: int, classes: int = 4) -> Description:
    """The networks of `config` for features of `dim` dimensions and so many classes. Asks for no memory."""
    network = config.network.sized(classes, dim)
    with torch.device("meta"):  # shapes without numbers
        generator = build_generator(network).eval()
        critic = Critic(network).eval() if network.architecture in GANS else nn.Identity()
        inputs = torch.empty(1, network.noise), torch.zeros(1, dtype=torch.long)
        frames = torch.empty(1, network.frames, dim)
    layers = _layers(generator, summary(generator, input_data=inputs, verbose=0))
    return Description(
        architecture=network.architecture, frames=network.frames, dim=dim, noise=network.noise,
        parameters=_parameters(generator), file_bytes=_file_bytes(config, network, generator),
        flops_per_sample=_flops(generator, *inputs), critic_parameters=_parameters(critic),
        critic_flops_per_sample=_flops(critic, frames), layers=layers)


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _flops(module: nn.Module, *inputs: torch.Tensor) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return counter.get_total_flops()


def _file_bytes(config: DistillConfig, network: Network, generator: nn.Module) -> int:
    """Bytes of the numbers in the file: weights, mean, std, class means, calibration and learnt points if there are."""
    dim, classes = network.dim, network.classes
    numbers = sum(tensor.numel() for tensor in generator.state_dict().values()) + 2 * dim + classes * dim
    if config.calibrate:
        numbers += dim * dim + 2 * classes * dim
    numbers += config.points * classes * dim
    return numbers * (2 if config.half_file else 4)


def _layers(generator: nn.Module, statistics: ModelStatistics) -> list[Layer]:
    """What computes: modules without children, and attention as a whole before its parts."""
    names = {module: name for name, module in generator.named_modules()}
    return [Layer(names[layer.module], layer.class_name, list(layer.output_size[1:]), layer.num_params)
            for layer in statistics.summary_list if layer.is_leaf_layer or isinstance(layer.module, TimeAttention)]


def print_description(description: Description) -> None:
    """Print the description as text."""
    rows = [[layer.name, layer.kind, " x ".join(map(str, layer.shape)), f"{layer.parameters:,}"]
            for layer in description.layers]
    headers, align = ("layer", "kind", "shape", "parameters"), ("left", "left", "left", "right")
    shape = f"[{description.noise} noise ; label] -> [{description.frames}, {description.dim}]"
    lines = [f"{description.architecture}: {shape}", tabulate(rows, headers=headers, colalign=align),
             f"generator: {description.parameters:,} parameters, {description.file_bytes / 1e9:.4f} GB file, "
             f"{description.flops_per_sample / 1e9:.3f} GFLOP a sample"]
    if description.critic_parameters:
        lines.append(f"critic:    {description.critic_parameters:,} parameters, "
                     f"{description.critic_flops_per_sample / 1e9:.3f} GFLOP a sample")
    print("\n".join(lines))

"""What a sample costs: the network as it is trained beside its folded copy, and both beside the machine's own rate."""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from tabulate import tabulate
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..errors import UserError
from ..products import linear
from ..rng import keyed
from ..timing import Timed, median_ratio
from .deviations import drawn
from .inference import DRAWN, DrawOptions, Inference
from .networks import NetworkConfig, build_generator

BATCH = 512
"""Samples of a round, at most."""

ROUND_FLOP = 2e11
"""Samples of a round take about this many operations, but a round has 4 samples or more. The unfolded network takes
them in one batch; it is slower still in larger ones."""

MATRIX = 2048
"""Rows and columns of the matrix product that tells the machine's rate."""


class SampleTime(NamedTuple):
    """What a sample takes, without its noise."""

    name: str
    """The network, and whether it is as it is trained or folded."""

    seconds: float
    """Of a sample, median over the rounds."""

    spread: float
    """Slowest less fastest round, as a share of the median."""

    ratio: float
    """How many times as fast as the network as it is trained: the median over rounds, each of both in turn."""

    share: float
    """Of the machine's float32 matrix-product rate: the median over rounds, each of both in turn. Operations are those
    of the network as it is trained."""

    apart: float
    """Largest difference of a frame's number from the network's own, as a share of the frames' spread."""


def bench_sample(networks: Mapping[str, NetworkConfig], dim: int, classes: int = 4, device: str = "cpu",
                 rounds: int = 5, options: DrawOptions = DRAWN) -> list[SampleTime]:
    """Seconds a sample of networks by name, random weights, turn about: two rows each, the first the baseline.

    The baseline is the network of build_generator in one batch; then how Generator draws, with `options`. A network
    whose samples have the frame deviations of any class makes two passes a sample either way.
    """
    if rounds < 1:
        raise UserError(f"rounds {rounds}: expected 1 or more.")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device {device}: torch finds no GPU here. Give cpu.")
    rows = []
    for name, config in networks.items():
        rows += _bench(name, made_up(config, dim, classes).to(device), options, rounds)
    return rows


def made_up(config: NetworkConfig, dim: int, classes: int) -> nn.Module:
    """A network with random weights, and statistics of batch norm that are not those of a fresh one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_generator(config.sized(classes, dim)).eval().requires_grad_(False)
        for name, tensor in network.state_dict().items():
            if name.endswith("running_mean"):
                tensor.normal_()
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
    return network


def _bench(name: str, network: nn.Module, options: DrawOptions, rounds: int) -> list[SampleTime]:
    """The two rows of a network, which is on its device."""
    inference = Inference(network, options)
    device = next(network.parameters()).device
    twice = inference.config.movement == "any"
    flop = operations(network, inference.config.noise) * (2 if twice else 1)
    count = int(min(BATCH, max(4, ROUND_FLOP // max(flop, 1))))
    noise = torch.randn(count, inference.config.noise, generator=keyed(0, "bench")).to(device)
    labels = torch.arange(count, device=device) % inference.config.classes
    other_labels = labels.roll(1) if twice else None
    matrix = torch.randn(MATRIX, MATRIX, generator=keyed(0, "matrix")).to(device)
    ways: list[Callable[[], torch.Tensor]] = [
        lambda: linear(matrix, matrix), lambda: drawn(network, noise, labels, other_labels),
        lambda: drawn(inference, noise, labels, other_labels)]
    with torch.no_grad():
        expected, folded = network(noise, labels), inference(noise, labels)
        taken = [[_seconds(way, device) for way in ways] for _ in range(rounds + 1)][1:]  # the first warms up
    apart = float((expected - folded).abs().max() / expected.std().clamp(min=1e-12))
    product, trained, fast = (list(column) for column in zip(*taken, strict=True))
    rate = [2 * MATRIX**3 / seconds for seconds in product]
    return [_row(f"{name}, as trained", trained, trained, count, flop, rate, 0.0),
            _row(f"{name}, folded", fast, trained, count, flop, rate, apart)]


def operations(network: nn.Module, noise: int) -> int:
    """Floating-point operations of one sample's matrix products and convolutions. noise: Z"""
    shapes = copy.deepcopy(network).to("meta")  # torch counts its own operations alone, see products.py
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shapes(torch.zeros(1, noise, device="meta"), torch.zeros(1, dtype=torch.long, device="meta"))
    return int(counter.get_total_flops())


def _seconds(way: Callable[[], torch.Tensor], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    way()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _row(name: str, taken: Sequence[float], baseline: Sequence[float], count: int, flop: int, rate: Sequence[float],
         apart: float) -> SampleTime:
    """taken, baseline: seconds of `count` samples by round; flop: of a sample; rate: of the machine by round"""
    seconds, spread = Timed.of(taken)
    share = median_ratio([count * flop / mine for mine in taken], rate)
    return SampleTime(name, seconds / count, spread, median_ratio(baseline, taken), share, apart)


def table(rows: Sequence[SampleTime], dim: int, device: str) -> str:
    """The rows as text."""
    title = f"seconds a sample on {device}, {torch.get_num_threads()} threads, D = {dim}, medians of interleaved rounds"
    headers = ("network", "s / sample", "spread", "times as fast", "share of matmul", "apart")
    return f"{title}\n\n" + tabulate(rows, headers=headers, floatfmt=("", ".4g", ".2f", ".2f", ".2f", ".1g"))

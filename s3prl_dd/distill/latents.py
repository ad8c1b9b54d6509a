"""Latents that are learnt through the frozen generator, so that small sets teach a head what all real speech does.

Beyond the paper. A list of each class, in order: its first 1, 2, 3, 6, 12, ... are each good, so any budget takes the
list's beginning. They are learnt one after the other: what is there stays, what comes is to make it better. What is
asked of a beginning: the head that ridge regression makes of its utterance means and their soft labels has the
teacher's opinion of real speech (matching.py; as CLP-DD, with a generator in between).
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from tqdm import tqdm

from ..generator import Generator
from ..pool.pool import Points
from ..rng import keyed
from .data import Scale
from .matching import closed_form_loss, ridge_head

STEPS = 100
"""Of Adam on what a beginning has beyond the one before."""

RATE = 0.1
"""Adam's first learning rate; it falls to 0 as a cosine."""

RIDGES = 1e-3, 1e-1
"""A head's ridge, in units of a point's squared length: drawn anew at each step, for heads of many kinds."""

UNLIKELY = 1e-4
"""The least probability that a label's logarithm is taken of."""


class Real(NamedTuple):
    """Real speech as heads hear it."""

    points: torch.Tensor
    """Utterance means [N, D], in units of `scale`."""

    targets: torch.Tensor
    """[N, C], what they are to be called: the teacher's opinion, without a teacher their classes."""

    scale: Scale
    """Of real utterance means."""


def learn_latents(generator: Generator, real: Points, number: int, seed: int, progress: bool = True) -> torch.Tensor:
    """Latents [C, number, Z] of the generator, of each class in order, each of length sqrt(Z) as its noise has it.

    real: utterance means [N, D] and class indices [N] of the training part; the generator stays as it is
    """
    network, heard = generator.header.network, _real(generator, real)
    latents = torch.empty(network.classes, 0, network.noise, device=generator.device)
    with tqdm(total=STEPS * len(beginnings(number)), desc="latents", unit="step", disable=not progress) as bar:
        for size in beginnings(number):
            shape = network.classes, size - latents.shape[1], network.noise
            further = torch.randn(shape, generator=keyed(seed, "latents", size)).to(generator.device)
            chance = torch.rand(STEPS, generator=keyed(seed, "ridges", size)).tolist()
            latents = torch.cat([latents, _learn_further(generator, heard, latents, further, chance, bar)], dim=1)
    return latents


def _learn_further(generator: Generator, real: Real, latents: torch.Tensor, further: torch.Tensor,
                   chance: list[float], bar: tqdm) -> torch.Tensor:
    """What makes a list better, behind what is there and stays: [C, m, Z].

    latents: [C, k, Z], k from 0 up; further: [C, m, Z], where the new ones start; chance: [STEPS] in [0, 1)
    """
    labels = torch.arange(len(latents), device=latents.device)
    old = means_of(generator, latents, labels)  # [C, k, D]
    free = further.clone().requires_grad_()
    optimizer = torch.optim.Adam([free], RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, STEPS))
    for number in chance:
        means = torch.cat([old, means_of(generator, on_shell(free), labels)], dim=1)
        loss = teaching_loss(generator, means, labels, real, _ridge(number))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        bar.update()
    return on_shell(free.detach())


def on_shell(noise: torch.Tensor) -> torch.Tensor:
    """Vectors [n, Z] at the length sqrt(Z), near which nearly all of a standard normal lies."""
    return F.normalize(noise, dim=-1) * noise.shape[-1] ** 0.5


def means_of(generator: Generator, noise: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Utterance means [C, n, D] as Generator.raw has them, of noise [C, n, Z] and classes [C]; gradients pass."""
    if not noise.shape[1]:
        return noise.new_empty(len(noise), 0, generator.header.network.dim)
    of_each = labels.repeat_interleave(noise.shape[1])
    frames = generator.scaled(generator.network(noise.flatten(0, 1), of_each), of_each)  # [C * n, T, D]
    return frames.mean(dim=1).unflatten(0, noise.shape[:2])


def beginnings(number: int) -> list[int]:
    """The sizes of the list's beginnings that are each to be good: 1, 2, 3, 6, 12, ... and all of it."""
    sizes = [1, 2, *(3 * 2**power for power in range(30))]
    return [*(size for size in sizes if size < number), number]


def teaching_loss(generator: Generator, means: torch.Tensor, labels: torch.Tensor, real: Real,
                  ridge: float) -> torch.Tensor:
    """How wrong the closed-form head of a list is about real speech; a scalar.

    means: [C, n, D] in the features' units; labels: [C]
    """
    of_each = labels.repeat_interleave(means.shape[1])
    points, targets = real.scale.units(means.flatten(0, 1)), _targets(generator, means.flatten(0, 1), of_each)
    head = ridge_head(points, targets, ridge * points.shape[1])
    wanted = _size(real.targets.clamp(min=UNLIKELY).log())
    temperature = _size(head.of_means(real.points)[0]) / wanted  # how sure a head is comes with its training
    return closed_form_loss(head, real.points, real.targets, temperature)


def _real(generator: Generator, real: Points) -> Real:
    means, labels = (values.to(generator.device) for values in real)
    scale = Scale.of(means)
    return Real(scale.units(means), _targets(generator, means, labels), scale)


def _targets(generator: Generator, means: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """[n, C]: the teacher's soft labels, or where there is no teacher the classes."""
    if generator.teacher is None:
        return F.one_hot(labels, generator.header.network.classes).float()
    return generator.soften(means)


def _size(logits: torch.Tensor) -> torch.Tensor:
    """How large logits [N, C] are, but for what is common to all classes; a scalar."""
    return (logits - logits.mean(dim=1, keepdim=True)).norm()


def _ridge(chance: float) -> float:
    """A ridge between RIDGES, evenly on a logarithmic scale; chance in [0, 1)."""
    low, high = RIDGES
    return low * math.exp(chance * math.log(high / low))

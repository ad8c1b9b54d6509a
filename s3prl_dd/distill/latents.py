"""Latents that are learnt through the frozen generator, so that small sets teach a head what all real speech does.

Beyond the paper. A list of each class, in order: its first 1, 2, 3, 6, 12, ... are each good, so any budget takes the
list's beginning. What is asked of such a beginning: the head that ridge regression makes of its utterance means and
their soft labels has the teacher's opinion of real speech (matching.py; as CLP-DD, with a generator in between).
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from tqdm import tqdm

from ..generator import Generator
from ..generator.calibrate import calibrate
from ..pool.pool import Points
from ..rng import keyed
from .data import Scale
from .matching import closed_form_loss, ridge_head

STEPS = 150
"""Of Adam on all latents together."""

RATE = 0.05
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
    network, device = generator.header.network, generator.device
    labels = torch.arange(network.classes, device=device).repeat_interleave(number)  # [C * n]
    places = torch.arange(number, device=device).repeat(network.classes)
    heard = _real(generator, real)
    start = torch.randn(len(labels), network.noise, generator=keyed(seed, "latents"))
    free = start.to(device).requires_grad_()
    optimizer = torch.optim.Adam([free], RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    chance = torch.rand(STEPS, generator=keyed(seed, "ridges")).tolist()
    for step in tqdm(range(STEPS), desc="latents", unit="step", disable=not progress):
        means = means_of(generator, on_shell(free), labels)
        loss = nested_loss(generator, means, labels, places, heard, _ridge(chance[step]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return on_shell(free.detach()).unflatten(0, (network.classes, number))


def on_shell(noise: torch.Tensor) -> torch.Tensor:
    """Vectors [n, Z] at the length sqrt(Z), near which nearly all of a standard normal lies."""
    return F.normalize(noise, dim=-1) * noise.shape[-1] ** 0.5


def means_of(generator: Generator, noise: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Utterance means [n, D] as Generator.raw has them, of noise [n, Z] and labels [n]; gradients pass."""
    frames = generator.network(noise, labels) * generator.std + generator.mean  # [n, T, D]
    if generator.calibration is not None:
        frames = calibrate(frames, labels, generator.calibration)
    return frames.mean(dim=1)


def beginnings(number: int) -> list[int]:
    """The sizes of the list's beginnings that are each to be good: 1, 2, 3, 6, 12, ... and all of it."""
    sizes = [1, 2, *(3 * 2**power for power in range(30))]
    return [*(size for size in sizes if size < number), number]


def nested_loss(generator: Generator, means: torch.Tensor, labels: torch.Tensor, places: torch.Tensor, real: Real,
                ridge: float) -> torch.Tensor:
    """The sum over the list's beginnings of what the head of each is wrong about real speech.

    means: [n, D] of the list, in the features' units; labels, places: [n], classes and places in their lists
    """
    points, targets = real.scale.units(means), _targets(generator, means, labels)
    wanted = _size(real.targets.clamp(min=UNLIKELY).log())
    total = torch.zeros((), device=means.device)
    for size in beginnings(int(places.max()) + 1):
        first = places < size
        head = ridge_head(points[first], targets[first], ridge * points.shape[1])
        temperature = _size(head.of_means(real.points)[0]) / wanted  # how sure a head is comes with its training
        total = total + closed_form_loss(head, real.points, real.targets, temperature)
    return total


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

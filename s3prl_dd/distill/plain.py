"""The benchmark's baseline: the distiller as a plain loop, written straight from the paper's equations.

torch's own layers, a pass of the critic for each thing that is asked of it, torch.autograd.grad, torch.optim.Adam, and
heads as S3PRL calls them. No tricks, and no checks either; as in the field's public code, the critic's gradients are
computed in a generator's update too. It starts from a Trainer's weights and takes its batches, so that losses can be
compared.
"""

import copy
from collections.abc import Iterable
from dataclasses import asdict
from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F

from ..generator import Network
from ..pool.heads import SUPERB_KEYS
from ..rng import keyed
from .config import DistillConfig
from .critic import UTTERANCE_SCALE
from .losses import assign_within_class
from .trainer import Trainer

KNOWN_TERMS = ("gradient_penalty", "critic_class", "feature_matching", "generator_class", "softmax_matching",
               "diversity")
"""The loss terms that this loop computes, beside the two scores: those of the paper."""


def unknown_to_plain(config: DistillConfig) -> list[str]:
    """What a configuration trains with and this loop does not compute, as KEY=VALUE; [] where it computes all of it."""
    unknown = [f"lambdas.{name}={weight:g}" for name, weight in asdict(config.lambdas).items()
               if weight and name not in KNOWN_TERMS]
    if config.pool_kinds:
        unknown.append(f"softmax_kinds={','.join(config.softmax_kinds)}")
    if config.penalty_every > 1:
        unknown.append(f"penalty_every={config.penalty_every}")
    return unknown


class PlainLoop:
    """The same training as a Trainer's, from its weights on; it changes nothing of the Trainer.

    Its configuration is one that `unknown_to_plain` finds nothing in.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.config = trainer, trainer.config
        self.generator = PlainGenerator(trainer.network).to(trainer.device)
        self.critic = PlainCritic(trainer.network).to(trainer.device)
        self.average = copy.deepcopy(self.generator)
        self.generator_adam = torch.optim.Adam(self.generator.parameters(), self.config.generator_lr, self.config.betas)
        self.critic_adam = torch.optim.Adam(self.critic.parameters(), self.config.critic_lr, self.config.betas)
        self.take_state(trainer)

    def take_state(self, trainer: Trainer) -> None:
        """Go on from the Trainer's networks, average and optimisers."""
        self.step = trainer.step
        for name in ("generator", "critic", "average"):
            copy_weights(getattr(trainer, name), getattr(self, name))
        copy_moments(trainer.generator_optimizer, self.generator_adam)
        copy_moments(trainer.critic_optimizer, self.critic_adam)

    def train_step(self) -> dict[str, float]:
        """Critic updates, a generator update, the average of its weights; loss term -> its value."""
        self.step += 1
        for number in range(self.config.critic_steps):
            critic_terms = self.critic_terms(self.step, number)
            self.update(self.critic_adam, critic_terms)
        generator_terms = self.generator_terms(self.step)
        self.update(self.generator_adam, generator_terms)
        decay = min(self.config.ema, self.step / (self.step + 10))
        with torch.no_grad():
            states = self.average.state_dict(), self.generator.state_dict()
            for mean, value in zip(*(state.values() for state in states), strict=True):
                mean.copy_(decay * mean + (1 - decay) * value)
        return {name: value.item() for name, value in {**critic_terms, **generator_terms}.items()}

    def update(self, adam: torch.optim.Adam, terms: dict[str, torch.Tensor]) -> None:
        """One step of Adam on the weighted sum of the terms."""
        adam.zero_grad()
        torch.stack([self.config.weights[name] * value for name, value in terms.items()]).sum().backward()
        adam.step()

    def critic_terms(self, step: int, number: int) -> dict[str, torch.Tensor]:
        """Eq. 1 and 4."""
        batches, lambdas = self.trainer.batches, self.config.lambdas
        real = batches.real("critic-real", step, number)
        fake = self.generator(batches.noise("critic-noise", step, number), batches.labels).detach()
        on_real, on_fake = self.critic(real), self.critic(fake)
        terms = {"critic_score": on_fake.score.mean() - on_real.score.mean()}
        if lambdas.gradient_penalty:
            mix = batches.mix("mix", step, number).view(-1, 1, 1)
            between = (mix * real + (1 - mix) * fake).requires_grad_()
            gradient, = torch.autograd.grad(self.critic(between).score.sum(), between, create_graph=True)
            terms["gradient_penalty"] = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
        if lambdas.critic_class:
            terms["critic_class"] = F.cross_entropy(on_real.logits, batches.labels)
        return terms

    def generator_terms(self, step: int) -> dict[str, torch.Tensor]:
        """Eq. 5 and 8."""
        batches, lambdas = self.trainer.batches, self.config.lambdas
        labels, noise = batches.labels, batches.noise("noise", step)
        real, fake = batches.real("real", step), self.generator(noise, labels)
        on_fake = self.critic(fake)
        terms = {"generator_score": -on_fake.score.mean()}
        if lambdas.feature_matching:
            terms["feature_matching"] = self.feature_matching(self.critic(real).maps, on_fake.maps)
        if lambdas.generator_class:
            terms["generator_class"] = F.cross_entropy(on_fake.logits, labels)
        if lambdas.softmax_matching:
            terms["softmax_matching"] = self.softmax_matching(real, fake, step)
        if lambdas.diversity:
            terms["diversity"] = self.diversity(fake, noise)
        return terms

    def feature_matching(self, real_maps: list[torch.Tensor], fake_maps: list[torch.Tensor]) -> torch.Tensor:
        """Eq. 3, of paired samples or of the classes' mean maps."""
        distances = []
        for real, fake in zip(real_maps, fake_maps, strict=True):
            if self.config.feature_matching == "class":
                real, fake = self._class_means(real), self._class_means(fake)
            distances.append((real.detach() - fake).abs().mean())
        return torch.stack(distances).sum()

    def _class_means(self, maps: torch.Tensor) -> torch.Tensor:
        labels = self.trainer.batches.labels
        return torch.stack([maps[labels == label].mean(dim=0) for label in range(self.trainer.network.classes)])

    def softmax_matching(self, real: torch.Tensor, fake: torch.Tensor, step: int) -> torch.Tensor:
        """Eq. 6, a head after the other, each on frames as in S3PRL: linear, mean over time, linear."""
        trainer = self.trainer
        assert trainer.pool is not None
        heads = trainer.pool.draw(self.config.softmax_heads, keyed(self.config.seed, "heads", step))
        real, fake = (frames * trainer.std + trainer.mean for frames in (real, fake))
        real_logits: list[torch.Tensor] = []
        fake_logits: list[torch.Tensor] = []
        for first, first_bias, last, last_bias in zip(*(heads.get(key) for key in SUPERB_KEYS), strict=True):
            for logits, frames in ((real_logits, real), (fake_logits, fake)):
                logits.append(F.linear(F.linear(frames, first, first_bias).mean(dim=1), last, last_bias))
        p = torch.stack(real_logits).detach().log_softmax(dim=-1)  # [M, B, C]
        q = torch.stack(fake_logits).log_softmax(dim=-1)
        if self.config.softmax_pairing == "assignment":
            on_real, on_fake = (side.transpose(0, 1).flatten(1) for side in (p, q))  # [B, M * C]
            p = p[:, assign_within_class(on_real, on_fake, trainer.batches.labels)]
        return (p.exp() * (p - q)).sum(dim=-1).mean()

    def diversity(self, fake: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Eq. 7 of each sample and the next one of its class."""
        classes = self.trainer.network.classes
        apart = (fake - fake.roll(-classes, 0)).square().sum(dim=2).mean(dim=1).clamp(min=1e-12).sqrt()
        ratio = apart / (noise - noise.roll(-classes, 0)).norm(dim=1)
        return -ratio.clamp(max=self.config.tau).mean()


def copy_weights(ours: nn.Module, plain: nn.Module) -> None:
    """Give a plain network the weights of ours, whose layers are the same in the same order, and running statistics."""
    for kind in (nn.Module.parameters, nn.Module.buffers):
        numbers = [value for value in kind(plain) if value.is_floating_point()]  # torch's batch norm counts, too
        _copy(kind(ours), numbers)


def copy_moments(ours: torch.optim.Optimizer, plain: torch.optim.Optimizer) -> None:
    """Give a plain network's Adam the state of ours; a step that was not taken yet has none."""
    for one, other in zip(ours.param_groups, plain.param_groups, strict=True):
        for parameter, theirs in zip(one["params"], other["params"], strict=True):
            state = ours.state.get(parameter, {})
            plain.state[theirs] = {name: _like(value, theirs) for name, value in state.items()}


def _like(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """A copy of what Adam keeps: moments in a parameter's shape; an Adam that is not fused counts steps on the CPU."""
    return value.detach().clone().reshape(parameter.shape) if value.dim() else value.detach().clone().cpu()


def _copy(values: Iterable[torch.Tensor], to: Iterable[torch.Tensor]) -> None:
    with torch.no_grad():
        for target, value in zip(to, values, strict=True):
            target.copy_(value.reshape(target.shape))  # a TimeConv's [O, I * K] is a Conv1d's [O, I, K]


# the networks by torch's layers


def _mlp(inputs: int, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2),
                         nn.Linear(width, outputs))


class PlainAttention(nn.Module):
    """Self-attention over time on maps [B, C, T, D'], queries and keys of the mean over D', residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.value, self.output = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, T, D'] -> the same shape"""
        frames = x.mean(dim=3).transpose(1, 2)
        weights = self.query(frames) @ self.key(frames).transpose(1, 2) / frames.shape[-1] ** 0.5
        return x + self.output(torch.einsum("bts,bcsd->bctd", weights.softmax(dim=-1), self.value(x)))


class HalvesToFrames(nn.Module):
    """[B, 2 N, T] -> [B, N, 2 T]: the halves of a frame's channels become two frames."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, 2 N, T] -> [B, N, 2 T]"""
        return x.unflatten(1, (2, -1)).permute(0, 2, 3, 1).flatten(2)


class PlainGenerator(nn.Module):
    """z = [noise ; onehot(label)] > linear > convolutions with batch norm and leaky ReLU > frames."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network, latent = network, network.noise + network.classes
        self.one_dimensional = network.architecture == "gan_1d"
        positions = network.frames // 4 if self.one_dimensional else network.frames // 8 * -(-network.dim // 8)
        self.start = nn.Linear(latent, network.channels * positions)
        self.body = nn.Sequential(*(_generator_1d(network) if self.one_dimensional else _generator_2d(network)))
        self.utterance = _mlp(latent, network.channels, network.dim) if network.utterance_branch else None

    def forward(self, noise: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """noise: [B, Z]; labels: [B] -> [B, T, D]"""
        network = self.network
        latent = torch.cat([noise, F.one_hot(labels, network.classes)], dim=1)
        start = self.start(latent)
        if self.one_dimensional:
            maps = start.view(-1, network.frames // 4, network.channels).transpose(1, 2)
            frames = self.body(maps).transpose(1, 2)
        else:
            maps = start.view(-1, network.channels, network.frames // 8, -(-network.dim // 8))
            frames = self.body(maps)[:, 0, :, :network.dim]
        return frames if self.utterance is None else frames + self.utterance(latent)[:, None]


def _generator_1d(network: Network) -> list[nn.Module]:
    """Four convolutions over time of [B, C, T'], the middle ones double the time, and one to D dimensions."""
    width, kernel = network.channels, network.kernel
    layers: list[nn.Module] = []
    for doubles in (False, True, True, False):
        layers.append(nn.Conv1d(width, 2 * width if doubles else width, kernel, padding=kernel // 2))
        layers += [HalvesToFrames()] if doubles else []
        layers += [nn.BatchNorm1d(width), nn.LeakyReLU(0.2)]
    return [*layers, nn.Conv1d(width, network.dim, 1)]


def _generator_2d(network: Network) -> list[nn.Module]:
    """Eight (transposed) convolutions of [B, C, T', D'], for GAN-ATT dilated and with attention, and one to one map."""
    width, kernel, attention = network.channels, network.kernel, network.architecture == "gan_att"
    dilation = 2 if attention else 1
    layers: list[nn.Module] = []
    for number in range(1, 9):
        if number in (4, 6, 8):
            layers.append(nn.ConvTranspose2d(width, width, 4, stride=2, padding=1))
        else:
            layers.append(nn.Conv2d(width, width, kernel, padding=dilation * (kernel // 2), dilation=dilation))
        layers += [nn.BatchNorm2d(width), nn.LeakyReLU(0.2)]
        layers += [PlainAttention(width)] if attention and number == 4 else []
    return [*layers, nn.Conv2d(width, 1, kernel, padding=kernel // 2)]


class PlainOutput(NamedTuple):
    """What the critic says."""

    score: torch.Tensor  # [B]
    logits: torch.Tensor  # [B, C]
    maps: list[torch.Tensor]


class PlainCritic(nn.Module):
    """Convolutions with layer norm and leaky ReLU > score and classes, beside them a branch of the utterance mean."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.one_dimensional = network.architecture == "gan_1d"
        layers, size = _critic_1d(network) if self.one_dimensional else _critic_2d(network)
        width = network.critic_channels
        self.layers = nn.ModuleList(layers)
        branch = [nn.Sequential(nn.Linear(inputs, width), nn.LayerNorm(width), nn.LeakyReLU(0.2))
                  for inputs in (network.dim, width)]
        self.utterance = nn.ModuleList(branch if network.utterance_branch else [])
        size += width if network.utterance_branch else 0
        self.score, self.classify = nn.Linear(size, 1), nn.Linear(size, network.classes)

    def forward(self, frames: torch.Tensor) -> PlainOutput:
        """frames: [B, T, D]"""
        x, mean, maps = frames.transpose(1, 2) if self.one_dimensional else frames[:, None], frames.mean(dim=1), []
        for layer in self.layers:
            x = layer(x)
            maps.append(x)
        x = (x.transpose(1, 2) if self.one_dimensional else x).flatten(1)
        mean = UTTERANCE_SCALE * mean
        for layer in self.utterance:
            mean = layer(mean)
            maps.append(mean)
        x = torch.cat([x, mean], dim=1) if self.utterance else x
        return PlainOutput(self.score(x)[:, 0], self.classify(x), maps)


def _critic_1d(network: Network) -> tuple[list[nn.Module], int]:
    """Four convolutions over time of [B, D, T], and the size of one sample's output."""
    width, kernel, inputs = network.critic_channels, network.kernel, network.dim
    layers: list[nn.Module] = []
    for stride in (1, 2, 2, 1):
        conv = nn.Conv1d(inputs, width, kernel, stride, kernel // 2)
        layers.append(nn.Sequential(conv, nn.GroupNorm(1, width), nn.LeakyReLU(0.2)))
        inputs = width
    return layers, width * (network.frames // 4)


def _critic_2d(network: Network) -> tuple[list[nn.Module], int]:
    """Eight convolutions of [B, 1, T, D], and the size of one sample's output."""
    width, time, dim, inputs = network.critic_channels, network.frames, network.dim, 1
    layers: list[nn.Module] = []
    for number in range(1, 9):
        stride = 2 if number in (2, 4, 6) else 1
        outputs = width // 4 if number <= 2 else width // 2 if number <= 4 else width
        conv = nn.Conv2d(inputs, outputs, network.kernel, stride, network.kernel // 2)
        layers.append(nn.Sequential(conv, nn.GroupNorm(1, outputs), nn.LeakyReLU(0.2)))
        time, dim, inputs = -(-time // stride), -(-dim // stride), outputs
    return layers, width * time * dim

"""Seconds a generator step of several configurations, interleaved in one process: ratios hold on a busy machine too."""

import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from tabulate import tabulate
from tqdm import tqdm

from ..errors import UserError
from ..generator import CorpusInfo, Provenance
from ..pool.heads import Heads
from ..pool.pool import Pool
from ..rng import keyed
from .config import DistillConfig
from .data import TrainingData
from .parts import Parts
from .size import check_size
from .trainer import Trainer

HEADS, UTTERANCES, FRAMES = 40, 64, 100
"""Of the made-up pool, of each class, of each utterance."""


class StepTime(NamedTuple):
    """What a configuration's step takes."""

    seconds_per_step: float
    """Median over the rounds."""

    ratio: float
    """Of it, to the first configuration's."""

    batch: int
    critic_steps: int
    steps: int
    hours: float
    """All steps."""


def bench(configs: Mapping[str, DistillConfig], dim: int, classes: int = 4, rounds: int = 5,
          device: str = "cpu") -> dict[str, StepTime]:
    """Configuration by name -> what its step takes on features of `dim` dimensions, which are noise here.

    A step is all critic updates, the generator update and its average. Each round takes one step of each configuration.
    """
    if rounds < 1:
        raise UserError(f"rounds {rounds}: expected 1 or more.")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device {device}: torch finds no GPU here. Give cpu.")
    for name, config in configs.items():
        if config.network.architecture == "gaussian":
            raise UserError(f"{name}: nothing is trained there. Give a GAN's configuration.")
        check_size(config.network.sized(classes, dim))
    trainers = {name: make_trainer(config, dim, classes, device) for name, config in configs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    for number in tqdm(range(rounds + 1), desc="bench", unit="round"):
        for name, trainer in trainers.items():
            taken = _time_step(trainer)
            if number:  # the first is the warm-up
                seconds[name].append(taken)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    first = next(iter(medians.values()))
    return {name: StepTime(medians[name], medians[name] / first, config.batch, config.critic_steps, config.steps,
                           medians[name] * config.steps / 3600) for name, config in configs.items()}


def _time_step(trainer: Trainer) -> float:
    started = time.perf_counter()
    trainer.train_step()
    if trainer.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def make_trainer(config: DistillConfig, dim: int, classes: int, device: str) -> Trainer:
    """A Trainer on noise in the place of features, with a pool of untrained heads."""
    labels = torch.arange(classes * UTTERANCES) % classes
    noise = torch.randn(len(labels), FRAMES, dim, generator=keyed(0, "bench"))
    dev = noise[:classes, 0], labels[:classes]
    data = TrainingData.build(list(noise), labels, dev, config.framing, config.network.frames)
    pool = Pool(Heads.create(range(HEADS), dim, classes), [1] * HEADS, range(HEADS), [0.5] * HEADS)
    features = Provenance(upstream="noise", upstream_ckpt_digest=None, selection="none", layer=None, normalize=False,
                          layer_weights=None, dim=dim, rate=320)
    corpus = CorpusInfo(name="noise", fold="none", synthetic=True, train_speakers=[], test_speakers=[], test_digest="")
    names = {str(label): label for label in range(classes)}
    return Trainer(config, data, Path(), Parts(names, features, corpus), pool, device)


def table(results: Mapping[str, StepTime], dim: int, device: str) -> str:
    """The results as text."""
    title = (f"seconds a generator step on {device}, {torch.get_num_threads()} threads, D = {dim}, "
             "medians of interleaved rounds")
    rows = [[name, row.batch, row.critic_steps, row.seconds_per_step, row.ratio, row.steps, row.hours]
            for name, row in results.items()]
    headers = ("configuration", "batch", "critic", "s / step", "ratio", "steps", "hours")
    return f"{title}\n\n" + tabulate(rows, headers=headers, floatfmt=("", "", "", ".3f", ".2f", "", ".2f"))

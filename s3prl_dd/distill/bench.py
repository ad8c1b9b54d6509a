"""Seconds a generator step of several configurations, interleaved in one process: ratios that hold on a busy machine too."""

import statistics
import time
from pathlib import Path

import torch
from tqdm import tqdm

from ..errors import UserError
from ..pool.heads import Heads
from ..pool.pool import Pool
from ..rng import keyed
from .data import TrainingData
from .trainer import Trainer

HEADS, UTTERANCES, FRAMES = 40, 64, 100  # of the made-up pool, of each class, of each utterance


def bench(configs, dim, classes=4, rounds=5, device="cpu"):
    """configs: name -> DistillConfig; dim: D of the features, which are noise here. returns: name -> dict of what was measured

    A step is all critic updates, the generator update and its average. Each round takes one step of each configuration.
    """
    for name, config in configs.items():
        if config.network.architecture == "gaussian":
            raise UserError(f"{name}: nothing is trained there. Give a GAN's configuration.")
    trainers = {name: make_trainer(config, dim, classes, device) for name, config in configs.items()}
    seconds = {name: [] for name in trainers}
    for number in tqdm(range(rounds + 1), desc="bench", unit="round"):
        for name, trainer in trainers.items():
            started = time.perf_counter()
            trainer.train_step()
            if trainer.device.type == "cuda":
                torch.cuda.synchronize()
            if number:  # the first is the warm-up
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    first = next(iter(medians.values()))
    return {name: {"seconds_per_step": medians[name], "ratio": medians[name] / first, "batch": configs[name].batch,
                   "critic_steps": configs[name].critic_steps, "steps": configs[name].steps,
                   "hours": medians[name] * configs[name].steps / 3600} for name in trainers}


def make_trainer(config, dim, classes, device):
    labels = torch.arange(classes * UTTERANCES) % classes
    noise = torch.randn(len(labels), FRAMES, dim, generator=keyed(0, "bench"))
    dev = noise[:classes, 0], labels[:classes]
    data = TrainingData.build(list(noise), labels, dev, config.framing, config.network.frames)
    pool = Pool(Heads.create(range(HEADS), dim, classes), [1] * HEADS, range(HEADS), [0.5] * HEADS) if config.needs_pool else None
    return Trainer(config, data, Path(), {}, pool, device)


def table(results, dim, device):
    lines = [f"seconds a generator step on {device}, {torch.get_num_threads()} threads, D = {dim}, medians of interleaved rounds", "",
             f"{'configuration':<20} {'batch':>6} {'critic':>7} {'s / step':>9} {'ratio':>7} {'steps':>7} {'hours':>7}"]
    lines.append("-" * len(lines[-1]))
    for name, found in results.items():
        lines.append(f"{name:<20} {found['batch']:>6} {found['critic_steps']:>7} {found['seconds_per_step']:>9.3f} {found['ratio']:>7.2f} "
                     f"{found['steps']:>7} {found['hours']:>7.2f}")
    return "\n".join(lines)

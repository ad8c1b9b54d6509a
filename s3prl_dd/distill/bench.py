"""What a distiller's step costs beside a plain loop's (plain.py), and what many utterances take in time and memory."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn as nn
from tabulate import tabulate
from tqdm import tqdm

from ..config import build, load_config
from ..corpora.metadata import Fold, Metadata
from ..errors import UserError
from ..features.bench import peak_memory, report
from ..features.store import FeatureStore
from ..generator import CorpusInfo, Provenance
from ..generator.networks import GANS
from ..pool.heads import Heads
from ..pool.pool import Pool, train_pool
from ..rng import keyed
from ..timing import Timed, median_ratio
from .config import DistillConfig
from .data import TrainingData
from .losses import Terms, weighted_sum
from .parts import Parts
from .plain import KNOWN_TERMS, PlainLoop, unknown_to_plain
from .selection import HEAD_STEPS
from .size import check_size
from .trainer import Trainer

HEADS, UTTERANCES, FRAMES = 40, 64, 100
"""Of the made-up pool, of each class, of each utterance."""

AT_ONCE = {"cpu": 3, "cuda": 5}
"""Steps of a round, one behind the other as in training; a GPU's are short."""

SETTLING = 10
"""Steps after which a trainer knows how many threads help."""

# a step beside the plain loop's


class StepTime(NamedTuple):
    """What a step takes: all critic updates, the generator update and its average."""

    name: str
    """The configuration, and whose step it is: ours, or the plain loop's."""

    seconds: float
    """Median over the rounds."""

    spread: float
    """Slowest less fastest round, as a share of the median."""

    ratio: float
    """How many times as fast as the plain loop: the median over rounds, each of both in turn."""

    peak: int
    """Bytes of memory at most: of a process of its own on a CPU (torch's imports included); of a GPU what its steps
    took besides what both hold between steps."""

    apart: float
    """How far from the plain loop in the same state, at most: of a loss, as a share of it where it is over 1, or of
    the gradient of a network's weights, as a share of its length. Median over the rounds: where a leaky ReLU's input is
    0 but for rounding, the gradients of one state may be further apart."""

    hours: float
    """All steps of the configuration."""


def bench_step(configs: Mapping[str, DistillConfig], dim: int, classes: int = 4, rounds: int = 20,
               device: str = "cpu") -> list[StepTime]:
    """The plain loop's step and ours, turn about, for each configuration, on features of `dim` dimensions of noise.

    Both start each round from our state, in which their losses are compared: Adam multiplies rounding, so that two
    float32 runs of the same equations part after a few steps. The plain loop is in float32 whatever our precision.
    """
    _check(configs, dim, classes, rounds, device)
    rows: list[StepTime] = []
    for name, config in tqdm(configs.items(), desc="bench", unit="configuration", disable=None):
        rows += _both_steps(name, config, dim, classes, rounds, device)
    return rows


def _check(configs: Mapping[str, DistillConfig], dim: int, classes: int, rounds: int, device: str) -> None:
    if rounds < 1:
        raise UserError(f"rounds {rounds}: expected 1 or more.")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device {device}: torch finds no GPU here. Give cpu.")
    for name, config in configs.items():
        if config.network.architecture not in GANS:
            raise UserError(f"{name}: nothing is trained there. Give a GAN's configuration.")
        unknown = unknown_to_plain(config)
        if unknown:
            raise UserError(f"{name}: the plain loop, which a step is compared with, does not compute "
                            f"{', '.join(unknown)}: their times would be of unequal work. It knows the paper's terms "
                            f"({', '.join(KNOWN_TERMS)}) with SUPERB's heads and a penalty at each critic update.")
        check_size(config.network.sized(classes, dim))


def _both_steps(name: str, config: DistillConfig, dim: int, classes: int, rounds: int, device: str) -> list[StepTime]:
    trainer = make_trainer(config, dim, classes, device)
    plain = PlainLoop(trainer)
    steps = AT_ONCE[trainer.device.type]
    theirs: list[Round] = []
    ours: list[Round] = []
    apart: list[float] = []
    time_steps(trainer, SETTLING if trainer.threads else 1)
    for _ in range(rounds + 1):
        plain.take_state(trainer)
        apart.append(losses_apart(trainer, plain))
        theirs.append(time_steps(plain, steps))
        ours.append(time_steps(trainer, steps))
    theirs, ours = theirs[1:], ours[1:]  # the first warms up
    ratio = median_ratio([taken.seconds for taken in theirs], [taken.seconds for taken in ours])
    if trainer.device.type == "cuda":
        peaks = [max(round.peak for round in taken) for taken in (theirs, ours)]
    else:
        peaks = [step_memory(config, dim, classes, device, plain=of_plain) for of_plain in (True, False)]
    return [_row(f"{name}, plain loop", theirs, 1.0, peaks[0], 0.0, config.steps),
            _row(name, ours, ratio, peaks[1], torch.tensor(apart).median().item(), config.steps)]


class Round(NamedTuple):
    """Steps that were timed: seconds of one, and bytes of a GPU besides what lay there before."""

    seconds: float
    peak: int


def time_steps(loop: Trainer | PlainLoop, steps: int) -> Round:
    """So many steps, one after the other."""
    device = loop.trainer.device if isinstance(loop, PlainLoop) else loop.device
    before = 0
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    started = time.perf_counter()
    for _ in range(steps):
        loop.train_step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = (time.perf_counter() - started) / steps
    return Round(seconds, torch.cuda.max_memory_allocated(device) - before if device.type == "cuda" else 0)


def losses_apart(trainer: Trainer, plain: PlainLoop) -> float:
    """See StepTime.apart: of the next step's first critic update and of its generator update, before any of them."""
    step = trainer.step + 1
    trainer.critic.requires_grad_(True)  # a step leaves it without
    of_critic = trainer.critic_terms(step, 0), plain.critic_terms(step, 0)
    critics = _gradients_apart((trainer.critic, plain.critic), of_critic, trainer)
    of_generator = trainer.generator_terms(step).terms, plain.generator_terms(step)
    generators = _gradients_apart((trainer.generator, plain.generator), of_generator, trainer)
    pairs = [(ours[name].item(), value.item()) for ours, theirs in (of_critic, of_generator)
             for name, value in theirs.items()]
    return _largest(critics, generators, *(abs(one - other) / max(1.0, abs(other)) for one, other in pairs))


def _largest(*values: float) -> float:
    """The largest, and not a number where one is not."""
    return torch.tensor(values, dtype=torch.float64).max().item()


def _gradients_apart(networks: tuple[nn.Module, nn.Module], terms: tuple[Terms, Terms], trainer: Trainer) -> float:
    """How far the gradient of our network's weights is from that of the plain one's, as a share of its length."""
    ours, theirs = (_gradient(network, weighted_sum(of_network, trainer.weights))
                    for network, of_network in zip(networks, terms, strict=True))
    return float((ours - theirs).norm() / theirs.norm())


def _gradient(network: nn.Module, total: torch.Tensor) -> torch.Tensor:
    """By all weights, one behind the other."""
    weights = [*network.parameters()]
    found = torch.autograd.grad(total, weights, allow_unused=True)
    gradients = (torch.zeros_like(weight) if gradient is None else gradient
                 for weight, gradient in zip(weights, found, strict=True))
    return torch.cat([gradient.flatten() for gradient in gradients])


def _row(name: str, rounds: list[Round], ratio: float, peak: int, apart: float, steps: int) -> StepTime:
    seconds, spread = Timed.of([taken.seconds for taken in rounds])
    return StepTime(name, seconds, spread, ratio, peak, apart, seconds * steps / 3600)


def step_table(rows: list[StepTime], dim: int, device: str) -> str:
    """The rows as text."""
    title = (f"seconds a generator step on {device}, {torch.get_num_threads()} thread(s), D = {dim}, "
             "medians of interleaved rounds")
    cells = [[row.name, row.seconds, f"{row.spread:.0%}", row.ratio, row.peak / 1e6, f"{row.apart:.0e}", row.hours]
             for row in rows]
    headers = ("configuration", "s / step", "spread", "times as fast", "peak MB", "apart", "hours")
    return f"{title}\n\n" + tabulate(cells, headers=headers, floatfmt=("", ".4f", "", ".2f", ".0f", "", ".2f"))


def step_memory(config: DistillConfig, dim: int, classes: int, device: str, plain: bool) -> int:
    """Bytes of memory that three steps on a CPU take at most, in a process of their own."""
    told = json.dumps([asdict(config), dim, classes, device, plain])
    return int(in_own_process("print_step_memory", told))


def print_step_memory(told: str) -> None:
    """What `step_memory` calls in a process of its own; told: its arguments as JSON."""
    config, dim, classes, device, plain = json.loads(told)
    trainer = make_trainer(build(DistillConfig, config, "bench"), dim, classes, device)
    loop = PlainLoop(trainer) if plain else trainer
    for _ in range(3):
        loop.train_step()
    print(peak_memory())


def in_own_process(function: str, *arguments: str) -> str:
    """The last line that a function of this module prints in a process of its own, with as many threads as here."""
    code = (f"import sys, torch; torch.set_num_threads({torch.get_num_threads()}); "
            f"from {__name__} import {function}; {function}(*sys.argv[1:])")
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{function}: the process ended with {done.returncode} ({done.stderr.strip()[-200:]}). "
                        "Is there memory and disk enough?")
    return done.stdout.splitlines()[-1]


def make_trainer(config: DistillConfig, dim: int, classes: int, device: str) -> Trainer:
    """A Trainer on noise in the place of features, with a pool of untrained heads."""
    labels = torch.arange(classes * UTTERANCES) % classes
    noise = torch.randn(len(labels), FRAMES, dim, generator=keyed(0, "bench"))
    dev = noise[:classes, 0], labels[:classes]
    data = TrainingData.build(list(noise), labels, dev, config.framing, config.network.frames)
    pool = Pool(Heads.create(range(HEADS), dim, classes), [1] * HEADS, range(HEADS), [0.5] * HEADS)
    return Trainer(config, data, Path(), _parts(dim, classes), pool, device)


def _parts(dim: int, classes: int) -> Parts:
    features = Provenance(upstream="noise", upstream_ckpt_digest=None, selection="none", layer=None, normalize=False,
                          layer_weights=None, dim=dim, rate=320)
    corpus = CorpusInfo(name="noise", fold="none", synthetic=True, train_speakers=[], test_speakers=[], test_digest="")
    names = {str(label): label for label in range(classes)}
    return Parts(names, features, corpus)


# many utterances


SCALE_POOL_STEPS, SCALE_STEPS = 20, 2


def run_step(name: str, folder: str) -> None:
    """What features.bench.measure calls in a process of its own: a stage of SCALE_STAGES."""
    report(SCALE_STAGES[name], folder)


def _scale_data(folder: Path) -> TrainingData:
    """All but a tenth of the utterances for training, the tenth as dev; but those of a single frame."""
    store, metadata = FeatureStore(folder / "store"), Metadata.read(folder / "train.json")
    long = [index for index, frames in enumerate(store.lengths[store.select(metadata)].tolist()) if frames > 1]
    train = metadata.subset([index for place, index in enumerate(long) if place % 10])
    dev = metadata.subset(long[::10])
    return TrainingData.from_store(store, Fold("fold1", train, dev, dev))


def _scale_pool(folder: Path) -> Pool:
    data = _scale_data(folder)
    assert data.dev is not None
    return train_pool((data.means, data.labels), data.dev, steps=SCALE_POOL_STEPS, snapshots=4, progress=False)


def _scale_steps(folder: Path) -> None:
    """Steps, an evaluation and a checkpoint."""
    data = _scale_data(folder)
    config = load_config(DistillConfig, "gan_1d", [f"steps={SCALE_STEPS}"])
    make = Pool(Heads.create(range(HEADS), data.dim, 4), [1] * HEADS, range(HEADS), [0.5] * HEADS)
    few = HEAD_STEPS._replace(quick=SCALE_POOL_STEPS)  # memory does not grow with them
    trainer = Trainer(config, data, folder / "gan", _parts(data.dim, 4), make, head_steps=few)
    trainer.train(progress=False)


SCALE_STAGES: dict[str, Callable[[Path], object]] = {
    "frames and statistics": _scale_data,
    "the same again": _scale_data,
    f"pool, {SCALE_POOL_STEPS} steps": _scale_pool,
    f"distil, {SCALE_STEPS} steps": _scale_steps,
}
"""Name -> what is done in a folder of features.bench.make_corpus; the first leaves its file beside the store."""

"""The stages' units of work, each in a process of its own that does one when it is told to.

    python -m s3prl_dd.benchmarks.units NAME FOLDER      # FOLDER: of units.prepare
"""

import itertools
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from ..config import load_config
from ..corpora.audio import RATE
from ..corpora.metadata import Utterance
from ..distill.bench import make_trainer
from ..distill.config import DistillConfig
from ..features.bench import write_audio
from ..features.extract import extract
from ..features.spec import FeatureSpec
from ..files import read_json, write_json
from ..generator import Generator
from ..plugin.bench import BASE, DISTILLED, TINY, commands, write_generator, write_hubert
from ..plugin.encoder import Encoder
from ..plugin.stepping import Answering, Stepper, answer, open_answers
from ..pool.pool import train_heads
from ..rng import keyed

DIM, CLASSES = 768, 4
"""Of the features, as HuBERT Base has them; emotions."""

FILES, SECONDS = 4, 2.0
"""Made-up files of a unit of extraction."""

POOL_SEEDS, POOL_STEPS, POOL_UTTERANCES = 10, 40, 512
"""Heads of a unit of the pool, its steps, and on how many utterance means."""

DISTIL_STEPS = 20
"""Of gan_1d: so many that the number of threads which helps is found."""

DRAWN = 64
"""Samples of a set of GAN-ATT, small."""

PRODUCTS = 30_000
"""Of matrices of 64 x 64."""

HEAD_STEPS = 100
"""Optimiser steps of 32 samples, in S3PRL's Runner under our launcher."""

Unit = Callable[[], object]


def prepare(folder: Path) -> None:
    """All that the units need of the disk."""
    write_hubert(folder / "hubert.pt", BASE)
    (folder / "noise").mkdir()
    write_audio(folder / "noise", [int(SECONDS * RATE)] * FILES)
    write_generator(folder / "gan_att.safetensors", Encoder(_spec(folder)), "gan_att_small")
    words = commands(folder / "heads", TINY, [SECONDS])[DISTILLED]
    write_json(folder / "heads.json", words)


def start(name: str, folder: Path, environment: Mapping[str, str]) -> Answering:
    """A process for the unit of this name, with these variables; it has done its first when it answers."""
    if name == HEADS:
        words = [*read_json(folder / "heads.json"), "-p", tempfile.mkdtemp(dir=folder)]
        return Stepper("ours", words, environment)
    return Answering([sys.executable, "-m", __name__, name, str(folder)], environment)


def _spec(folder: Path) -> FeatureSpec:
    return FeatureSpec("hubert_local", str(folder / "hubert.pt"))


def _extract(folder: Path) -> Unit:
    encoder = Encoder(_spec(folder))
    utterances = [Utterance(path.name, "neu", "noise") for path in sorted((folder / "noise").glob("*.wav"))]

    def work() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as store:
            extract(encoder, folder / "noise", utterances, store, batch_seconds=0)
    return work


def _pool(folder: Path) -> Unit:
    means = torch.randn(POOL_UTTERANCES, DIM, generator=keyed(0, "busy"))
    labels = torch.arange(POOL_UTTERANCES) % CLASSES
    return lambda: train_heads(means, labels, range(POOL_SEEDS), POOL_STEPS)


def _distil(folder: Path) -> Unit:
    trainer = make_trainer(load_config(DistillConfig, "gan_1d"), DIM, CLASSES, "cpu")
    return lambda: [trainer.train_step().values() for _ in range(DISTIL_STEPS)]


def _draw(folder: Path) -> Unit:
    generator, seeds = Generator.load(folder / "gan_att.safetensors"), itertools.count()
    return lambda: generator.sample({"total": DRAWN}, next(seeds))


def _arithmetic(folder: Path) -> Unit:
    """Products in one thread that fit its core's own memory: whoever shares nothing but the cores suffers this much."""
    torch.set_num_threads(1)
    matrix = torch.randn(64, 64, generator=keyed(0, "busy"))

    def work() -> None:
        for _ in range(PRODUCTS):
            matrix @ matrix
    return work


HEADS = f"{HEAD_STEPS} head steps on samples"

CONTROL = "control: one thread of arithmetic"
"""No stage: what the machine itself leaves to a process beside others."""

UNITS: dict[str, Callable[[Path], Unit]] = {
    f"extraction of {FILES} files": _extract,
    f"{POOL_STEPS} pool steps": _pool,
    f"{DISTIL_STEPS} steps of gan_1d": _distil,
    f"a set of {DRAWN}, gan_att_small": _draw,
    CONTROL: _arithmetic,
}
"""What is done in such a process -> makes it, in a folder of `prepare`."""

NAMES = (*UNITS, HEADS)
"""All of them; the last is S3PRL's own process."""


def repeats(name: str) -> int:
    """How often the process of this name works for a unit."""
    return HEAD_STEPS if name == HEADS else 1


def main(name: str, folder: str) -> None:
    """Do the unit once, and again as often as it is asked for."""
    answers, times = open_answers(), 1
    os.chdir(folder)
    work = UNITS[name](Path(folder))
    while True:
        for _ in range(times):
            work()
        times = answer(answers)


if __name__ == "__main__":
    main(*sys.argv[1:])

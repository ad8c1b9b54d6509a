"""What training a head costs from end to end at the paper's shape, extrapolated from parts that are measured."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tabulate import tabulate

from ..corpora.audio import RATE
from ..corpora.base import EMOTIONS
from ..corpora.metadata import Metadata, session
from ..features.bench import draw_lengths, run_stock
from ..features.spec import FeatureSpec
from ..generator import Generator
from ..generator.sampling import SETS
from ..generator.store import SampleStore
from ..plugin.bench import (
    BASE,
    CACHED,
    DISTILLED,
    STOCK,
    TINY,
    HeadTime,
    commands,
    compare_heads,
    dim_of,
    write_generator,
)
from ..plugin.encoder import Encoder
from ..plugin.placeholder import recordings_of
from ..plugin.states import Listener
from ..plugin.store import StateStore
from ..timing import Timed

STEPS, BATCH, EVALUATIONS = 30_000, 32, 30
"""Of S3PRL's emotion recipe: optimiser steps, utterances of each, evaluations along the way."""

TRAIN, DEV, TEST = 3556, 890, 1085
"""IEMOCAP's utterances in fold 1."""

MEAN_SECONDS = 4.5
"""Of IEMOCAP's utterances."""

HEARD, DRAWN = 8, 16
"""Utterances and samples that are timed at a time."""

ROWS = {STOCK: "S3PRL -d emotion", CACHED: "cached real", DISTILLED: "distilled, GAN-ATT's file"}


class RecipePart(NamedTuple):
    """A part of training a head."""

    run: str
    part: str

    each: float
    """Seconds of one, measured: median over the rounds."""

    spread: float
    """Slowest less fastest round, as a share of the median."""

    number: int
    """How many the recipe has."""

    seconds: float
    """Extrapolated: each * count."""


class RecipeTime(NamedTuple):
    """Training a head from end to end."""

    run: str

    seconds: float
    """Extrapolated: the sum of its parts."""

    less: float
    """Share that it takes less than S3PRL's own run."""


class RecipeTimes(NamedTuple):
    """All of it."""

    totals: list[RecipeTime]
    parts: list[RecipePart]
    heads: list[HeadTime]
    """The optimiser steps as measured, see plugin.bench."""


def bench_recipe(rounds: int = 3, base: bool = True) -> RecipeTimes:
    """Training SUPERB's emotion head at the paper's shape on the CPU, three ways, each extrapolated from its parts.

    Measured: optimiser steps, an utterance through S3PRL's evaluation loop and through ours, a sample of full-size
    GAN-ATT with its place in the set on disk; sets are as many as `resample: auto` takes. An evaluation on kept means
    counts as training steps over as many utterances, which do more. base: HuBERT Base's shapes with random weights,
    else a tiny HuBERT and a small GAN
    """
    sizes = BASE if base else TINY
    seconds = draw_lengths(44, "speech") / RATE
    seconds = (seconds * (MEAN_SECONDS / seconds.mean())).tolist()
    with tempfile.TemporaryDirectory() as folder:
        runs = commands(Path(folder), sizes, seconds)
        heads = compare_heads(runs, dim_of(sizes), rounds)
        encoder = Encoder(FeatureSpec("hubert_local", f"{folder}/hubert.pt"))
        stock, heard = _utterances(Path(folder), encoder, rounds)
        drawn = _samples(Path(folder), encoder, "gan_att" if base else "gan_att_small", rounds)
    parts = _parts({row.name: Timed(row.seconds, row.spread) for row in heads}, stock, heard, drawn)
    return RecipeTimes(_totals(parts), parts, heads)


def _parts(steps: dict[str, Timed], stock: Timed, heard: Timed, drawn: Timed) -> list[RecipePart]:
    """What each run is made of. stock, heard, drawn: of an utterance in S3PRL's loop and ours, of a sample"""
    tested = EVALUATIONS * (DEV + TEST)
    more = tested // BATCH  # steps over as many utterances as the evaluations hear
    counted = [
        (STOCK, "optimiser steps", steps[STOCK], STEPS),
        (STOCK, "utterances evaluated", stock, tested),
        (CACHED, "utterances through the upstream", heard, TRAIN + DEV + TEST),
        (CACHED, "optimiser steps", steps[CACHED], STEPS),
        (CACHED, "evaluations, as steps", steps[CACHED], more),
        (DISTILLED, "samples drawn", drawn, SETS * TRAIN),
        (DISTILLED, "utterances through the upstream", heard, DEV + TEST),
        (DISTILLED, "optimiser steps", steps[DISTILLED], STEPS),
        (DISTILLED, "evaluations, as steps", steps[CACHED], more),
    ]
    return [RecipePart(ROWS[run], part, timed.seconds, timed.spread, number, timed.seconds * number)
            for run, part, timed, number in counted]


def _totals(parts: Sequence[RecipePart]) -> list[RecipeTime]:
    seconds = {run: sum(part.seconds for part in parts if part.run == run) for run in ROWS.values()}
    stock = seconds[ROWS[STOCK]]
    return [RecipeTime(run, total, 1 - total / stock) for run, total in seconds.items()]


def _utterances(folder: Path, encoder: Encoder, rounds: int) -> tuple[Timed, Timed]:
    """An utterance of the made-up corpus in S3PRL's evaluation, and in our filling of the means; turn about."""
    metadata = Metadata.read(folder / "metadata" / session("fold1") / "train_meta_data.json")
    chosen = metadata.utterances[:HEARD]
    paths = [folder / "audio" / utterance.path for utterance in chosen]
    recordings = recordings_of(folder / "audio", chosen)
    stock, ours = [], []
    for number in range(rounds):
        started = time.perf_counter()
        run_stock(encoder.encode, paths, batch=4, workers=0)
        stock.append((time.perf_counter() - started) / HEARD)
        store = StateStore(folder / f"heard{number}", 1e9)
        listener = Listener(encoder.upstream, encoder.featurizer, "means", store=store, made_by="noise")
        started = time.perf_counter()
        for recording in recordings:
            listener.listen(recording)
        ours.append((time.perf_counter() - started) / HEARD)
    return Timed.of(stock), Timed.of(ours)


def _samples(folder: Path, encoder: Encoder, name: str, rounds: int) -> Timed:
    """A sample of this generator, drawn into a store of sets."""
    write_generator(folder / "drawn.safetensors", encoder, name)
    generator = Generator.load(folder / "drawn.safetensors")
    counts = np.bincount(np.arange(DRAWN) % len(EMOTIONS)).tolist()
    store, seconds = SampleStore(folder / "samples"), []
    for seed in range(rounds + 1):
        started = time.perf_counter()
        store.get(generator, counts, seed, epoch=0, lengths="generator", center=True)
        seconds.append((time.perf_counter() - started) / DRAWN)
    return Timed.of(seconds[1:])  # the first warms up


def recipe_table(times: RecipeTimes) -> str:
    """The totals and parts as text."""
    totals = tabulate([[row.run, row.seconds / 3600, f"{row.less:.2%}"] for row in times.totals],
                      headers=("training a head", "hours", "less"), floatfmt=("", ".3f", ""))
    cells = [[part.run, part.part, part.each, f"{part.spread:.0%}", part.number, part.seconds] for part in times.parts]
    parts = tabulate(cells, headers=("training a head", "part", "s each", "spread", "number", "seconds"),
                     floatfmt=("", "", ".4f", "", "", ".0f"))
    return (f"{STEPS} steps of {BATCH}, {EVALUATIONS} evaluations on {DEV} and {TEST} utterances of {MEAN_SECONDS} s "
            f"on average: extrapolated from the parts below\n\n{totals}\n\n{parts}")

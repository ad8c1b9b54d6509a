"""What an optimiser step of a SER head costs: S3PRL's own run, ours on kept features and on samples, and the head."""

import contextlib
import dataclasses
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import torch
from tabulate import tabulate
from torch import nn
from tqdm import tqdm

from .. import THREAD_WAIT_ENV
from ..config import CONFIGS, load_config
from ..corpora.audio import RATE
from ..corpora.base import EMOTIONS
from ..corpora.metadata import Metadata, Utterance, session
from ..distill.config import DistillConfig
from ..errors import UserError
from ..features.spec import FeatureSpec
from ..generator import CorpusInfo, Generator, Header, LinearHeads, build_generator
from ..timing import Timed, median_ratio
from .compat import mend
from .datarc import DATARC
from .encoder import Encoder
from .placeholder import Recording
from .states import fill
from .stepping import Stepper
from .store import StateStore

TINY: dict[str, Any] = {
    "encoder_layers": 2, "encoder_embed_dim": 64, "encoder_ffn_embed_dim": 128, "encoder_attention_heads": 4,
    "final_dim": 16, "conv_pos": 16, "conv_pos_groups": 4,
    "conv_feature_layers": "[(32,10,5)] + [(32,3,2)] * 4 + [(32,2,2)] * 2"}
BASE: dict[str, Any] = {"final_dim": 256, "untie_final_proj": True}
"""S3PRL's HuBERT: a small one, and the shapes of HuBERT Base."""

TRAIN, TEST = 40, 4
"""Utterances of the made-up corpus; S3PRL takes a fifth of the first as dev."""

BATCH, ACCUMULATED, FRAMES = 4, 8, 64
"""S3PRL's utterances a batch and batches a step; frames of a sample, as many as the paper's GANs have."""

AT_ONCE = 10
"""Steps of all but S3PRL's own in a round."""

WARM_UPS = 30
"""The same before the first round: some of the first take longer, once in a run."""

SPINS = "300000"
"""GOMP_SPINCOUNT, as OpenMP has it where nobody says anything: for S3PRL's own run."""

STOCK, CACHED, DISTILLED, BARE = "S3PRL -d emotion", "cached real", "distilled", "bare head"


class HeadTime(NamedTuple):
    """What an optimiser step takes: 8 batches of 4, as S3PRL's emotion recipe has it."""

    name: str
    seconds: float
    """Median over the rounds."""

    spread: float
    """Slowest less fastest round, as a share of the median."""

    ratio: float
    """How many times as fast as S3PRL's own run: the median over rounds, each of all in turn."""

    of_bare: float
    """Multiple of what the bare head takes: the median over rounds."""


def bench_heads(base: bool = False, rounds: int = 5, seconds: float = 4.5, device: str = "cpu") -> list[HeadTime]:
    """Steps of four ways to train SUPERB's emotion head, turn about; S3PRL's own comes first.

    S3PRL -d emotion   its own Runner and expert, its own flags, audio in memory, threads that wait as torch has them
    cached real        -d emotion under our launcher, every recording heard before
    distilled          -d distilled_emotion on a generator file (GAN-1D, random weights), a fixed set of 64 frames each
    bare head          forward, backward and update on tensors of 64 frames that are ready, in this process

    base: HuBERT Base's shapes with random weights, in the place of a tiny HuBERT. seconds: of each utterance, noise
    """
    if rounds < 1 or seconds < 0.5:
        raise UserError(f"rounds {rounds}, seconds {seconds}: expected 1 or more, and 0.5 or more.")
    sizes = BASE if base else TINY
    with tempfile.TemporaryDirectory() as folder:
        return compare_heads(commands(Path(folder), sizes, [seconds], device), dim_of(sizes), rounds, device)


def compare_heads(runs: Mapping[str, Sequence[str]], dim: int, rounds: int, device: str = "cpu") -> list[HeadTime]:
    """Steps of these S3PRL runs (see `commands`) and of the bare head on `dim` dimensions, turn about."""
    with contextlib.ExitStack() as stack:
        steppers = {name: stack.enter_context(_start(name, words)) for name, words in runs.items()}
        for stepper in steppers.values():
            stepper.wait()
        steps: dict[str, Callable[[int], float]] = {name: stepper.step for name, stepper in steppers.items()}
        steps[BARE] = BareHead(dim, device).step
        return _compare(steps, rounds)


def dim_of(sizes: Mapping[str, Any]) -> int:
    """D, of a HuBERT of these sizes."""
    return int(sizes.get("encoder_embed_dim", 768))


def _compare(steps: Mapping[str, Callable[[int], float]], rounds: int) -> list[HeadTime]:
    """Seconds a step of each, the first of a round all in turn. steps: name -> takes so many, returns their seconds"""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for number in tqdm(range(rounds + 1), desc="heads", unit="round"):
        for name, step in steps.items():
            repeats = 1 if name == STOCK else AT_ONCE if number else WARM_UPS
            seconds = step(repeats) / repeats
            if number:
                taken[name].append(seconds)
    rows = []
    for name, of_rounds in taken.items():
        rows.append(HeadTime(name, *Timed.of(of_rounds), ratio=median_ratio(taken[STOCK], of_rounds),
                             of_bare=median_ratio(of_rounds, taken[BARE])))
    return rows


class BareHead:
    """SUPERB's emotion head on ready tensors."""

    def __init__(self, dim: int, device: str) -> None:
        mend()
        from s3prl.downstream.model import UtteranceLevel

        self.projector, self.model = nn.Linear(dim, 256).to(device), UtteranceLevel(256, len(EMOTIONS)).to(device)
        self.frames = [torch.randn(BATCH, FRAMES, dim, device=device) for _ in range(ACCUMULATED)]
        self.soft = torch.rand(BATCH, len(EMOTIONS), device=device).softmax(dim=1)
        self.lengths = torch.full((BATCH,), FRAMES, device=device)
        self.optimizer = torch.optim.Adam([*self.projector.parameters(), *self.model.parameters()], lr=1e-4)

    def step(self, times: int = 1) -> float:
        """Forward and backward of a step's batches, and the update, so many times. returns: seconds of all"""
        started = time.perf_counter()
        for _ in range(times):
            for frames in self.frames:
                logits, _ = self.model(self.projector(frames), self.lengths)
                (nn.functional.cross_entropy(logits, self.soft) / ACCUMULATED).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        if self.soft.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - started


# what the runs need


def _start(name: str, words: Sequence[str]) -> Stepper:
    environment = dict(os.environ)
    if name == STOCK and THREAD_WAIT_ENV.items() <= environment.items():
        del environment["OMP_WAIT_POLICY"]
        environment["GOMP_SPINCOUNT"] = SPINS
    return Stepper("stock" if name == STOCK else "ours", words, environment)


def commands(folder: Path, sizes: Mapping[str, Any], seconds: Sequence[float], device: str = "cpu"
             ) -> dict[str, list[str]]:
    """S3PRL's flags of each run, once all that they need is in `folder`.

    sizes: BASE or TINY; seconds: of the made-up utterances, in turn
    """
    folder.mkdir(exist_ok=True)
    spec = FeatureSpec("hubert_local", str(folder / "hubert.pt"))
    write_hubert(folder / "hubert.pt", sizes)
    recordings = _write_corpus(folder, seconds)
    fill(spec, recordings, StateStore(folder / "states", 1e9), device)
    write_generator(folder / "generator.safetensors", Encoder(spec, device), "gan_1d", FRAMES)
    data = {"root": folder / "audio", "meta_data": folder / "metadata", "test_fold": "fold1"}
    real = [f"{DATARC}.{key}={value}" for key, value in data.items()]
    samples = [*real, f"{DATARC}.generator={folder / 'generator.safetensors'}", f"{DATARC}.resample=False"]

    def words(downstream: str, options: list[str], *more: str) -> list[str]:
        return ["-m", "train", "-d", downstream, *spec.flags(), "--device", device, "-c",
                str(CONFIGS / f"{downstream}.yaml"), "-o", ",,".join(options), *more]

    return {STOCK: words("emotion", real, "-p", str(folder / "stock")),
            CACHED: words("emotion", real, "-p", str(folder / "cached"), "--feature_folder", str(folder / "states")),
            DISTILLED: words("distilled_emotion", samples, "-p", str(folder / "distilled"))}


def write_hubert(path: Path, sizes: Mapping[str, Any], seed: int = 0) -> None:
    """A checkpoint of random weights for -u hubert_local. sizes: of S3PRL's HubertConfig."""
    mend()
    from s3prl.upstream.hubert.hubert_model import HubertConfig, HubertModel, HubertPretrainingConfig

    config, task = HubertConfig(label_rate=50, **sizes), HubertPretrainingConfig()
    symbols = [[str(index) for index in range(8)]]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = HubertModel(config, task, symbols)
    torch.save({"task_cfg": dataclasses.asdict(task), "model_cfg": dataclasses.asdict(config),
                "model_weight": model.state_dict(), "dictionaries_symbols": symbols}, path)


def _write_corpus(folder: Path, seconds: Sequence[float]) -> list[Recording]:
    """Noise as a corpus of two speakers, in audio/ and metadata/. seconds: of utterances, in turn. returns: all"""
    rng = np.random.default_rng(0)
    (folder / "audio").mkdir()
    lists = {"train": TRAIN, "test": TEST}
    recordings = []
    for part, count in lists.items():
        utterances = []
        for number in range(count):
            path = f"{part}{number:03}.wav"
            length = int(seconds[number % len(seconds)] * RATE)
            soundfile.write(folder / "audio" / path, 0.1 * rng.standard_normal(length), RATE)
            utterances.append(Utterance(path, list(EMOTIONS)[number % 4], part))
            recordings.append(Recording.of(folder / "audio", {"path": path}))
        Metadata(EMOTIONS, tuple(utterances)).write(
            folder / "metadata" / session("fold1") / f"{part}_meta_data.json")
    return recordings


def write_generator(path: Path, encoder: Encoder, name: str, frames: int | None = None) -> None:
    """A generator of this configuration with random weights, for the corpus of _write_corpus. frames: other than its"""
    network = load_config(DistillConfig, name).network
    network = dataclasses.replace(network, frames=frames or network.frames).sized(len(EMOTIONS), encoder.dim)
    corpus = CorpusInfo(name="noise", fold="fold1", synthetic=True, train_speakers=["train"], test_speakers=["test"],
                        test_digest="")
    header = Header(network=network, labels=EMOTIONS, class_counts=[TRAIN] * len(EMOTIONS),
                    lengths=[list(range(100, 201))] * len(EMOTIONS), features=encoder.provenance, corpus=corpus)
    mean, means = torch.zeros(encoder.dim), torch.randn(len(EMOTIONS), encoder.dim)
    heads = LinearHeads(torch.randn(3, len(EMOTIONS), encoder.dim), torch.zeros(3, len(EMOTIONS)))
    Generator(build_generator(network), mean, mean + 1, means, header, heads).save(path)


def heads_table(rows: Sequence[HeadTime]) -> str:
    """The rows as text."""
    title = f"seconds an optimiser step, {torch.get_num_threads()} threads, medians of interleaved rounds"
    cells = [[row.name, row.seconds, f"{row.spread:.0%}", row.ratio, row.of_bare] for row in rows]
    headers = ("head", "s / step", "spread", "times as fast", "of the bare head")
    return f"{title}\n\n" + tabulate(cells, headers=headers, floatfmt=("", ".4f", "", ".1f", ".2f"))

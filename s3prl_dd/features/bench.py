"""What extraction costs beside S3PRL's own loop, and what many utterances take in time and memory."""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import soundfile
import torch
from tabulate import tabulate
from torch.utils.data import DataLoader, Dataset

from ..corpora.audio import RATE, load_audio
from ..corpora.metadata import Metadata, Utterance
from ..errors import UserError
from ..generator.header import Provenance
from ..timing import Timed, median_ratio
from .extract import Encoder, extract
from .store import FeatureStore, StoreWriter

Stock = Callable[[list[torch.Tensor]], list[torch.Tensor]]
"""S3PRL's upstream and Featurizer as its Runner calls them: waves float32 [N] -> features [T, D] of each."""

Lengths = Literal["uniform", "speech"]
"""Of the made-up utterances, 0.5 to 15 s: each equally likely, or many short and few long ones, as in IEMOCAP."""

SHORTEST, LONGEST = 0.5, 15.0  # seconds
STOCK_BATCH, STOCK_WORKERS = 4, 4  # of S3PRL's emotion recipe

# extraction beside S3PRL's loop


class ExtractTime(NamedTuple):
    """What a way of extraction takes."""

    name: str
    seconds: float
    """Median over the rounds."""

    spread: float
    """Slowest less fastest round, as a share of the median."""

    ratio: float
    """How many times as fast as S3PRL's loop: the median over rounds, each of both in turn."""

    difference: float
    """Largest difference of a feature from S3PRL's on the utterance alone, as a share of the largest feature."""


def bench_extract(
    encoder: Encoder,
    stock: Stock,
    files: int = 24,
    lengths: Lengths = "uniform",
    rounds: int = 3,
    batch_seconds: float = 0.0,
    stock_workers: int = STOCK_WORKERS,
) -> list[ExtractTime]:
    """S3PRL's own loop and ours over the same made-up files, turn about; S3PRL's comes first.

    S3PRL's loop: files in their order in batches of four, padded, decoded by `stock_workers` processes. Ours writes its
    store besides. Both use the threads that torch has in this process.
    """
    if files < 1 or rounds < 1:
        raise UserError(f"files {files}, rounds {rounds}: expected 1 or more of each.")
    with tempfile.TemporaryDirectory() as folder:
        utterances = write_audio(Path(folder), draw_lengths(files, lengths))
        paths = [Path(folder, utterance.path) for utterance in utterances]
        alone = run_stock(stock, paths[:1], 1, 0) + run_stock(stock, paths[1:], 1, 0)  # warms up, too
        stock_seconds, our_seconds = [], []
        for number in range(rounds):
            started = time.perf_counter()
            padded = run_stock(stock, paths, STOCK_BATCH, stock_workers)
            stock_seconds.append(time.perf_counter() - started)
            started = time.perf_counter()
            store = extract(encoder, folder, utterances, Path(folder, f"store{number}"), "float32", batch_seconds)
            our_seconds.append(time.perf_counter() - started)
        ours = [store[store.positions[utterance.path]] for utterance in utterances]
    ratio = median_ratio(stock_seconds, our_seconds)
    return [ExtractTime("S3PRL's loop", *Timed.of(stock_seconds), 1.0, _difference(padded, alone)),
            ExtractTime("extract", *Timed.of(our_seconds), ratio, _difference(ours, alone))]


def draw_lengths(count: int, lengths: Lengths) -> np.ndarray:
    """Samples at 16 kHz of `count` made-up utterances, the same at each call, int [count]."""
    rng = np.random.default_rng(0)
    if lengths == "uniform":
        seconds = rng.uniform(SHORTEST, LONGEST, count)
    else:
        seconds = rng.lognormal(np.log(3.6), 0.65, count).clip(SHORTEST, LONGEST)
    return (seconds * RATE).astype(int)


def write_audio(folder: Path, lengths: Sequence[int] | np.ndarray) -> list[Utterance]:
    """Noise of these lengths (samples) as WAV files in `folder`."""
    rng = np.random.default_rng(1)
    utterances = []
    for number, samples in enumerate(lengths):
        path = f"{number:05}.wav"
        soundfile.write(folder / path, 0.1 * rng.standard_normal(samples), RATE)
        utterances.append(Utterance(path, "neu", "noise"))
    return utterances


class _Waves(Dataset[torch.Tensor]):
    """Decodes a file when asked for it, as S3PRL's data sets do."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(load_audio(self.paths[index], RATE))


def run_stock(stock: Stock, paths: list[Path], batch: int, workers: int) -> list[torch.Tensor]:
    """S3PRL's loop over files in their order: features [T, D] of each."""
    loader = DataLoader(_Waves(paths), batch_size=batch, num_workers=workers, collate_fn=list)
    features = []
    with torch.no_grad():
        for waves in loader:
            features += [frames.float().cpu() for frames in stock(waves)]
    return features


def _difference(features: list[torch.Tensor], reference: list[torch.Tensor]) -> float:
    """Largest difference as a share of the largest value of the reference; utterances are compared where both last."""
    largest = max(frames.abs().max().item() for frames in reference)
    differences = []
    for one, other in zip(features, reference, strict=True):
        shared = min(len(one), len(other))
        differences.append((one[:shared] - other[:shared]).abs().max().item())
    return max(differences) / largest


def extract_table(rows: Sequence[ExtractTime]) -> str:
    """The rows as text."""
    cells = [[row.name, row.seconds, f"{row.spread:.0%}", row.ratio, f"{row.difference:.0e}"] for row in rows]
    headers = ("extraction", "seconds", "spread", "times as fast", "difference from alone")
    return tabulate(cells, headers=headers, floatfmt=("", ".2f", "", ".2f", ""))


# many utterances


class ScaleTime(NamedTuple):
    """What a step takes with many utterances, in a process of its own."""

    name: str
    utterances: int
    seconds: float
    """Of the step, without the imports before it."""

    peak: int
    """Bytes of memory at most, imports included."""


def make_corpus(folder: Path, size: int, dim: int) -> None:
    """Metadata (train.json) and a feature store of `size` utterances in `folder`, several of each speaker."""
    emotions = ("neu", "hap", "ang", "sad")
    speakers = min(50, max(10, size // 20))
    utterances = [
        Utterance(f"speaker{number % speakers:03}/session{number % 89:02}/{number:06}.wav", emotions[number % 4],
                  f"speaker{number % speakers:03}") for number in range(size)]
    Metadata({name: place for place, name in enumerate(emotions)}, tuple(utterances)).write(folder / "train.json")
    noise = torch.randn(64, dim, generator=torch.Generator().manual_seed(0))
    features = Provenance(upstream="noise", upstream_ckpt_digest=None, selection="none", layer=None, normalize=False,
                          layer_weights=None, dim=dim, rate=320)
    with StoreWriter(folder / "store", features) as writer:
        for number, utterance in enumerate(utterances):
            first = number % 59
            writer.add(utterance, noise[first:first + 1 + number % 5])


def _read_metadata(folder: Path) -> Metadata:
    return Metadata.read(folder / "train.json")


def _open_store(folder: Path) -> FeatureStore:
    return FeatureStore(folder / "store")


def _average_frames(folder: Path) -> None:
    _open_store(folder).keep_means()


def _read_means(folder: Path) -> torch.Tensor:
    store = _open_store(folder)
    return store.means(store.select(_read_metadata(folder)))


STEPS: dict[str, Callable[[Path], object]] = {
    "imports alone": lambda folder: None,
    "read metadata": _read_metadata,
    "open the store": _open_store,
    "average all frames": _average_frames,
    "means of train": _read_means,
}
"""Name -> what is done in a folder of make_corpus."""


def run_step(name: str, folder: str) -> None:
    """Do a step of STEPS in this process and print [seconds, peak bytes] as JSON."""
    report(STEPS[name], folder)


def peak_memory() -> int:
    """Bytes of memory that this process had at most.

    Linux' own count of the process where there is one: getrusage's is that of the parent where that was larger.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def measure(module: str, name: str, folder: Path, size: int) -> ScaleTime:
    """A stage of a module that has a function `run_step`, in a process of its own.

    name, folder: what run_step is given; size: utterances there
    """
    code = f"import sys; from {module} import run_step; run_step(*sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", code, name, folder], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{name} with {size} utterances: the process ended with {done.returncode} "
                        f"({done.stderr.strip()[-200:]}). Is there memory and disk enough?")
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return ScaleTime(name, size, seconds, peak)


def report(work: Callable[[Path], object], folder: str) -> None:
    """Work in this process, and print [seconds, peak bytes] as JSON."""
    started = time.perf_counter()
    work(Path(folder))
    print(json.dumps([time.perf_counter() - started, peak_memory()]))


def scale_table(rows: Sequence[ScaleTime]) -> str:
    """The rows as text."""
    cells = [[row.name, row.utterances, row.seconds, row.peak / 1e6] for row in rows]
    return tabulate(cells, headers=("step", "utterances", "seconds", "peak MB"), floatfmt=("", "", ".2f", ".0f"))

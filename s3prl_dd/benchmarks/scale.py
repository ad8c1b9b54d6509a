"""What each stage takes with many utterances, in time and memory: features, distiller, and what stands above them."""

import tempfile
import wave
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Subset, random_split

from ..corpora import prepare
from ..corpora.metadata import Fold, Metadata, read_fold, session
from ..distill import bench as distiller
from ..features import bench as features
from ..features.bench import ScaleTime, make_corpus, measure, report
from ..features.store import FeatureStore
from ..plugin.emotion import AudioDataset
from ..plugin.placeholder import Recordings
from ..plugin.states import state_key
from ..plugin.store import StateStore
from ..privacy import attacks
from ..privacy.attacks import View
from ..privacy.measure import real_of
from ..rng import keyed

SECONDS = 0.1
"""Of each made-up recording: there are so many of them."""

FRAMES, SAMPLES = 16, 200
"""Of a made-up generator's samples: frames, and how many are attacked."""

PREPARE = "prepare"


def bench_scale(sizes: Sequence[int] = (10_000, 100_000), dim: int = 768) -> list[ScaleTime]:
    """Each stage on a made-up corpus of each size, in a process of its own.

    Recordings have a tenth of a second, stored utterances 1 to 5 frames of `dim` numbers.
    """
    stages = [*((features.__name__, name) for name in features.STEPS),
              *((distiller.__name__, name) for name in distiller.SCALE_STAGES), *((__name__, name) for name in STAGES)]
    rows = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            make_corpus(Path(folder), size, dim)
            _write_audio(Path(folder), size)
            rows += [measure(module, name, Path(folder), size) for module, name in stages]
    return rows


def _write_audio(folder: Path, size: int) -> None:
    """The recordings of make_corpus' list as WAV files, and a table of them."""
    rng = np.random.default_rng(0)
    noise = (3000 * rng.standard_normal(size + int(SECONDS * 8000))).astype("<i2")
    metadata = Metadata.read(folder / "train.json")
    lines = ["file,emotion,speaker"]
    for number, utterance in enumerate(metadata.utterances):
        path = folder / "audio" / utterance.path
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(noise[number:number + int(SECONDS * 8000)].tobytes())
        lines.append(f"{utterance.path},{utterance.label},{utterance.speaker}")
    (folder / "audio" / "corpus.csv").write_text("\n".join(lines) + "\n")


def _prepare(folder: Path) -> None:
    prepare("table", folder / "audio" / "corpus.csv", folder / "metadata")


def _open_lists(folder: Path) -> int:
    """The lists of a head's training: tickets, a check of every file, and what is kept of each is looked up."""
    store, recordings = StateStore(folder / "means", 1e9), Recordings()
    lists = folder / "metadata" / session("fold1")
    found = 0
    split: list[Subset]
    for part in ("train", "test"):
        dataset = AudioDataset(str(folder / "audio"), lists / f"{part}_meta_data.json", recordings)
        split = random_split(dataset, [len(dataset) // 5, len(dataset) - len(dataset) // 5])
        for subset in split:
            dataset.check(subset.indices)
        found += sum(store.holds(state_key("noise", dataset.recording(index))) for index in range(len(dataset)))
    return found


def _attack(folder: Path) -> None:
    """Both views of the attacks on a generator's samples, which are noise."""
    store, fold = FeatureStore(folder / "store"), _fold(folder)
    for view in View:
        real = real_of(store, fold, FRAMES, view)
        noise = torch.randn(SAMPLES, FRAMES, store.dim, generator=keyed(0, "attacked")).numpy()
        real, scaled = attacks.standardise(real, {"noise": attacks.vectors(noise, view)})
        attacks.attack(real, scaled, SAMPLES, speakers=view == View.MEAN)


def _fold(folder: Path) -> Fold:
    return read_fold(folder / "metadata", "fold1")


STAGES: dict[str, Callable[[Path], object]] = {
    PREPARE: _prepare,
    "train: lists, and what is kept looked up": _open_lists,
    "privacy: attacks": _attack,
}
"""Name -> what is done in a folder of make_corpus with audio; the first leaves metadata for the others."""


def run_step(name: str, folder: str) -> None:
    """What `measure` calls in a process of its own."""
    report(STAGES[name], folder)

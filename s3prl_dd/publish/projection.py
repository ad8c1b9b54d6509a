"""Real and generated utterance means in one plane: the two directions in which the real ones differ most."""

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA

from ..errors import UserError
from ..features.store import FeatureStore
from ..generator import Generator
from ..generator.sampling import sets_of
from ..pool.kinds import HEADS
from ..recipe.folder import Run

MOST = 90
"""Points of a class that a picture shows."""


@dataclass(frozen=True)
class Cloud:
    """Utterance means in the plane."""

    points: np.ndarray
    """[N, 2]"""
    labels: np.ndarray
    """[N] class indices."""


@dataclass(frozen=True)
class Plane:
    """The projection of a run's training part, and of samples."""

    explained: float
    """Share of the real means' variance that the plane holds, [0, 1]."""
    real: Cloud
    """Training utterances."""
    samples: dict[str, Cloud]
    """What made them -> as many samples."""


def project(runs: dict[str, Run], seed: int = 0) -> Plane | None:
    """The plane of the first run's training utterances, with samples of each run's generator.

    runs: what made the samples -> its run with a generator file, all on the same features. None without any, and where
    the first has no features any more. Nothing is written.
    """
    run = next(iter(runs.values()), None)
    if run is None or not (run.features / "header.json").is_file():
        return None
    try:
        means, labels = _real_means(run)
    except UserError:
        return None  # an unfinished store
    plane = PCA(2, svd_solver="full").fit(means)
    real = Cloud(plane.transform(means), labels)
    samples = {name: _samples(each, plane, seed) for name, each in runs.items()}
    explained = float(plane.explained_variance_ratio_.sum())
    return Plane(explained, _thinned(real), {name: _thinned(cloud) for name, cloud in samples.items()})


def _real_means(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Utterance means [N, D] of the training part and their class indices [N]."""
    train = run.fold.train
    store = FeatureStore(run.features)
    means = store.means(store.select(train)).numpy()
    return means, np.array(train.class_indices)


def _samples(run: Run, plane: PCA, seed: int) -> Cloud:
    """As many samples as there are real utterances, class by class, drawn as the run draws them."""
    generator, sampling = Generator.load(run.generator), run.settings.sampling
    reads_means, fixed = not HEADS[run.settings.heads.head].hears_frames, not sets_of(sampling.resample, "original")
    center = generator.resolve_center(sampling.center, generator.counts("original"), reads_means, fixed)
    drawn = generator.sample("original", seed, lengths=sampling.lengths, center=center)
    return Cloud(plane.transform(drawn.means().numpy()), drawn.labels.numpy())


def _thinned(cloud: Cloud) -> Cloud:
    """The first MOST points of each class."""
    kept = np.concatenate([np.flatnonzero(cloud.labels == label)[:MOST] for label in np.unique(cloud.labels)])
    return Cloud(cloud.points[kept], cloud.labels[kept])

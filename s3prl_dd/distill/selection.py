"""Selection on dev: what a generator's samples are worth to a head that real speech measures."""

from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from ..pool.pool import LabelledFrames, Points, score_heads, train_heads
from ..pool.training import Recipe, score_frames, train_frame_heads
from ..rng import evenly

HEAD_LR = 3e-3
"""Adam's learning rate of the quick heads."""

MEASURED_AT = (3, 4, 5, 6)
"""Sixths of the quick heads' training after which they are scored: dev sets are small, so scores are averaged."""

MEASURED = 2000
"""Utterances of each class at most, real or generated, whose distances are taken and which are shown."""


class HeadSteps(NamedTuple):
    """Steps of Adam of the heads that a distillation trains beside the GAN."""

    quick: int = 600
    """Of the quick heads of an evaluation, that hear utterance means."""

    quick_frames: int = 400
    """Of frame-level ones, which take S3PRL's learning rate but cost more."""

    teacher: int = 3000
    """Of the heads in the file, where they are cross-fitted or hear samples."""


HEAD_STEPS = HeadSteps()
"""What a distillation takes; tests and benchmarks take fewer."""


class Evaluation(NamedTuple):
    """A generator measured at a step."""

    step: int

    dev_uar: float
    """UAR in [0, 1] on real dev speech, of quick heads that were trained on samples."""

    distance_real: float
    """Within-class distance of the real training set's utterance means."""

    distance_generated: float
    """The same of the samples: less says that they are less diverse."""

    dev_by_kind: dict[str, float] = {}
    """The UAR of each kind of quick heads; dev_uar is their mean."""

    frames: dict[str, float] = {}
    """FrameMeasures and lengths, each of real utterances and of samples (_real, _generated)."""

    def numbers(self) -> dict[str, float]:
        """All by name."""
        values = {key: value for key, value in self._asdict().items() if isinstance(value, int | float)}
        kinds = self.dev_by_kind if len(self.dev_by_kind) > 1 else {}
        return {**values, **{f"dev_{kind}": score for kind, score in kinds.items()}, **self.frames}


class Best(NamedTuple):
    """Which generator is kept: the last one that dev does not tell from the best (Breiman et al. 1984's rule of one
    standard error). Of some hundred dev utterances the best is chance, and a GAN's samples gain by longer training."""

    dev_uar: float = -1.0
    """UAR on dev of the best so far."""

    step: int = 0
    """Of the generator that is kept."""

    def after(self, entry: Evaluation, utterances: int) -> "Best":
        """What is kept when this one has been measured. utterances: of dev"""
        best = max(self.dev_uar, entry.dev_uar)
        kept = entry.dev_uar >= best - (best * (1 - best) / utterances) ** 0.5
        return Best(best, entry.step if kept else self.step)


def quick_uar(samples: Points, dev: Points, scale: torch.Tensor, heads: int, steps: int, classes: int) -> float:
    """Mean UAR in [0, 1] on real dev speech of SUPERB heads trained on samples, over `heads` seeds and four steps each.

    samples, dev: utterance means [n, D], [N', D] and class indices, of samples also soft labels [n, C]
    scale: their unit, a scalar
    """
    means, labels = samples
    dev_means, dev_labels = dev
    snapshots = [steps * part // 6 for part in MEASURED_AT]
    kept = train_heads(means / scale, labels, range(heads), steps, lr=HEAD_LR, snapshots=snapshots, classes=classes)
    scores = [score for snapshot in kept for score in score_heads(snapshot.heads, dev_means / scale, dev_labels)]
    return sum(scores) / len(scores)


def quick_frame_uar(kind: str, samples: LabelledFrames, dev: LabelledFrames, heads: int, steps: int,
                    classes: int) -> float:
    """The same of frame-level heads, of this kind; S3PRL's recipe on features as they are.

    samples, dev: utterances, and class indices [n], of samples also soft labels [n, C]; all on one device
    """
    recipe = Recipe(steps, tuple(steps * part // 6 for part in MEASURED_AT))
    kept = train_frame_heads(kind, *samples, range(heads), recipe, classes)
    scores = [score for snapshot in kept for score in score_frames(snapshot.heads, *dev)]
    return sum(scores) / len(scores)


def within_class_distance(means: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean pairwise distance of utterance means [N, D] within their class: diversity, real beside generated."""
    means, labels = some_of_each(means, labels)
    return torch.cat([torch.pdist(means[labels == label]) for label in labels.unique()]).mean().item()


def some_of_each(means: torch.Tensor, labels: torch.Tensor, most: int = MEASURED) -> Points:
    """Of each class `most` points or fewer, evenly spread over all of it: means [N, D], labels [N]."""
    chosen = chosen_of_each(labels, most)
    return means[chosen], labels[chosen]


def chosen_of_each(labels: torch.Tensor, most: int = MEASURED) -> torch.Tensor:
    """Which points these are [N], by class indices [N]."""
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = (labels == label).nonzero()[:, 0]
        chosen[members[evenly(len(members), most)]] = True
    return chosen


def project(real: Points, generated: Points, names: dict[str, int]) -> Figure:
    """A picture: real and generated utterance means on the first two linear discriminants of the real ones.

    (On principal components where the points are too few to tell classes apart in them.) names: class name -> index
    """
    real, generated = some_of_each(*real), some_of_each(*generated)
    axes_of: LinearDiscriminantAnalysis | PCA
    axes_of = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto", n_components=min(2, len(names) - 1))
    kind = "discriminant"
    try:
        axes_of.fit(real[0].numpy(), real[1].numpy())
    except np.linalg.LinAlgError:
        axes_of, kind = PCA(n_components=min(2, *real[0].shape)).fit(real[0].numpy()), "principal component"
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    for axis, title, (points, labels) in zip(axes, ("real", "generated"), (real, generated), strict=True):
        flat = axes_of.transform(points.numpy())
        flat = flat if flat.shape[1] == 2 else flat.repeat(2, axis=1)
        for name, label in names.items():
            here = (labels == label).numpy()
            axis.scatter(flat[here, 0], flat[here, 1], s=6, alpha=0.6, label=name)
        axis.set(title=f"{title} utterance means", xlabel=f"{kind} 1", ylabel=f"{kind} 2")
    axes[0].legend(frameon=False)
    return figure

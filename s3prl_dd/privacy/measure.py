"""What is left of the speaker: the paper's Table 4 by S3PRL's own speaker identification, and attacks on generators.

    <run>/privacy/<tree>/exp/<row>_seed<s>_lr<lr>/  S3PRL's -d voxceleb1, one run each; what is there is not run again
    <run>/privacy/<tree>/states.npz             the upstream's states of the tree, averaged over time
    <run>/privacy/results.json, privacy.png     everything, and SID accuracy over SER UAR

Rows: the plain upstream, then the first linear layer of SER heads (upstream ser_projector): untrained (what any linear
layer of this size lets through), trained on real data, on the baseline GAN, on the proposed one. SID accuracy is worth
nothing without the head's UAR beside it: a head that knows nothing is private too.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..arms import Arm
from ..corpora.metadata import Fold, Metadata
from ..corpora.sid_check import TEST
from ..devices import device_name
from ..distill.data import fold_of, resample
from ..errors import UserError
from ..evaluation.significance import wilson
from ..features.store import FeatureStore
from ..files import folder_held
from ..generator import Generator, LinearHeads
from ..generator.suppression import SpeakerSuppression
from ..recipe.folder import Run, need
from ..rng import evenly
from . import attacks
from .attacks import Attacked, Real, View
from .probe import MOST_UTTERANCES, probe_rows
from .results import PrivacyResults, ProbeResult, RowResult, TreeResult
from .rows import GanRuns, Head, Row, path_text, rows_of
from .settings import Settings
from .sid import SidScore, SidSetup, Tree, run_rows
from .table import plot, table
from .teacher import Labelled, TeacherAttacked, attack_teachers
from .within import Sampled, Spoken, WithinClass, attack_within

__all__ = ["Settings", "measure"]

MOST_REAL, REAL_BYTES = 5000, 1 << 28
"""Training utterances that the attacks compare samples with, at most, and what they take as float32: there are some
copies of them."""


def measure(out: str | Path, sid_roots: Sequence[str | Path] = (), list_file: str | Path | None = None,
            baseline: str | Path | None = None, settings: Settings | None = None) -> PrivacyResults:
    """Rows on each SID tree and attacks for the recipe's run `out` (the proposed GAN) and, if given, `baseline`.

    sid_roots: trees in VoxCeleb1's shape; list_file: S3PRL's list, default list.txt in each tree
    Prints the tables, writes results.json and a plot, returns the results. Raises UserError for runs of other features
    or folds, for trees that S3PRL could not read, and for what is not there yet, before anything is run.
    """
    settings = settings or Settings()
    runs = GanRuns(Run.open(out), Run.open(baseline) if baseline else None)
    trees = [Tree.open(root, list_file) for root in sid_roots]
    _check(runs)
    folder = runs.proposed.out / "privacy"
    path = folder / "results.json"
    with folder_held(folder, f"{folder}: another process is measuring there. Wait until it has ended, or end it."):
        sid = dict(PrivacyResults.read(path).sid)
        for tree in trees:
            sid[tree.name] = measure_tree(runs, tree, folder / tree.name, settings)
        drawn, number = draw_all(runs, settings.samples), settings.samples
        results = PrivacyResults(sid, attack_generators(runs, drawn, number), attack_heads(runs),
                                 attack_speakers_within(runs, drawn, number))
        results.write(path)
    print(table(results))
    if results.sid:
        plot(results, folder / "privacy.png")
        print(f"written: {path}, {folder / 'privacy.png'}")
    return results


def _check(runs: GanRuns) -> None:
    """Refuse what could not be measured."""
    for run in runs.by_row().values():
        need(run.generator, "distill")
    fold = runs.proposed.fold
    attacks.check_sizes(len(fold.train.utterances), len(fold.dev.utterances))
    if runs.baseline is None:
        return
    one, other = _identity(runs.proposed), _identity(runs.baseline)
    for key, value in one.items():
        if other[key] != value:
            raise UserError(f"{runs.baseline.out}: its {key} is {other[key]!r}, that of {runs.proposed.out} is "
                            f"{value!r}; two GANs can only be compared on the same features and fold.")


def _identity(run: Run) -> dict[str, object]:
    """What two runs must share, by the names of the settings."""
    settings = run.settings
    return {"corpus": settings.corpus.corpus, **vars(settings.upstream), "fold": settings.corpus.fold}


# the rows of a tree


def measure_tree(runs: GanRuns, tree: Tree, folder: Path, settings: Settings) -> TreeResult:
    """The rows on one tree: S3PRL's SID recipe, and a cross-validated probe of a tree that is not too large."""
    folder.mkdir(parents=True, exist_ok=True)
    run = runs.proposed
    device = device_name(settings.device or run.settings.machine.device)
    rows = rows_of(runs, Arm.parse(settings.arm), settings.seeds, folder)
    scores = run_rows(SidSetup(tree, folder, run.settings.upstream, settings, device), rows)
    probes: dict[Row, ProbeResult] = {}
    if tree.train + tree.dev + tree.test <= MOST_UTTERANCES:
        probes = probe_rows(rows, tree, run.settings.upstream, run.settings.device_name(), folder)
    utterances = tree.utterances()
    test_speakers = utterances.speakers[utterances.parts == TEST]
    own = None if tree.source is None else _overlap(tree.source, Path(run.corpus.root).resolve())
    return TreeResult(
        root=str(tree.root), list=str(tree.list_file), speakers=tree.speakers, train=tree.train, dev=tree.dev,
        test=tree.test, chance=1 / tree.speakers, majority=float(np.bincount(test_speakers).max() / len(test_speakers)),
        split_by=tree.split_by, synthetic=run.corpus.synthetic and bool(own), measure=_kind_of_measure(run, own),
        rows={row: row_result(heads, scores[row], len(test_speakers), probes.get(row)) for row, heads in rows.items()})


def _overlap(one: Path, other: Path) -> bool:
    """Whether one folder is the other, or lies in it."""
    return one.is_relative_to(other) or other.is_relative_to(one)


def _kind_of_measure(run: Run, own: bool | None) -> str:
    """own: whether the tree is of the run's corpus; None where it does not say"""
    if own is None:
        return "whether the heads were trained on these speakers is not known: the tree does not tell its source"
    if not own:
        return "other speakers than the heads were trained on, as in Table 4"
    heard = {*run.fold.train.speakers, *run.fold.dev.speakers}
    return (f"in-corpus: speakers of {run.corpus.name} itself, of whom {len(heard)} trained the heads; "
            "not Table 4's measure")


def row_result(heads: Sequence[Head], scores: Sequence[SidScore], tested: int, probe: ProbeResult | None) -> RowResult:
    """A row of its scores, one a seed, on `tested` utterances."""
    per_seed = [score.test for score in scores]
    uars = [head.uar for head in heads if head.uar is not None]
    return RowResult(
        sid_accuracy=wilson(float(np.mean(per_seed)), tested), per_seed=per_seed, lr=scores[0].lr,
        train_accuracy=float(np.mean([score.train for score in scores])),
        ser_uar=float(np.mean(uars)) if uars else None, heads=[path_text(head.checkpoint) for head in heads],
        command=scores[0].command, **vars(probe) if probe else {})


# the generators


class Drawn(NamedTuple):
    """N samples."""

    frames: np.ndarray
    """[N, T, D]"""
    labels: np.ndarray
    """[N] class indices."""
    suppression: SpeakerSuppression | None
    """Of the file that gave them."""


def draw_all(runs: GanRuns, samples: int) -> dict[str, Drawn]:
    """Name -> so many samples of each generator."""
    drawn: dict[str, Drawn] = {}
    for row, run in runs.by_row().items():
        drawn |= draw(run, row, samples)
    return drawn


def draw(run: Run, row: str, samples: int) -> dict[str, Drawn]:
    """Name -> what the run's generator file gives, N at least one a class.

    Its samples as its network makes them, the same centred, as users get them unless they say otherwise (`_centred`),
    and all that lie at its learnt points, where it has any (`_learnt`).
    """
    generator = Generator.load(run.generator)
    budget = {"total": max(samples, len(generator.header.labels))}
    sets = {str(row): generator.sample(budget, seed=0, center=False),
            f"{row}_centred": generator.sample(budget, seed=0, center=True)}
    if generator.points is not None:
        sets[f"{row}_learnt"] = generator.sample(generator.points.shape[1], seed=0, center="learnt")
    return {name: Drawn(samples.features.numpy(), samples.labels.numpy(), generator.suppression)
            for name, samples in sets.items()}


def attack_generators(runs: GanRuns, drawn: Mapping[str, Drawn], number: int) -> dict[View, dict[str, Attacked]]:
    """View -> {generator or control -> what every attack found}, see privacy.attacks.

    drawn: as of draw_all; number: samples of a control
    The real utterances are the proposed run's features, in as many frames as its samples have. Frames are not compared
    where two generators make different numbers of them.
    """
    frames = drawn[Row.PROPOSED].frames.shape[1]
    same_frames = all(values.frames.shape[1] == frames for values in drawn.values())
    results = {}
    for view in View:
        if view == View.FRAMES and not same_frames:
            continue
        seen = {name: attacks.vectors(values.frames, view) for name, values in drawn.items()}
        real, scaled = attacks.standardise(real_utterances(runs.proposed, frames, view), seen)
        results[view] = attacks.attack(real, scaled, number, speakers=view == View.MEAN)
    return results


def attack_speakers_within(runs: GanRuns, drawn: Mapping[str, Drawn], number: int) -> dict[str, WithinClass]:
    """Generator or control -> whom an attacker names who knows the file, by utterance means (privacy/within.py).

    drawn: as of draw_all; number: samples of a control
    """
    files = {name: Sampled(Spoken(attacks.vectors(frames), labels), partial(heard_by_heads, suppression))
             for name, (frames, labels, suppression) in drawn.items()}
    train, dev = _spoken(runs.proposed, _fold_of_gan(runs.proposed))
    return attack_within(train, dev, files, number)


def heard_by_heads(suppression: SpeakerSuppression | None, means: np.ndarray) -> np.ndarray:
    """Real utterance means [N, D] as heads on a file's samples hear them."""
    return means if suppression is None else suppression.of(torch.from_numpy(means)).numpy()


def attack_heads(runs: GanRuns) -> dict[str, TeacherAttacked]:
    """Teacher in a generator file, or control -> what the attack on it found, see privacy.teacher; none, nothing."""
    teachers = {}
    for row, run in runs.by_row().items():
        teacher = Generator.load(run.generator).teacher
        if teacher is not None:
            teachers[str(row)] = partial(opinion_of, teacher)
    if not teachers:
        return {}
    run = runs.proposed
    train, dev = _spoken(run, _fold_of_teacher(run))
    return attack_teachers(Labelled(train.means, train.labels, dev.means, dev.labels), teachers)


def _fold_of_teacher(run: Run) -> Fold:
    """Who trained the heads in the file: the pool's heads heard train, those made for the file what the GAN heard."""
    config = run.settings.distiller.distill_config()
    made_for_it = config.privacy > 0 or config.teacher_folds > 0
    return _fold_of_gan(run) if made_for_it else run.fold


def _fold_of_gan(run: Run) -> Fold:
    """The train and dev parts that its GAN knew."""
    return fold_of(run.settings.distiller.distill_config().selection, run.fold)


def opinion_of(heads: LinearHeads, means: np.ndarray) -> np.ndarray:
    """Probabilities of the classes by each head [M, N, C], of utterance means [N, D]."""
    return heads.of_means(torch.from_numpy(means)).softmax(dim=-1).numpy()


def real_utterances(run: Run, frames: int, view: View) -> Real:
    """The run's features of the train and dev parts that its GAN knew, each utterance in so many frames."""
    return real_of(FeatureStore(run.features), _fold_of_gan(run), frames, view)


def real_of(store: FeatureStore, fold: Fold, frames: int, view: View) -> Real:
    """As real_utterances. Of a large fold the attacks see a part: MOST_REAL of train or fewer, of dev a quarter."""
    numbers = store.dim * (1 if view == View.MEAN else frames)
    most = max(4 * attacks.MIN_DEV, min(MOST_REAL, REAL_BYTES // (4 * numbers)))
    train, dev = _some(fold.train, most), _some(fold.dev, most // 4)
    return Real(_vectors(store, train, frames, view), _speakers(train), _vectors(store, dev, frames, view),
                _speakers(dev))


def _spoken(run: Run, fold: Fold) -> list[Spoken]:
    """Utterance means of train and dev, or of a part of each."""
    store = FeatureStore(run.features)
    parts = _some(fold.train, MOST_REAL), _some(fold.dev, MOST_REAL // 4)
    return [Spoken(store.means(store.select(part)).numpy(), np.array(part.class_indices), _speakers(part))
            for part in parts]


def _some(part: Metadata, most: int) -> Metadata:
    """So many of a part's utterances or fewer, evenly spread over all of it."""
    return part.subset(evenly(len(part.utterances), most))


def _vectors(store: FeatureStore, part: Metadata, frames: int, view: View) -> np.ndarray:
    return attacks.vectors([resample(store[place], frames).numpy() for place in store.select(part)], view)


def _speakers(part: Metadata) -> np.ndarray:
    return np.array([utterance.speaker for utterance in part.utterances])

"""Rivals of a run: their generator files, and what the teacher says by itself."""

import logging
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import torch
from sklearn.metrics import accuracy_score

from ..arms import TEACHER, Arm
from ..corpora.metadata import Metadata
from ..features.store import FeatureStore
from ..files import write_json
from ..metrics import uar
from ..plugin.encoder import Encoder
from ..plugin.placeholder import recordings_of
from ..plugin.states import describe, state_key
from ..plugin.store import StateStore
from ..pool.pool import Pool
from ..rivals.make import Material, make_rival
from .folder import Run, Score, need

log = logging.getLogger("s3prl_dd")


def rival_file(run: Run, arm: Arm, seed: int) -> Path:
    """Where the generator file of a rival lies: one for all budgets and seeds where any set can be drawn from it."""
    return run.rivals / (f"{arm.source}.safetensors" if arm.kind.drawn else f"{arm.name}_seed{seed}.safetensors")


def lacking_files(run: Run, wanted: Iterable[tuple[Arm, int]]) -> dict[Path, tuple[Arm, int]]:
    """Path -> arm and seed of the rivals' files that are not there yet. wanted: arms and seeds of heads to train"""
    rivals = {rival_file(run, arm, seed): (arm, seed) for arm, seed in wanted if arm.kind.file}
    return {path: rival for path, rival in rivals.items() if not path.is_file()}


def make_files(run: Run, lacking: dict[Path, tuple[Arm, int]], material: Material) -> None:
    """Make the files of rivals, one after the other; a killed run goes on with the next that is lacking."""
    counts = material.data.class_counts
    for path, (arm, seed) in lacking.items():
        assert arm.kind.file is not None
        started = time.time()
        labels = arm.kind.labels or run.settings.sampling.labels
        make_rival(arm.kind.file, material, arm.points_of_class(counts), labels, seed).save(path)
        log.info("%s (%.2f MB, %.0f s)", path, path.stat().st_size / 1e6, time.time() - started)


def score_teacher(run: Run) -> None:
    """What the pool's teacher is worth on real dev and test speech: no head, no samples, no budget."""
    path = run.expdir(TEACHER, 0, run.settings.heads.head_lrs[0]) / "run.json"
    if path.is_file():
        return
    started = time.time()
    teacher = Pool.load(need(run.pool, "pool")).teacher().linear()
    predicted: dict[str, list[int]] = {}
    truth: dict[str, list[int]] = {}
    for split, part in (("dev", run.fold.dev), ("test", run.fold.test)):
        with torch.no_grad():
            predicted[split] = teacher.soften(utterance_means(run, part)).argmax(dim=-1).tolist()
        truth[split] = part.class_indices
    accuracy = float(accuracy_score(truth["test"], predicted["test"]))
    score = Score(arm=TEACHER.name, seed=0, lr=None, expdir=path.parent.name, seconds=time.time() - started, step=0,
                  dev_uar=uar(truth["dev"], predicted["dev"]), uar=uar(truth["test"], predicted["test"]),
                  accuracy=accuracy, command=f"s3prl-dd train --out {run.out}",
                  predicted=predicted["test"])
    write_json(path, asdict(score))
    log.info("the teacher alone: UAR %.3f on test, %.3f on dev", score.uar, score.dev_uar)


def utterance_means(run: Run, part: Metadata) -> torch.Tensor:
    """Utterance means [N, D] of real audio, its states weighted as the feature store's; stored states where there are.

    Test utterances are in no feature store: their states are where heads on real data have left them.
    """
    spec, weights = run.settings.upstream, FeatureStore(run.features).provenance.layer_weights
    store = StateStore(run.means, run.settings.machine.feature_cache * 1e9)
    made_by = describe(spec, "means")
    layers = torch.ones(1) if weights is None else torch.tensor(weights)
    encoder: Encoder | None = None
    means = []
    for recording in recordings_of(run.corpus.root, part.utterances):
        states = None if spec.normalize else store.read(state_key(made_by, recording))  # [L, 1, D]
        if states is None:
            encoder = encoder or Encoder(spec, run.settings.device_name(), weights)
            means.append(encoder.encode([torch.from_numpy(recording.load())])[0].float().mean(dim=0).cpu())
        else:
            means.append(layers @ states[:, 0])
    store.close()
    return torch.stack(means)

"""Results of a run's folder: its heads' scores, sizes and times, and what it ran on."""

import contextlib
import importlib.metadata
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import __version__
from ..arms import Arm
from ..corpora.inventory import read_inventory
from ..errors import UserError
from ..features.store import FeatureStore
from ..files import read_json
from ..generator.layout import read_layout
from ..plugin.compat import s3prl_version
from .folder import Run, Score
from .results import ArmResult, Results, Sizes, TestList


def collect(run: Run) -> Results:
    """All that a run measured; arms without a head yet are left out."""
    fold, corpus, settings = run.fold, run.corpus, run.settings
    counts = fold.train.class_counts
    of_arm: dict[Arm, list[Score]] = {}
    for score in run.scores():
        of_arm.setdefault(Arm.parse(score.arm), []).append(score)
    if not of_arm:
        raise UserError(f"{run.out}: no head is trained yet, so there is nothing to report. Run `s3prl-dd run --out "
                        f"{run.out}` first.")
    arms = {arm.name: arm_result(of_arm[arm], arm.points(counts)) for arm in sorted(of_arm)}
    truth = fold.test.class_indices
    return Results(
        corpus=corpus.name, synthetic=corpus.synthetic, upstream=settings.upstream.upstream, fold=fold.name,
        config=settings.distiller.config, overrides=list(settings.distiller.overrides), head=settings.heads.head,
        labels=settings.sampling.labels, center=settings.sampling.center, lengths=settings.sampling.lengths,
        features=settings.upstream.words(), recipe=settings.heads.words(),
        resample=settings.sampling.resample, rival_frames=settings.rivals.rival_frames, arms=arms, classes=len(counts),
        test_utterances=len(truth),
        test=TestList(truth=truth, speakers=[item.speaker for item in fold.test.utterances]),
        **_of_file(run.generator), bytes=sizes(run), distill_seconds=_distill_seconds(run.gan), versions=versions(),
        machine=machine())


def arm_result(scores: list[Score], points: int) -> ArmResult:
    """The heads of an arm as one; scores: one a seed, in their order."""
    return ArmResult(
        uar=_mean([score.uar for score in scores]), uar_per_seed=[score.uar for score in scores],
        dev_uar=_mean([score.dev_uar for score in scores]), accuracy=_mean([score.accuracy for score in scores]),
        points=points, train_seconds=_mean([score.seconds for score in scores]),
        lr_per_seed=[score.lr for score in scores], command=scores[0].command,
        predicted=[score.predicted for score in scores])


def sizes(run: Run) -> Sizes:
    """Bytes of the training part's audio and features, and of the generator file; None for what is not there."""
    train = run.fold.train
    audio = audio_bytes(run, {item.path for item in train.utterances})
    features = None
    if (run.features / "header.json").is_file():
        store = FeatureStore(run.features)
        features = int(sum(store.lengths[position] for position in store.select(train)) * store.dim * 4)
    generator = run.generator.stat().st_size if run.generator.is_file() else None
    return Sizes(audio=audio, features_float32=features, generator=generator)


def audio_bytes(run: Run, paths: Iterable[str]) -> int:
    """Bytes of these files of the corpus, as it was prepared: it may lie elsewhere by now."""
    known, root = read_inventory(run.metadata), Path(run.corpus.root)
    total = 0
    for path in paths:
        file = root / path
        if path not in known and not file.is_file():
            raise UserError(f"{file}: no such audio file, and {run.metadata} (of an older version) does not tell its "
                            f"size. Say where it is: `s3prl-dd run --out {run.out} --root FOLDER --stage 7`.")
        total += known[path].size if path in known else file.stat().st_size
    return total


def versions() -> dict[str, str]:
    """Package -> version of what decides the figures."""
    others = {name: importlib.metadata.version(name) for name in ("torch", "torchaudio", "numpy")}
    return {"s3prl_dd": __version__, "s3prl": s3prl_version(), **others}


def machine() -> dict[str, Any]:
    """system, cores, gpu."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"system": platform.platform(), "cores": os.cpu_count(), "gpu": gpu}


def _of_file(generator: Path) -> dict[str, Any]:
    """What results say of the generator file; nothing where it cannot be read."""
    with contextlib.suppress(UserError):
        layout = read_layout(generator)
        network = layout.header.network
        return {"architecture": network.architecture, "deviations": network.movement, "learnt_points": layout.points}
    return {}


def _distill_seconds(gan: Path) -> float | None:
    path = gan / "seconds.json"
    return read_json(path).get("distill") if path.is_file() else None


def _mean(values: list[float]) -> float:
    return float(np.mean(values))

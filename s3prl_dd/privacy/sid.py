"""Speaker identification (SID) by S3PRL's own voxceleb1 recipe, on SER heads or on the plain upstream.

    <folder>/exp/<row>_seed<s>_lr<lr>/   one run of S3PRL each; what is there is not run again
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from tqdm import tqdm

from ..config import build, settings
from ..corpora.sid_check import FIRST, check_voxceleb1
from ..errors import UserError
from ..features.spec import FeatureSpec, own_upstream
from ..files import atomic_path, file_digest, read_json, text_digest, write_json
from ..plugin import runs
from .rows import CheckpointPath, Head, Row, Rows, path_text
from .settings import Settings


class Utterances(NamedTuple):
    """A tree's utterances in the list's order."""

    paths: list[Path]
    parts: np.ndarray  # [N] TRAIN, DEV or TEST of corpora.sid_check
    speakers: np.ndarray  # [N] from 0 up


@dataclass(frozen=True)
class Tree:
    """A checked tree in VoxCeleb1's shape, with S3PRL's list of it."""

    root: Path
    list_file: Path
    speakers: int
    """How many; the other counts are of utterances."""
    train: int
    dev: int
    test: int
    source: Path | None
    """The folder that `s3prl-dd prepare sid` made it from, if it did."""
    split_by: str | None
    """The regular expression that test was held apart by, if any."""

    @classmethod
    def open(cls, root: str | Path, list_file: str | Path | None = None) -> "Tree":
        """Check a tree and its list (default: list.txt inside); UserError for one that S3PRL could not read."""
        root = Path(root).resolve()
        listed = Path(list_file).resolve() if list_file else root / "list.txt"
        about = read_json(root / "sid.json") if (root / "sid.json").is_file() else {}
        source = Path(about["root"]).resolve() if about.get("root") else None
        counts = check_voxceleb1(root, listed)
        return cls(root, listed, counts["speakers"], counts["train"], counts["dev"], counts["test"], source,
                   about.get("split_by"))

    @property
    def name(self) -> str:
        """Its folder's name and eight digits of what it is and lists."""
        digest = text_digest([str(self.root), self.list_file.read_text(encoding="utf-8")])
        return f"{self.root.name}_{digest[:8]}"

    def utterances(self) -> Utterances:
        """All of them, found on disk."""
        lines = [line.split() for line in self.list_file.read_text(encoding="utf-8").splitlines()]
        paths = [next(self.root.glob(f"*/wav/{path}")) for _, path in lines]
        parts = np.array([int(part) for part, _ in lines])
        speakers = np.array([int(path[2:7]) - FIRST for _, path in lines])  # paths start with id10001/
        return Utterances(paths, parts, speakers)


@settings
class SidScore:
    """What one SID run was worth at its best step on dev: <expdir>/run.json. Accuracies are in [0, 1]."""

    steps: int
    """Of the run."""
    batch: int
    """Utterances a step."""
    lr: float
    """Adam's learning rate."""
    checkpoint: CheckpointPath
    """The SER head that was listened through; None for the plain upstream."""
    seed: int
    """S3PRL's --seed."""
    step: int
    """The best step on dev."""
    dev: float
    """Accuracy on dev there."""
    train: float
    """Accuracy on train there."""
    test: float
    """Accuracy on test there."""
    command: str
    """The command line."""
    digest: str | None = None
    """SHA-256 of the checkpoint's file; None for the plain upstream, and in older versions."""


class Job(NamedTuple):
    """One run of SID."""

    row: Row
    seed: int
    lr: float
    head: Head


class SidSetup(NamedTuple):
    """What all runs on one tree share."""

    tree: Tree
    folder: Path
    """Of the tree's runs."""
    spec: FeatureSpec
    """The plain upstream."""
    settings: Settings
    device: str


def run_rows(setup: SidSetup, rows: Rows) -> dict[Row, list[SidScore]]:
    """Row -> the score of each seed [S], all at the learning rate that is best on dev at seed 0."""
    lrs, seeds = setup.settings.lrs, setup.settings.seeds
    search = [Job(row, 0, lr, heads[0]) for row, heads in rows.items() for lr in lrs]
    total = len(search) + len(rows) * (seeds - 1)
    cores = runs.share_cores(setup.settings.jobs, setup.device, total)
    with (tqdm(total=total, desc=f"SID, {setup.tree.root.name}", unit="run") as progress,
          ThreadPoolExecutor(cores.jobs) as pool):
        run = partial(_run_and_tell, setup, cores.threads, progress)
        scores: dict[Row, list[SidScore]] = {}
        for job, score in zip(search, pool.map(run, search), strict=True):
            before = scores.get(job.row)
            if before is None or score.dev > before[0].dev:
                scores[job.row] = [score]
        others = [Job(row, seed, scores[row][0].lr, heads[seed])
                  for row, heads in rows.items() for seed in range(1, seeds)]
        for job, score in zip(others, pool.map(run, others), strict=True):
            scores[job.row].append(score)
    return {row: scores[row] for row in rows}


def _run_and_tell(setup: SidSetup, threads: int, progress: tqdm, job: Job) -> SidScore:
    score = run_sid(setup, job, threads)
    progress.write(f"{job.row} seed {job.seed} lr {job.lr:g}: accuracy {score.test:.3f} on test, "
                   f"{score.dev:.3f} on dev")
    progress.update()
    return score


def run_sid(setup: SidSetup, job: Job, threads: int = 1) -> SidScore:
    """One run of S3PRL's SID expert; resumes. Raises UserError where the folder holds a run of other settings."""
    expdir = setup.folder / "exp" / f"{job.row}_seed{job.seed}_lr{job.lr:g}"
    checkpoint = job.head.checkpoint
    digest = None if checkpoint is None else file_digest(checkpoint)
    wanted = {"steps": setup.settings.steps, "batch": setup.settings.batch, "lr": job.lr,
              "checkpoint": path_text(checkpoint), "digest": digest}
    kept, begun = expdir / "run.json", expdir / "begun.json"
    if kept.is_file():
        score = build(SidScore, read_json(kept, "score of a SID run"), kept)
        _check_asked(expdir, asdict(score), wanted)
        return score
    if begun.is_file():  # else log.log and states of a killed run would count as this one's
        _check_asked(expdir, read_json(begun, "settings of a SID run"), wanted)
    write_json(begun, wanted)
    flags = [*_upstream_flags(setup, checkpoint), "--device", setup.device,
             "--feature_cache", str(setup.settings.feature_cache), "--feature_folder", str(setup.folder / "means")]
    command = runs.start_s3prl(expdir, "voxceleb1", flags, sid_overrides(setup, job.lr), job.seed, threads)
    best = runs.best_on_dev(expdir, {"dev": "dev", "train": "train", "test": "test"})
    score = build(SidScore, {**wanted, "seed": job.seed, **best, "command": command}, expdir)
    write_json(kept, asdict(score))
    return score


def _check_asked(expdir: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """UserError where an expdir's run was of other settings, or of another head that had the same path."""
    for key, value in wanted.items():
        older = key == "digest" and found.get(key) is None
        if found.get(key) != value and not older:
            raise UserError(f"{expdir}: was run with {key} {found.get(key)!r}, now {value!r} is asked for. "
                            "Delete the folder to run it again.")


def _upstream_flags(setup: SidSetup, checkpoint: Path | None) -> list[str]:
    """S3PRL's flags for what the attacker hears: a SER head, or the plain upstream. One of the user's own is named."""
    if checkpoint is None:
        return setup.spec.flags()
    flags = ["-u", "ser_projector", "-k", str(checkpoint)]
    if not own_upstream(setup.spec.upstream):
        return flags
    named = setup.folder / "upstream.yaml"
    with atomic_path(named) as temporary:
        temporary.write_text(yaml.safe_dump({"upstream": setup.spec.upstream}))
    return [*flags, "-g", str(named)]


def sid_overrides(setup: SidSetup, lr: float) -> dict[str, Any]:
    """S3PRL's -o of a SID run: this tree, so many steps, ten looks at dev and test."""
    steps = setup.settings.steps
    every = max(1, steps // 10)
    data = {"file_path": str(setup.tree.root), "meta_data": str(setup.tree.list_file), "num_workers": 0,
            "train_batch_size": setup.settings.batch,
            "max_timestep": None}  # whole utterances, so that they can be cached
    runner = {"total_steps": steps, "gradient_accumulate_steps": 1, "log_step": every, "eval_step": every,
              "save_step": steps}
    return {**{f"config.downstream_expert.datarc.{key}": value for key, value in data.items()},
            **{f"config.runner.{key}": value for key, value in runner.items()}, "config.optimizer.lr": lr}

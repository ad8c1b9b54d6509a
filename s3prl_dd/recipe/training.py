"""SER heads by S3PRL's runner, one process each: an arm becomes a downstream and its overrides."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from ..arms import Arm
from ..errors import UserError
from ..files import file_digest, read_json, write_json
from ..generator.store import FORMAT
from ..metrics import BEST_PREDICTIONS
from ..plugin.runs import best_on_dev, share_cores, start_s3prl
from ..pool.kinds import HEADS
from .folder import Run, Score
from .rivals import rival_file

SCORES = {"dev_uar": "dev uar", "uar": "test uar", "accuracy": "test"}
"""What a head is worth, and its name in the log of S3PRL's emotion expert; the first chooses step and learning rate."""

EVALUATIONS = 20  # of a head along its training


class Job(NamedTuple):
    """One head to train."""

    arm: Arm
    seed: int
    lr: float


class Downstream(NamedTuple):
    """-d of S3PRL's runner, and what its -o sets."""

    name: str
    overrides: dict[str, Any]


def train_arms(run: Run, arms: list[Arm]) -> None:
    """Train a head for each arm, seed and learning rate, each in a process of its own; what is there stays."""
    todo = lacking(run, arms)
    cores = share_cores(run.settings.machine.jobs, run.settings.device_name(), len(todo))
    with tqdm(total=len(todo), desc="S3PRL heads", unit="run", disable=not todo) as progress:
        def train(job: Job) -> None:
            score = train_head(run, job, cores.threads)
            progress.write(f"{job.arm.name} seed {job.seed} lr {job.lr:g}: UAR {score.uar:.3f} on test, "
                           f"{score.dev_uar:.3f} on dev, {score.seconds:.0f} s")
            progress.update()

        with ThreadPoolExecutor(cores.jobs) as pool:
            list(pool.map(train, todo))


def lacking(run: Run, arms: list[Arm]) -> list[Job]:
    """The heads of these arms that are not trained yet."""
    settings = run.settings
    jobs = [Job(arm, seed, lr) for arm in arms for seed in range(settings.seeds_of(arm))
            for lr in settings.heads.head_lrs]
    return [job for job in jobs if not (run.expdir(*job) / "run.json").is_file()]


def check_trained_on(run: Run) -> None:
    """UserError where a finished head was trained on samples of another generator file than the run has now, or hears
    frames and its samples were drawn in another way than this version draws them."""
    now = file_digest(run.generator)
    hears_frames = HEADS[run.settings.heads.head].hears_frames
    for score in run.scores():
        arm = Arm.parse(score.arm)
        if score.generator not in (None, now):
            other = f"of another file than {run.generator} is now"
        elif hears_frames and arm.from_file and arm.kind.drawn and score.drawn != FORMAT:
            other = "whose frames an older version drew otherwise"
        else:
            continue
        path = run.expdir(arm, score.seed, score.lr or run.settings.heads.head_lrs[0])
        raise UserError(f"{path}: trained on samples {other}. Delete {path.parent}/{arm.source.value}_* to train "
                        "anew, or give another --out.")


def train_head(run: Run, job: Job, threads: int = 1) -> Score:
    """One run of S3PRL; its score is kept, with the command, in <expdir>/run.json."""
    expdir = run.expdir(*job)
    downstream = as_downstream(run, job)
    generator = file_digest(run.generator) if job.arm.generated else None
    started = time.time()
    command = start_s3prl(expdir, downstream.name, runner_flags(run), downstream.overrides, job.seed, threads)
    seconds = time.time() - started
    best = best_on_dev(expdir, SCORES)
    score = Score(arm=job.arm.name, seed=job.seed, lr=job.lr, expdir=expdir.name, seconds=seconds, **best,
                  command=command, predicted=_predictions(expdir, best["step"]),
                  generator=generator, drawn=FORMAT)
    write_json(expdir / "run.json", asdict(score))
    return score


def runner_flags(run: Run) -> list[str]:
    """Flags of our launcher for every head of a run."""
    machine = run.settings.machine
    return [*run.settings.upstream.flags(), "--device", run.settings.device_name(),
            "--feature_cache", str(machine.feature_cache), "--feature_folder", str(run.means)]


def as_downstream(run: Run, job: Job) -> Downstream:
    """What S3PRL's runner is told for a head: real audio is -d emotion, samples and rivals -d distilled_emotion."""
    heads, arm = run.settings.heads, job.arm
    data = _real_data(run) | (_samples(run, job) if arm.from_file else {})
    if arm.budget is not None:
        data["budget"] = _budget(run, arm)
    every = max(1, heads.head_steps // EVALUATIONS)
    overrides = {f"config.downstream_expert.datarc.{key}": value for key, value in data.items()}
    overrides |= {f"config.downstream_expert.modelrc.{key}": value for key, value in HEADS[heads.head].modelrc.items()}
    overrides |= {"config.runner.total_steps": heads.head_steps, "config.runner.gradient_accumulate_steps": 1,
                  "config.runner.eval_step": every, "config.runner.log_step": every,
                  "config.runner.save_step": heads.head_steps, "config.optimizer.lr": job.lr}
    return Downstream("distilled_emotion" if arm.from_file else "emotion", overrides)


def _budget(run: Run, arm: Arm) -> Any:
    """An arm's budget; of a list that has fewer of a class, what it has."""
    if arm.kind.drawn or not arm.from_file or not isinstance(arm.budget, int):
        return arm.budget
    counts = run.fold.train.class_counts
    return arm.budget if arm.budget <= min(counts) else {"counts": arm.points_of_class(counts)}


def _real_data(run: Run) -> dict[str, Any]:
    """The datarc that all arms share: dev and test are the same real audio."""
    on_cpu = run.settings.device_name() == "cpu"
    evaluated = 32 if run.settings.machine.feature_cache else 1 if on_cpu else 8
    settings = run.settings
    return {"root": str(run.corpus.root), "meta_data": str(run.metadata.resolve()), "test_fold": settings.corpus.fold,
            "num_workers": 0, "train_batch_size": settings.heads.head_batch, "eval_batch_size": evaluated,
            "select_by": "uar"}


def _samples(run: Run, job: Job) -> dict[str, Any]:
    """The datarc of samples; what a rival's kind leaves open is as for the generator's."""
    sampling, kind = run.settings.sampling, job.arm.kind
    resample = sampling.resample if kind.drawn else False
    generator = run.generator if job.arm.generated else rival_file(run, job.arm, job.seed)
    samples = run.samples if job.arm.generated else run.rivals / "samples"
    return {"generator": str(generator.resolve()), "resample": resample,
            "labels": kind.labels or sampling.labels, "center": kind.center_in(sampling.center),
            "lengths": sampling.lengths, "sample_folder": str(samples.resolve())}


def _predictions(expdir: Path, step: int) -> list[int] | None:
    """Predicted class indices [N] of the test utterances at dev-best.ckpt's step; None where it is another step."""
    path = expdir / BEST_PREDICTIONS
    kept = read_json(path) if path.is_file() else {}
    return kept["predicted"] if kept.get("step") == step else None


"""A run's folder with metadata, features, generator and heads' scores, all made."""

import json
from pathlib import Path

from s3prl_dd.corpora.metadata import Metadata
from s3prl_dd.files import write_json
from s3prl_dd.recipe.folder import Run
from s3prl_dd.recipe.settings import Settings
from support.gauss import write_run

SCORES = {
    "real": [0.80, 0.84],
    "distilled_full": [0.79, 0.75],
    "distilled_6ppc": [0.7, 0.7],
    "distilled_100ppc": [0.76, 0.76],
    "random_real_6ppc": [0.6, 0.64],
    "random_real_100ppc": [0.8, 0.8],
}

IN_ORDER = ["real", "distilled_full", "distilled_100ppc", "random_real_100ppc", "distilled_6ppc", "random_real_6ppc"]
"""The arms of SCORES as tables show them."""


def wanted(**changes):
    """Settings of a run on made features, two seeds."""
    return Settings().changed(**{"labels": "hard", "upstream": "made", "seeds": 2, "device": "cpu", **changes})


def start(out, **changes):
    """A run started and kept."""
    run = Run.start(out, wanted(**changes))
    run.keep()
    return run


def variant(out, base, **changes):
    """A run on the base of another, started and kept."""
    run = Run.start(out, Run.defaults(out, str(base.out), None).changed(**changes))
    run.keep()
    return run


def keep_score(out, arm, seed, uar, dev_uar=0.9, lr=1e-3, suffix="", predicted=None, seconds=1.0):
    """A head's score in its expdir, as training.train_head keeps it."""
    folder = Path(out) / "exp" / f"{arm}_seed{seed}{suffix}"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / "run.json",
        {
            "arm": arm,
            "seed": seed,
            "lr": lr,
            "expdir": folder.name,
            "seconds": seconds,
            "step": 5,
            "dev_uar": dev_uar,
            "uar": uar,
            "accuracy": 0.5,
            "command": f"python {arm}",
            "predicted": predicted,
        },
    )
    return folder


def finished_run(out):
    """A run whose every stage but the report is made up."""
    out = write_run(out)
    (out / "generator.safetensors").write_bytes(b"x" * 5000)
    for item in Metadata.read(out / "metadata/Session1/train_meta_data.json").utterances:
        (out / item.path).parent.mkdir(exist_ok=True)
        (out / item.path).write_bytes(b"x" * 1000)
    for arm, uars in SCORES.items():
        for seed, uar in enumerate(uars):
            keep_score(out, arm, seed, uar, seconds=60 + seed)
    (out / "gan").mkdir(exist_ok=True)
    (out / "gan/seconds.json").write_text(json.dumps({"distill": 123.4}))
    return start(out)

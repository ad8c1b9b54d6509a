"""The rows of the paper's Table 4: what speakers are heard through, and which checkpoints stand for it."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
from pydantic import BeforeValidator

from ..arms import REAL, Arm
from ..errors import UserError
from ..files import save_torch
from ..plugin.featurizer import read_checkpoint
from ..pool.heads import Heads
from ..recipe.folder import Run

PROJECTOR = ("projector.weight", "projector.bias")
"""S3PRL's keys of the first linear layer of its emotion head."""


class Row(StrEnum):
    """What speakers are heard through, in the order of the table."""

    UPSTREAM = "upstream"
    UNTRAINED = "untrained"
    REAL = "real"
    BASELINE = "baseline"
    PROPOSED = "proposed"


TITLES = {
    Row.UPSTREAM: "plain upstream", Row.UNTRAINED: "SER head, untrained", Row.REAL: "SER head on real data",
    Row.BASELINE: "SER head on the baseline GAN", Row.PROPOSED: "SER head on the proposed GAN",
}
"""The rows as tables show them."""


class Head(NamedTuple):
    """What one seed of a row is measured on."""

    checkpoint: Path | None
    """Of a SER head; None is the plain upstream."""
    uar: float | None
    """Its UAR on the SER test split, [0, 1]; None of no trained head."""


CheckpointPath = Annotated[str | None, BeforeValidator(lambda value: None if value == "None" else value)]
"""The path of a Head's checkpoint in results; None is the plain upstream, in files until 0.2 the text "None"."""


def path_text(path: Path | None) -> str | None:
    """A checkpoint's path as results hold it (CheckpointPath)."""
    return None if path is None else str(path)


Rows = dict[Row, list[Head]]
"""Row -> a head for each seed [S]."""


class GanRuns(NamedTuple):
    """The recipe's runs that are compared, on the same features and fold."""

    proposed: Run
    baseline: Run | None

    def by_row(self) -> dict[Row, Run]:
        """The row of each run's heads -> the run."""
        runs = {Row.PROPOSED: self.proposed}
        if self.baseline is not None:
            runs[Row.BASELINE] = self.baseline
        return runs


def rows_of(runs: GanRuns, arm: Arm, seeds: int, folder: Path) -> Rows:
    """The rows of a measurement: each has a head for every seed, going round where there are fewer.

    arm: whose heads stand for a GAN. folder: where untrained heads are written.
    """
    real = heads_of(runs.proposed, REAL)
    some_real_head = real[0].checkpoint
    assert some_real_head is not None
    heads = {Row.UPSTREAM: [Head(None, None)], Row.REAL: real}
    for row, run in runs.by_row().items():
        heads[row] = heads_of(run, arm)
    untrained = [write_untrained(some_real_head, folder / f"untrained_seed{seed}.ckpt", seed) for seed in range(seeds)]
    heads[Row.UNTRAINED] = [Head(path, None) for path in untrained]
    return {row: [heads[row][seed % len(heads[row])] for seed in range(seeds)] for row in Row if row in heads}


def heads_of(run: Run, arm: Arm) -> list[Head]:
    """The heads of an arm, by seed; UserError where there are none."""
    heads = [Head(run.best(arm, score.seed).resolve(), score.uar) for score in run.scores() if score.arm == arm.name]
    if not heads:
        raise UserError(f"{run.exp(arm)}: no head of arm {arm.name!r} (no {arm.name}_seed*/run.json). Run "
                        "`s3prl-dd run` first, or choose another --arm.")
    return heads


def write_untrained(checkpoint: Path, path: Path, seed: int) -> Path:
    """The same checkpoint with an untrained projector and uniform layer weights, at `path`; left as it is if there."""
    if not path.is_file():
        state = read_checkpoint(checkpoint)
        dim = state["Downstream"]["projector.weight"].shape[1]
        fresh = Heads.create([f"untrained/{seed}"], dim, 1).state()
        head = {**state["Downstream"], **{key: fresh[key][0] for key in PROJECTOR}}
        uniform = {key: torch.zeros_like(logits) for key, logits in state.get("Featurizer", {}).items()}
        made = {"Downstream": head, "Featurizer": uniform, "Args": state["Args"], "Config": state.get("Config")}
        save_torch(made, path)
    return path.resolve()

"""Checkpoints of a distillation: written whole or not at all, and read only by the run that wrote them."""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError, load_failure
from ..files import save_torch, text_digest
from ..generator import Network
from ..pool.pool import Pool
from .config import DistillConfig, with_new_keys
from .data import TrainingData
from .parts import Parts

REMOVED: dict[str, Any] = {"schedule": "constant", "warm_steps": 0, "softmax_reduction": "sample", "temperature": 1.0,
                           "diversity_of": "frames", "eval_soft": False, "patience": None, "compile": False,
                           "latents": 0}
"""Settings of versions before, with the values for which today's trainer does the same."""

ADDED: dict[str, Any] = {"penalty_every": 1, "softmax_kinds": ["superb"], "eval_kinds": ["superb"],
                         "eval_labels": "hard", "selection": "dev", "privacy": 0, "teacher_folds": 0,
                         "teacher_hears": "speech", "points": None}
"""Settings that the version before lacks, with the values for which they change nothing."""


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors, numbers and text."""
    save_torch(dict(state), path)


def load_checkpoint(path: Path, device: torch.device, needed: Collection[str]) -> dict[str, Any]:
    """What save_checkpoint wrote; executes no code. UserError for a file that is cut off or lacks a `needed` key."""
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        missing = sorted(set(needed) - set(state))
    except Exception as error:  # torch raises of every kind
        raise UserError(f"{path}: not a whole checkpoint ({load_failure(error)}). Delete it to start anew.") from None
    if missing:
        raise UserError(f"{path}: not a checkpoint of a distillation, it has no {missing[0]}. Delete it to start anew.")
    return dict(state)


def identity(config: DistillConfig, network: Network, parts: Parts, data: TrainingData, pool: Pool | None) -> str:
    """What must be equal to resume, as JSON: configuration but for its steps and the points learnt behind them,
    provenance, a digest of data and pool.
    """
    settings = {**asdict(config), "network": asdict(network), "steps": None, "points": None}
    numbers = [*data.labels.tolist(), *(pool.dev_uar if pool and config.needs_pool else ())]
    for length, first in zip(data.lengths.tolist(), data.first_numbers.tolist(), strict=True):
        numbers += [length, first]  # exact on any machine, unlike sums
    blocks = [settings, asdict(parts.corpus), asdict(parts.features), text_digest(map(repr, numbers))]
    return json.dumps(blocks, sort_keys=True)


def check_identity(path: Path, saved: str, now: str) -> None:
    """UserError where a checkpoint's identity is another than this run's; names the settings that differ."""
    there, *data_there = _comparable(saved)
    here, *data_here = _comparable(now)
    names = [name for name in sorted({*there, *here}) if there.get(name) != here.get(name)]
    if not names and data_there == data_here:
        return
    told = [f"{name} {there.get(name)!r} there, {here.get(name)!r} here" for name in names] or ["the data differ"]
    raise UserError(f"{path}: belongs to another configuration or other data ({', '.join(told)}). "
                    "Use another --out, or delete it.")


def _comparable(text: str) -> list[Any]:
    """An identity, of this version or the one before, without what makes no difference."""
    settings, corpus, features, digest = json.loads(text)
    settings = {name: value for name, value in {**ADDED, **with_new_keys(settings)}.items()
                if name not in REMOVED or value != REMOVED[name]}
    for block in ("lambdas", "network"):
        settings |= {f"{block}.{name}": value for name, value in settings.pop(block).items()}
    if settings["eval_kinds"] == ["superb"]:  # else it has a part in which generator is kept
        settings.pop("network.movement", None)
    features.pop("s3prl", None)
    corpus.pop("hidden", None)
    return [settings, corpus, features, digest]

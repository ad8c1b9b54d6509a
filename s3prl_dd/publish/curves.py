"""How a GAN was trained, read from its run's folder: the log's loss terms and what was measured on dev."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import read_json

Curve = dict[int, float]
"""Step -> value."""

STEP = re.compile(r"step (\d+): (.*)")


@dataclass(frozen=True)
class Training:
    """The curves of one run's GAN."""

    terms: dict[str, Curve]
    """Loss terms and what else log.log has, by name."""
    dev: dict[str, Curve]
    """What metrics.json has of dev, by name: dev_uar, distance_real, ..."""
    best: int | None
    """The step that was taken; None where it was not kept."""


def read_training(gan: Path) -> Training | None:
    """The curves of a run's `gan` folder; None where nothing was kept (a closed form, an old run)."""
    terms = _terms(gan / "log.log")
    metrics = _metrics(gan / "metrics.json")
    history = metrics.get("history", [])
    if not terms and not history:
        return None
    names = sorted({name for entry in history for name in entry} - {"step"})
    dev = {name: {entry["step"]: entry[name] for entry in history if name in entry} for name in names}
    return Training(terms, dev, metrics.get("best", {}).get("step"))


def _terms(path: Path) -> dict[str, Curve]:
    """Of log.log; a step that was done again after a kill counts as it was done last."""
    terms: dict[str, Curve] = {}
    if not path.is_file():
        return terms
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        match = STEP.fullmatch(line)
        words = match[2].split() if match else []
        for name, value in zip(words[::2], words[1::2], strict=False):
            try:
                terms.setdefault(name, {})[int(match[1])] = float(value)  # type: ignore[index]
            except ValueError:
                continue  # what a kill cut off
    return terms


def _metrics(path: Path) -> dict[str, Any]:
    try:
        metrics = read_json(path)
    except UserError:
        return {}
    return metrics if isinstance(metrics, dict) else {}

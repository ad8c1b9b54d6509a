"""What a grid will take: its cells, which are done, and a projection of the rest."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..arms import REAL, TEACHER
from ..config import load_config
from ..distill.bench import make_trainer, time_steps
from ..distill.config import DistillConfig
from ..distill.describe import describe
from ..evaluation.text import aligned
from ..features.store import FeatureStore
from ..generator.networks import GANS
from ..recipe.folder import Run
from .grid import Cell
from .work import State, state_of

PROBES = {"gan_1d": "gan_1d", "gan_att": "gan_att_small", "gan_cnn": "gan_cnn_small"}
"""Architecture -> the configuration whose steps are timed to know what this machine can do with its kind."""

PROBE_DIM, PROBE_STEPS = 288, 3

HEAD_SECONDS = 8.0
"""A head by S3PRL's runner, where no finished cell tells."""

HEAVY = 9
"""Passes of the critic that a critic's update costs: real, generated, and the penalty's with its second derivative."""


def plan(cells: Sequence[Cell], out: Path) -> str:
    """The grid as a table: what each cell is, how far it is, and minutes to go by this machine's speed."""
    states = [state_of(cell, out) for cell in cells]
    trained = [architecture_of(state.cell) for state in states if not state.done]
    rates = {name: rate_of(name) for name in PROBES if name in trained}
    seconds = [0.0 if state.done else project(state, states, rates, out) for state in states]
    rows = [[state.cell.name, state.cell.above.name if state.cell.above else "-", *_size(state.cell), _word(state),
             "-" if state.done else str(math.ceil(spent / 60))] for state, spent in zip(states, seconds, strict=True)]
    lines = aligned(["cell", "based on", "steps", "heads", "state", "minutes"], rows, left=2)
    done = sum(state.done for state in states)
    hours = sum(seconds) / 3600
    lines.append(f"{done} of {len(states)} cells are done; about {hours:.1f} hours are left on this machine, going by")
    timed = ", ".join(PROBES[name] for name in rates)
    probed = f"{PROBE_STEPS} steps of {timed} timed just now and by " if timed else ""
    lines.append(f"{probed}what finished cells took; where none of a kind has, {HEAD_SECONDS:.0f} s a head, and for a "
                 "base nothing but its heads: how long the upstream will hear the corpus is not known before.")
    return "\n".join(lines)


def architecture_of(cell: Cell) -> str | None:
    """The network that a cell trains; None where it trains none."""
    if cell.against is not None or cell.last != "report":
        return None
    architecture = cell.settings.distiller.distill_config().network.architecture
    return architecture if architecture in GANS else None


def _size(cell: Cell) -> list[str]:
    """Steps of its distiller, and heads to train."""
    if cell.against is not None:
        return ["-", "-"]
    steps = "-" if cell.last == "pool" else str(cell.settings.distiller.distill_config().steps)
    return [steps, str(_heads(cell))]


def _heads(cell: Cell) -> int:
    """How many heads S3PRL trains for it: each arm, seed and learning rate."""
    settings = cell.settings
    arms = [REAL] if cell.last == "pool" else settings.arms()
    seeds = sum(settings.seeds_of(arm) for arm in arms if arm != TEACHER)
    return seeds * len(settings.heads.head_lrs)


def _word(state: State) -> str:
    return "done" if state.done else "failed" if state.error else "to do"


def project(state: State, states: Sequence[State], rates: Mapping[str, float], out: Path) -> float:
    """Seconds of a cell that is not done: as one of its kind took, else by its steps and its heads.

    rates: architecture -> multiplies and adds a second, as rate_of measures
    """
    cell = state.cell
    alike = [other.seconds for other in states if other.done and other.seconds and _kind(other.cell) == _kind(cell)]
    if alike:
        return statistics.fmean(alike)
    if cell.against is not None:
        return HEAD_SECONDS * 20 * cell.settings.heads.seeds
    heads, architecture = HEAD_SECONDS * _heads(cell), architecture_of(cell)
    if architecture is None:
        return heads
    config = cell.settings.distiller.distill_config()
    return heads + config.steps * step_flops(config, _dim(cell, out)) / rates[architecture]


def _kind(cell: Cell) -> tuple[object, ...]:
    return cell.network, cell.last, cell.settings.heads.head, cell.against is not None


def _dim(cell: Cell, out: Path) -> int:
    """D of its features, where they are there; else HuBERT Base's."""
    above = cell.above or cell
    folder = above.folder(out)
    features = Run.open(folder).features if (folder / "run.json").is_file() else folder / "features"
    return FeatureStore(features).dim if (features / "header.json").is_file() else 768


def step_flops(config: DistillConfig, dim: int) -> float:
    """Multiplies and adds of a distiller's step, about."""
    about = describe(config, dim)
    one, other = about.flops_per_sample, about.critic_flops_per_sample
    return config.batch * (config.critic_steps * (one + HEAVY * other) + 3 * (one + other))


def rate_of(architecture: str) -> float:
    """Multiplies and adds a second, in a distiller's steps with such a network here and now."""
    probe = load_config(DistillConfig, PROBES[architecture])
    trainer = make_trainer(probe, PROBE_DIM, 4, "cpu")
    trainer.train_step()  # warms up
    return step_flops(probe, PROBE_DIM) / time_steps(trainer, PROBE_STEPS).seconds

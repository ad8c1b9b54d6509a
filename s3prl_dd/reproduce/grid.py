"""The grid: which runs each table is made of. A cell is one run of the recipe in a folder of its own."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..recipe.settings import MAY_CHANGE, Settings
from .settings import ReproduceSettings, Table

BASELINE = "baseline"
"""The losses that the others stand on, and are compared with."""

LOSSES = {
    BASELINE: ("lambdas.softmax_matching=0", "lambdas.diversity=0"),
    "+ softmax matching": ("lambdas.diversity=0",),
    "+ diversity": ("lambdas.softmax_matching=0",),
    "both": (),
}
"""The columns of Table 2: the paper's Baseline WGAN-GP (Eq. 5), each term of Eq. 8 on top of it, and both."""

AS_PAPER = {"labels": "hard", "center": False}
"""How the paper's samples are drawn: neither soft labels nor centring."""

TABLES: tuple[Table, ...] = ("table1", "table2", "table3", "table4", "beyond")


@dataclass(frozen=True)
class Cell:
    """A run of the grid, and what the tables call it."""

    name: str
    """What it is, in a word that may stand in a folder's name: fold1-gan_att_small-both."""

    settings: Settings
    """Of its run, without the base."""

    above: "Cell | None" = None
    """The cell that its run is based on."""

    last: str = "report"
    """The last stage that it runs."""

    network: str | None = None
    """Its configuration, where it is one of the paper's networks."""

    losses: str | None = None
    """A key of LOSSES, there."""

    against: "Cell | None" = None
    """With it the cell trains nothing: it measures what the heads and the file of `above` tell of the speakers, beside
    those of this one (Table 4)."""

    sid_root: tuple[str, ...] = ()
    """Whose speakers are asked for, there."""

    def folder(self, out: Path) -> Path:
        """Its run's folder: named by all that decides its figures, so that another configuration is another cell."""
        return out / "cells" / f"{self.name}-{self.digest}"

    @property
    def digest(self) -> str:
        """Eight hex digits of its settings, its base's, and the version of this code."""
        text = json.dumps([self._decisive(), __version__], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def _decisive(self) -> list[Any]:
        """Settings that touch figures; budgets and seeds only add to what is there."""
        flat = {key: value for key, value in self.settings.flat().items() if key not in MAY_CHANGE}
        others = [cell._decisive() for cell in (self.above, self.against) if cell is not None]
        configuration = asdict(self.settings.distiller.distill_config())  # what its name stands for may change
        return [flat, list(self.sid_root), configuration, *others]


def cells_of(table: Table, asked: ReproduceSettings) -> list[Cell]:
    """The cells of a table or of all, those that others are based on first; each once."""
    tables = TABLES if table == "all" else (table,)
    cells = [cell for name in tables for fold in asked.folds_tested for cell in _of_table(name, fold, asked)]
    ordered = [above for cell in cells for above in _with_bases(cell)]
    return list({(cell.name, cell.digest): cell for cell in ordered}.values())


def _with_bases(cell: Cell) -> Iterator[Cell]:
    for other in (cell.above, cell.against):
        if other is not None:
            yield from _with_bases(other)
    yield cell


def _of_table(table: Table, fold: str, asked: ReproduceSettings) -> list[Cell]:
    base = base_cell(fold, asked)
    if table == "table2":
        return [network_cell(base, network, losses) for network in asked.networks for losses in LOSSES]
    if table in ("table1", "table3"):
        return [network_cell(base, network, "both") for network in asked.networks]
    if table == "table4":
        return _speaker_cells(base, asked) if fold == asked.folds_tested[0] else []
    return [*_beyond(base, asked), *_other_upstreams(fold, asked)]


def base_cell(fold: str, asked: ReproduceSettings) -> Cell:
    """What all runs of a fold share: lists, heads on all real data, features, pool."""
    return Cell(f"{fold}-base", asked.run.changed(fold=fold, base=None), last="pool")


def network_cell(base: Cell, network: str, losses: str) -> Cell:
    """One of the paper's networks with some of its losses, drawn as the paper draws."""
    overrides = (*base.settings.distiller.overrides, *LOSSES[losses])
    settings = base.settings.changed(config=network, overrides=overrides, rivals=(), **AS_PAPER)
    word = losses.replace("+ ", "").replace(" ", "_")
    return Cell(f"{base.settings.corpus.fold}-{network}-{word}", settings, base, network=network, losses=losses)


def _speaker_cells(base: Cell, asked: ReproduceSettings) -> list[Cell]:
    """The last network with all losses, attacked beside its baseline."""
    if not asked.sid_root:
        return []
    baseline, proposed = (network_cell(base, asked.networks[-1], losses) for losses in ("baseline", "both"))
    return [Cell(f"{proposed.name}-speakers", proposed.settings, above=proposed, against=baseline,
                 sid_root=asked.sid_root)]


def _beyond(base: Cell, asked: ReproduceSettings) -> list[Cell]:
    """The run's own generator and its rivals, for its head and for frame-level ones."""
    fold, first = base.settings.corpus.fold, base.settings.heads.head
    heads = dict.fromkeys([first, *asked.other_heads])
    return [Cell(f"{fold}-{head}", base.settings.changed(head=head), base) for head in heads]


def _other_upstreams(fold: str, asked: ReproduceSettings) -> list[Cell]:
    settings = asked.run.changed(fold=fold, base=None, rivals=("random_real",))
    return [Cell(f"{fold}-{upstream}", settings.changed(upstream=upstream))
            for upstream in asked.upstreams if upstream != asked.run.upstream.upstream]

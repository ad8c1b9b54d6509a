"""What a reproduction is told: which table, on what, with how much."""

from typing import Annotated, Any, Literal, Self

import tyro
from pydantic import Field

from ..config import Count, settings
from ..pool.kinds import HeadName
from ..recipe.settings import Settings, with_preset

Table = Literal["table1", "table2", "table3", "table4", "beyond", "all"]
NetworkName = Literal["gan_cnn", "gan_att", "gan_cnn_small", "gan_att_small", "gan_1d"]

QUICK: dict[str, Any] = {"networks": ("gan_att_small",), "other_heads": ()}
QUICK_RUN: dict[str, Any] = {"overrides": ("steps=20", "eval_every=20"), "pool_steps": 500, "head_steps": 100,
                             "rivals": ("gaussian", "random_real")}
"""What --preset quick sets here, beyond what it sets of a run: every table once, in a minute or two, and no more."""


@settings
class ClusterSettings:
    """Cluster: the cells as jobs of Slurm, through submitit."""

    cluster: Literal["here", "slurm", "local"] = "here"
    """here: one cell after the other, in this process; slurm: a job each; local: a process each, by submitit."""

    partition: str | None = None
    """Slurm's partition."""

    minutes: Count = 240
    """Time limit of a job."""

    gpus: Annotated[int, Field(ge=0, le=64)] = 1
    """GPUs of a job; 0 runs on CPUs."""

    cores: Count = 4
    """Cores of a job."""

    memory: Count = 16
    """Gigabytes of a job."""

    at_once: Count = 16
    """Jobs at a time: the size of Slurm's array."""


@settings
class ReproduceSettings:
    """Grid: which cells."""

    test_folds: tuple[str, ...] = ()
    """Test folds, fold1 fold2 ...; every table is a mean over them. Without any, the one of --fold."""

    upstreams: tuple[str, ...] = ()
    """beyond: further upstreams, each with the default generator and the real baseline."""

    networks: Annotated[tuple[NetworkName, ...], Field(min_length=1)] = ("gan_cnn_small", "gan_att_small")
    """table1 to table4: the paper's networks, full size (gan_cnn, gan_att) or small enough for a CPU."""

    other_heads: tuple[HeadName, ...] = ("attentive", "cnn")
    """beyond: S3PRL's frame-level heads."""

    sid_root: tuple[str, ...] = ()
    """table4: trees in VoxCeleb1's shape (`s3prl-dd prepare sid`); without one, table4 is left out."""

    dry_run: bool = False
    """Print the grid, what is done of it, and the time that is left, and run nothing."""

    cluster: Annotated[ClusterSettings, tyro.conf.arg(name=""), tyro.conf.OmitArgPrefixes] = ClusterSettings()
    """Where the cells run."""

    run: Annotated[Settings, tyro.conf.arg(name=""), tyro.conf.OmitArgPrefixes] = Settings().changed(rivals=("all",))
    """What all runs of the grid have in common: corpus, upstream, sampling, heads, budgets, seeds; beyond: rivals."""

    @property
    def folds_tested(self) -> tuple[str, ...]:
        """The folds of the grid, each once."""
        return tuple(dict.fromkeys(self.test_folds)) or (self.run.corpus.fold,)

    @classmethod
    def by_preset(cls, preset: str | None) -> Self:
        """What a preset says, as of `run`, and by default; quick cuts the grid too. None: the defaults."""
        run = with_preset(cls().run, preset)
        return cls(**QUICK, run=run.changed(**QUICK_RUN)) if preset == "quick" else cls(run=run)

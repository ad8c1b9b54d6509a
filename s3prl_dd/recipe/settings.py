"""What a run is made of: settings in groups, each a group of flags of `s3prl-dd run --help`, kept flat in run.json."""

from collections.abc import Mapping
from dataclasses import asdict, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ..arms import KINDS, RIVAL_FRAMES, RIVALS, Arm, RivalName, Source, arms_of
from ..config import Count, Number, Positive, Weight, Whole, build, load_config, settings
from ..corpora import CorpusName, CorpusOptions
from ..devices import device_name
from ..distill.config import DistillConfig
from ..errors import UserError
from ..features.spec import FeatureSpec, absolute_name
from ..generator.sampling import Sampling
from ..pool.kinds import HeadName

HeadBudget = Count | Literal["original"]
"""Points per class, or original: the corpus's own class mix."""


@settings
class CorpusSettings(CorpusOptions):
    """Corpus: whose speech, and who is held out."""

    corpus: CorpusName = "demo"
    """Which corpus; demo makes its own synthetic speech, table reads a CSV, JSONL or JSON of any corpus."""

    root: str | None = None
    """The corpus's folder (table: or the table itself); demo needs none."""

    fold: str = "fold1"
    """The test fold, fold1, fold2, ...: its speakers are tested on and never trained on."""


@settings
class DistillerSettings:
    """Distiller: the GAN, and the pool of heads behind its softmax matching."""

    config: str = "gan_1d"
    """Its configuration: a YAML file, or a shipped one such as gan_1d, gan_att, gaussian."""

    overrides: tuple[str, ...] = ()
    """KEY=VALUE words on top of the configuration, for example steps=2000 lambdas.diversity=0."""

    pool_seeds: Count = 10
    """SER heads in the pool, each kept at 20 steps of its training."""

    pool_steps: Count = 3000
    """Optimiser steps of each."""

    pool_from: tuple[str, ...] = ()
    """Expdirs of S3PRL's own emotion runs, whose states-*.ckpt are the pool instead."""

    @property
    def file(self) -> Path | None:
        """The user's own configuration file, which may be edited; None for a shipped one."""
        file = Path(self.config)
        return file if file.is_file() else None

    def distill_config(self) -> DistillConfig:
        """The distiller's whole configuration; UserError for a mistake in it."""
        return load_config(DistillConfig, self.config, self.overrides)


@settings
class HeadSettings:
    """Heads: the SER heads that S3PRL's runner trains, on real data and on samples alike."""

    head: HeadName = "superb"
    """S3PRL's emotion head: superb (mean over time), attentive pooling, or cnn with self-attention."""

    budgets: tuple[HeadBudget, ...] = (12,)
    """Further sets beside the full one: points per class, or original for the corpus's own class mix."""

    seeds: Count = 1
    """Heads trained of each kind; the table shows their mean and spread."""

    head_steps: Count = 600
    """Optimiser steps of a head."""

    head_batch: Count = 32
    """Utterances a step."""

    head_lrs: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1e-3,)
    """Adam's learning rates; every head is trained at each and takes what is best on dev."""

    def __post_init__(self) -> None:
        printed = [f"{lr:g}" for lr in self.head_lrs]
        if len(set(printed)) < len(printed):
            raise ValueError(f"head_lrs: two of {', '.join(printed)} print alike and would share a folder")

    def words(self) -> str:
        """How heads are trained, for people: those that differ here are not compared."""
        lrs = " or ".join(f"{lr:g}" for lr in self.head_lrs)
        return f"{self.head_steps} steps of {self.head_batch}, learning rate {lrs}"


@settings
class RivalSettings:
    """Rivals: what else is trained on, with the same budgets, head, steps and learning rates, beside GAN samples."""

    rivals: tuple[RivalName, ...] = ("random_real",)
    """Which of them: all, or some by name (docs/method.md, Rivals, says what each is)."""

    rival_frames: Annotated[int, Field(ge=2, le=4096), Number] = RIVAL_FRAMES
    """Frames of a rival's points. Set it to the generator's where heads hear frames (32 for gan_1d_frames)."""

    rival_seeds: Count | None = None
    """Heads trained of each rival; without it as many as --seeds."""

    def sources(self) -> list[Source]:
        """The rivals that are asked for, in the order of tables."""
        return [source for source in RIVALS if "all" in self.rivals or source in self.rivals]


@settings
class MachineSettings:
    """Machine: where it runs. These may change from call to call."""

    device: str | None = None
    """cuda or cpu; without it a GPU where there is one."""

    jobs: Whole = 0
    """S3PRL runs at a time; 0 is one a core on a CPU, one on a GPU."""

    feature_cache: Weight = 4.0
    """Gigabytes of memory for hidden states of real audio, in each S3PRL run."""

    kept_states: Weight = 4.0
    """Disk space in GB for hidden states of train and dev (float16), kept until stage 3 so that the upstream runs once.
    Utterances that do not fit are encoded again. 0: keep none."""


@settings
class Settings:
    """A run. The README's tables take more seeds, steps and budgets: docs/results_tables.md has their commands."""

    corpus: CorpusSettings = field(default_factory=CorpusSettings)
    """Whose speech, and who is held out."""
    upstream: FeatureSpec = field(default_factory=FeatureSpec)
    """Which features of it."""
    distiller: DistillerSettings = field(default_factory=DistillerSettings)
    """The GAN, and the pool of heads behind its softmax matching."""
    sampling: Sampling = field(default_factory=Sampling)
    """How sets are drawn from the generator file."""
    heads: HeadSettings = field(default_factory=HeadSettings)
    """The SER heads that S3PRL's runner trains, on real data and on samples alike."""
    rivals: RivalSettings = field(default_factory=RivalSettings)
    """What else is trained on, at equal budget."""
    machine: MachineSettings = field(default_factory=MachineSettings)
    """Where it runs. These may change from call to call."""

    base: str | None = None
    """Another run's folder: what it has made that would be the same here serves here too."""

    def flat(self) -> dict[str, Any]:
        """Setting -> value without the groups, as run.json holds it."""
        values: dict[str, Any] = {"base": self.base}
        for group in fields(self):
            value = getattr(self, group.name)
            if is_dataclass(value) and not isinstance(value, type):
                values |= asdict(value)
        return values

    @classmethod
    def from_flat(cls, values: Mapping[str, Any], source: str | Path) -> "Settings":
        """The settings of a run.json, also of the version before; UserError naming `source` for what does not fit."""
        given = dict(values)
        if "experts" in given:  # until 0.1
            given["pool_seeds"] = given.pop("experts")
        grouped: dict[str, Any] = {"base": given.pop("base", None)}
        for name, group in GROUPS.items():
            known = {item.name for item in fields(group)} & set(given)
            grouped[name] = build(group, {key: given.pop(key) for key in known}, source)
        if given:
            raise UserError(f"{source}: unknown setting {next(iter(given))!r}. It is of another version of s3prl_dd.")
        return cls(**grouped)

    def changed(self, **values: Any) -> "Settings":
        """These settings with some of them changed, named without their group."""
        return Settings.from_flat({**self.flat(), **values}, "settings")

    def check(self) -> "Settings":
        """Raise UserError for settings that a later stage could not use. returns: itself"""
        config = self.distiller.distill_config()
        if self.sampling.labels == "soft" and not config.teacher:
            raise UserError(f"--labels soft: configuration {self.distiller.config} carries no teacher (teacher: false)"
                            ". Give --labels hard, or --overrides teacher=true.")
        self._check_teachers(config)
        center = self.sampling.center
        if center == "learnt" and not config.points:
            raise UserError(f"--center learnt: configuration {self.distiller.config} learns no points (points: 0). "
                            "Give --center auto, or --overrides points=50.")
        if center == "teaching" and not config.teacher:
            raise UserError(f"--center teaching: configuration {self.distiller.config} carries no teacher, whose "
                            "points they are. Give --center true, or --overrides teacher=true.")
        self.device_name()
        return self

    def arms(self) -> list[Arm]:
        """What stands beside all real data: samples and the rivals that are asked for, in all their budgets."""
        sources = [Source.GENERATED, *self.rivals.sources()]
        return [arm for source in sources for arm in arms_of(source, self.heads.budgets)]

    def seeds_of(self, arm: Arm) -> int:
        """How many heads are trained on an arm at each learning rate."""
        of_rivals = self.rivals.rival_seeds
        return self.heads.seeds if of_rivals is None or arm.source not in RIVALS else of_rivals

    def _check_teachers(self, config: DistillConfig) -> None:
        """UserError where rivals would have labels of another teacher than samples: no like against like."""
        others = [key for key in ("privacy", "teacher_folds") if getattr(config, key)]
        if config.teacher_hears != "speech":
            others.append("teacher_hears")
        files = {source: KINDS[source] for source in self.rivals.sources() if KINDS[source].file}
        soft = [source for source, kind in files.items() if (kind.labels or self.sampling.labels) == "soft"]
        if config.teacher and others and soft:
            raise UserError(f"--rivals {soft[0]}: its labels are of the pool's teacher, those of samples with "
                            f"{others[0]} are of another. Give --rivals random_real, or --labels hard.")

    def device_name(self) -> str:
        """cuda or cpu, as asked for, or what there is. Raises UserError for a GPU that is not there."""
        return device_name(self.machine.device)

    def resolved(self) -> "Settings":
        """The same with absolute paths, so that a run can go on from another folder."""
        flat, file = self.flat(), self.distiller.file
        places: dict[str, Any] = {key: flat[key] for key in PATHS if flat[key] and Path(flat[key]).exists()}
        if file is not None:
            places["config"] = file
        resolved = {key: str(Path(value).resolve()) for key, value in places.items()}
        pools = tuple(str(Path(folder).resolve()) for folder in flat["pool_from"])
        return self.changed(**resolved, pool_from=pools, upstream=absolute_name(self.upstream.upstream))


GROUPS: dict[str, type] = {"corpus": CorpusSettings, "upstream": FeatureSpec, "distiller": DistillerSettings,
                           "sampling": Sampling, "heads": HeadSettings, "rivals": RivalSettings,
                           "machine": MachineSettings}

PATHS = ("root", "table", "upstream_ckpt", "upstream_model_config", "base")
"""Settings that may name a file or folder."""

OF_A_VARIANT = ("config", "overrides", "labels", "center", "resample", "lengths", "head", "rival_frames")
"""Settings in which a run may differ from its base, beside those that may always change."""

MAY_CHANGE = ("device", "jobs", "budgets", "seeds", "rivals", "rival_seeds", "feature_cache", "kept_states")
"""Settings of a run that do not touch what is there."""

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"overrides": ("steps=200", "eval_every=100"), "pool_seeds": 4, "head_steps": 300},
    "default": {},
    "paper": {"config": "gan_att", "labels": "hard", "center": False, "resample": True, "head_steps": 30000,
              "head_lrs": (1e-4,), "budgets": ("original", 50, 100)},
}
"""What --preset sets: a first look in a minute or two, what a run takes by itself, the paper's own job (for a GPU)."""


def differences(one: Settings, other: Settings, allowed: tuple[str, ...]) -> dict[str, tuple[Any, Any]]:
    """Setting -> (value of one, value of the other) where they differ, but for those that are allowed to."""
    first, second = one.flat(), other.flat()
    return {key: (value, second[key]) for key, value in first.items() if key not in allowed and value != second[key]}


def with_preset(settings: Settings, preset: str | None) -> Settings:
    """The settings with what a preset sets; None changes nothing."""
    return settings if preset is None else settings.changed(**PRESETS[preset])

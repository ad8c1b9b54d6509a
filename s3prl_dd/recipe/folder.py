"""A run's folder: what lies where, and what is taken from the run that it is based on.

    <out>/run.json                  the settings (recipe.settings), flat
    <out>/metadata/                 S3PRL's metadata                          prepare
    <out>/lists.json                its lists by digest (recipe.lists)        what comes first behind prepare
    <out>/exp/<arm>_seed<s>/        S3PRL's expdirs, each with a run.json     real, train
    <out>/means/                    what heads read of real audio             real
    <out>/features/                 the feature store                         extract
    <out>/pool.safetensors          SER heads along their training            pool
    <out>/gan/                      the distiller's checkpoint and logs       distill
    <out>/generator.safetensors     the generator file                        distill
    <out>/rivals/                   generator files of rivals                 train
    <out>/samples/                  sets drawn from generator files           train
    <out>/results.json, .png        what was measured                         report
"""

import contextlib
import os
from dataclasses import field, replace
from pathlib import Path
from typing import Any

import torch

from ..arms import Arm, Source
from ..config import Positive, Weight, Whole, build, settings
from ..corpora.inventory import check_in_place, check_same
from ..corpora.metadata import CORPUS_FILE, CorpusSummary, Fold, read_corpus, read_fold
from ..corpora.table import folder_of
from ..errors import UserError
from ..files import folder_held, is_writable, read_json, write_json
from . import lists
from .settings import MAY_CHANGE, OF_A_VARIANT, Settings, differences, with_preset


@settings
class Score:
    """What one S3PRL run was worth at its best step on dev: <expdir>/run.json. Shares are in [0, 1].

    (Or the teacher alone, which no run trains.)
    """

    arm: str
    """Name of the arm (Arm.parse)."""
    seed: Whole
    """Of head and order."""
    lr: Positive | None
    """Adam's learning rate; None of the teacher alone."""
    expdir: str
    """Name of the expdir."""
    seconds: Weight
    """Wall time of the whole run."""
    step: Whole
    """The best step on dev; 0 of the teacher alone."""
    dev_uar: Weight
    """UAR on dev there."""
    uar: Weight
    """UAR on the test split there."""
    accuracy: Weight
    """Accuracy on the test split there."""
    command: str
    """The command line."""
    predicted: list[Whole] | None = field(default=None)
    """Predicted class indices [N] of the test utterances; None where they were not kept."""
    generator: str | None = field(default=None)
    """SHA-256 of the generator file whose samples it was trained on; None of other arms, and in older versions."""
    drawn: Whole = field(default=1)
    """The version of drawing by which samples are made (store.FORMAT); 1 in versions that did not say."""


class Run:
    """The paths of a run. What its base has made with the same settings is taken from there."""

    def __init__(self, out: str | Path, run_settings: Settings, base: "Run | None" = None) -> None:
        self.out, self.settings, self.base = Path(out), run_settings, base
        data, gan = self.owner(), self.owner("config", "overrides")
        self.metadata, self.features, self.means = data / "metadata", data / "features", data / "means"
        self.states = data / "states"
        self.gan, self.generator = gan / "gan", gan / "generator.safetensors"
        self.own_pool = gan / "pool.safetensors"
        self.samples, self.rivals = gan / "samples", self.out / "rivals"
        self.results = self.out / "results.json"
        self.moved_to: Path | None = None  # where the corpus lies now, until `keep` writes it down

    # open, start

    @classmethod
    def open(cls, out: str | Path, above: tuple[Path, ...] = ()) -> "Run":
        """The run of a folder that is there already, for reading and going on.

        Raises UserError where there is none, and for runs that are each other's base.
        """
        path = need(Path(out) / "run.json", "run")
        if path.resolve() in above:
            raise UserError(f"{path}: is its own --base, by way of {above[-1]}. Give one of them another base.")
        run_settings = Settings.from_flat(read_json(path, "run description"), path)
        base = cls.open(run_settings.base, (*above, path.resolve())) if run_settings.base else None
        return cls(out, run_settings, base)

    @classmethod
    def defaults(cls, out: str | Path, base: str | None, preset: str | None) -> Settings:
        """What holds where no flag says otherwise: the run's own settings, else its base's, else the preset's.

        Lists that were prepared for a new run say what they were made with.
        """
        if (Path(out) / "run.json").is_file():
            return with_preset(cls.open(out).settings, preset)
        if base is None:
            metadata = Path(out) / "metadata"
            values = {**Settings().flat(), **_asked_of_lists(metadata)}
            return with_preset(Settings.from_flat(values, metadata / CORPUS_FILE), preset)
        return with_preset(cls.open(base).settings.changed(base=str(Path(base).resolve())), preset)

    @classmethod
    def start(cls, out: str | Path, wanted: Settings) -> "Run":
        """The run of folder `out` with these settings, new or going on; nothing is written before `keep`.

        Raises UserError for settings that no stage could use, and for those that would not fit what is there.
        """
        wanted = wanted.check().resolved()
        path = Path(out) / "run.json"
        before = cls.open(out).settings if path.is_file() else None
        if before:
            for key, (asked, kept) in differences(wanted, before, (*MAY_CHANGE, "root")).items():
                raise UserError(f"{path}: this run's {key} is {_shown(kept)}, now {_shown(asked)} is asked for. "
                                "Take another --out, or delete the folder to start anew.")
        base = cls.open(wanted.base) if wanted.base else None
        if base:
            _check_fits_base(wanted, base)
            before = before or base.settings
        run = cls(out, wanted, base)
        asked = _asked_of_lists(run.metadata)
        _check_fits_lists(run, asked)
        if before or asked:
            run.moved_to = _moved(run, before.corpus.root if before else asked.get("root"))
        table = lists.changed_table(run.metadata, wanted.corpus)
        if table:
            raise UserError(f"{table}: it was edited since {run.metadata} was made of it. Take another --out, or give "
                            "the table as it was.")
        return run

    def keep(self) -> None:
        """Write the settings, and where the corpus lies now, so that the next call goes on with them."""
        if self.moved_to:
            self.corpus.write(self.metadata)
        path = self.out / "run.json"
        if not path.is_file() or Settings.from_flat(read_json(path), path) != self.settings:
            write_json(path, self.settings.flat())

    def held(self) -> contextlib.AbstractContextManager[None]:
        """Hold the run's folder for this process; UserError where another one works there, which would mix them up."""
        return folder_held(self.out, f"{self.out}: another process is working on this run. Wait until it has ended, or "
                                     "end it; or give another --out.")

    def generator_held(self) -> contextlib.AbstractContextManager[None]:
        """Hold the folder that the generator is written to, where it is a base's: variants on one base that start
        together make it once, and those that come later wait for it.

        Ranks of one training go together, and nobody waits.
        """
        folder = self.generator.parent
        if folder == self.out or self.generator.is_file() or torch.distributed.is_initialized():
            return contextlib.nullcontext()
        return folder_held(folder, None)

    # what lies where

    def owner(self, *keys: str) -> Path:
        """The folder of what depends on these settings alone, of those that a variant may change.

        It is this run's, or that of its base, of its base's base, ... as long as they are the same there.
        """
        if self.base is None:
            return self.out
        mine, theirs = self.settings.flat(), self.base.settings.flat()
        return self.base.owner(*keys) if all(mine[key] == theirs[key] for key in keys) else self.out

    @property
    def pool(self) -> Path:
        """The pool of heads: its configuration's own where that needs further kinds, else that of all variants."""
        return self.own_pool if self.own_pool.is_file() else self.owner() / "pool.safetensors"

    def exp(self, arm: Arm) -> Path:
        """The folder of an arm's expdirs: heads may be the base's, if they would be the same here."""
        return self.owner("head", *OF_AN_ARM.get(arm.source, OF_RIVALS)) / "exp"

    def expdir(self, arm: Arm, seed: int, lr: float) -> Path:
        """S3PRL's expdir of a head. The first learning rate of a run is not in its name.

        Of a head that the base has it is there, of any other here.
        """
        others = "" if lr == self.settings.heads.head_lrs[0] else f"_lr{lr:g}"
        name = f"{arm.name}_seed{seed}{others}"
        there = self.exp(arm) / name
        return there if (there / "run.json").is_file() else self.out / "exp" / name

    def scores(self) -> list[Score]:
        """The score of each arm and seed that is this run's or its base's: the learning rate that is best on dev."""
        folders = [*self._above(), self.out]
        paths = [path for folder in folders for path in sorted(folder.glob("exp/*_seed*/run.json"))]
        best: dict[tuple[Arm, int], Score] = {}
        for path in paths:
            score = build(Score, read_json(path, "score of an S3PRL run"), path)
            arm = Arm.parse(score.arm)
            if path.parent.parent not in (self.exp(arm), self.out / "exp"):
                continue  # a head on samples of another file, or drawn otherwise
            before = best.get((arm, score.seed))
            if before is None or score.dev_uar > before.dev_uar:
                best[arm, score.seed] = score
        return [best[key] for key in sorted(best)]

    def best(self, arm: Arm, seed: int) -> Path:
        """dev-best.ckpt of an arm's head, at the learning rate that dev prefers; UserError where there is none yet."""
        expdir = self.expdir(arm, seed, self.settings.heads.head_lrs[0])
        for score in self.scores():
            if (score.arm, score.seed) == (arm.name, seed):
                expdir = self.expdir(arm, seed, score.lr or self.settings.heads.head_lrs[0])
        return need(expdir / "dev-best.ckpt", "train" if arm.generated else "real")

    def _above(self) -> list[Path]:
        """The folders of its base, its base's base, ..., the last first."""
        return [*self.base._above(), self.base.out] if self.base else []

    @property
    def fold(self) -> Fold:
        """Train, dev and test of the run's fold; UserError where this run or a base went on from other lists."""
        fold = read_fold(self.metadata, self.settings.corpus.fold)
        for folder in (*self._above(), self.out):
            lists.check_unchanged(folder, self.metadata, fold)
        return fold

    def keep_lists(self) -> None:
        """Keep what the lists are that a stage goes on from, for all stages behind it; UserError where they changed.

        A run of an older version keeps them as they are now. One whose metadata is gone goes on with what it has.
        """
        if not self.metadata.is_dir():
            return
        fold = self.fold
        if not lists.read_kept(self.out) and is_writable(self.out):
            lists.keep(self.out, fold)

    def check_audio(self) -> None:
        """UserError where audio changed in place since the metadata was made; before a stage hears any."""
        check_in_place(self.metadata, self.corpus.root)

    @property
    def corpus(self) -> CorpusSummary:
        """What the metadata says of the corpus, and where it lies."""
        described = read_corpus(self.metadata)
        return replace(described, root=str(self.moved_to)) if self.moved_to else described


DRAWING = ("labels", "center", "resample", "lengths")
OF_RIVALS = (*DRAWING, "rival_frames")
OF_AN_ARM: dict[Source, tuple[str, ...]] = {
    Source.REAL: (), Source.TEACHER: (), Source.RANDOM_REAL: (), Source.GENERATED: ("config", "overrides", *DRAWING)}
"""Settings beside the head on which an arm's heads depend, of those that a variant may change; of others OF_RIVALS."""


def need(path: str | Path, stage: str) -> Path:
    """The path, if a file is there; else a UserError that names the stage which writes it."""
    if not Path(path).is_file():
        raise UserError(f"{path}: not there yet. Run `s3prl-dd {stage}` first.")
    return Path(path)


def _moved(run: Run, before: str | None) -> Path | None:
    """Where the paths of a corpus start from that --root says has moved; None where nothing has changed.

    before: the root until now. UserError where the files are not the same there.
    """
    root = run.settings.corpus.root
    if root == before or root is None or not (run.metadata / CORPUS_FILE).is_file():
        return None
    if not Path(root).exists():
        raise UserError(f"{root}: no such folder. Give the one to which the corpus has moved as --root.")
    starts = Path(run.corpus.root)
    if before is None:
        now = Path(root)
    else:  # lists, say, may lie below the folder that their paths start from
        now = Path(os.path.normpath(folder_of(root) / os.path.relpath(starts, folder_of(before))))
    if now == starts:
        return None
    check_same(run.metadata, now)
    return now


def _asked_of_lists(metadata: Path) -> dict[str, Any]:
    """What the lists that are there were made with: corpus, root, options; nothing where no file tells it."""
    there = (metadata / CORPUS_FILE).is_file()
    return (read_corpus(metadata).asked or {}) if there else {}


def _check_fits_lists(run: Run, asked: dict[str, Any]) -> None:
    """UserError where the run asks for another corpus or other options than its lists were made with."""
    if not asked:
        return
    corpus = run.settings.corpus
    mine = {"corpus": corpus.corpus, **corpus.options()}
    for key in sorted((mine.keys() | asked.keys()) - {"root"}):
        if mine.get(key) != asked.get(key):
            raise UserError(f"{run.metadata / CORPUS_FILE}: these lists were made with {_as_flag(key, asked)}, now "
                            f"{_as_flag(key, mine)} is asked for. Take another --out, or ask for what they were made "
                            "with.")


def _as_flag(key: str, values: dict[str, Any]) -> str:
    """An option as a command line has it; `no` before one that was not given."""
    flag = f"--{key.replace('_', '-')}"
    return f"{flag} {_shown(values[key])}" if key in values else f"no {flag}"


def _check_fits_base(wanted: Settings, base: Run) -> None:
    may_change = ("base", *OF_A_VARIANT, *MAY_CHANGE)
    for key, (asked, theirs) in differences(wanted, base.settings, (*may_change, "root")).items():
        flag = f"--{key.replace('_', '-')}"
        raise UserError(f"{flag} {_shown(asked)}: --base {base.out} was made with {_shown(theirs)}, and what is taken "
                        f"from there would not fit. A run on a base may change {', '.join(may_change)}.")


def _shown(value: object) -> str:
    if value in (None, ()):
        return "not given"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)

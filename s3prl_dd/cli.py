"""The `s3prl-dd` command. Each verb is a settings dataclass: its fields are the flags, its docstrings the help.

tyro reads the flags: it makes help, groups and "perhaps you meant" out of the dataclasses that the configuration
already is, and takes `--head-lrs` and `--head_lrs` alike. The dataclasses check types and ranges themselves.
"""

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol

import tyro
import yaml
from pydantic import Field

from . import __version__
from .benchmarks import Bench, as_json
from .config import Number, Positive, Seed, load_config, settings
from .corpora import CorpusName, CorpusOptions
from .errors import UserError, did_you_mean
from .files import disk_error, is_writable
from .generator.header import refuse_generator
from .generator.sampling import DEFAULTS, Center, Lengths
from .privacy.settings import Settings as PrivacySettings
from .recipe.settings import PRESETS, Settings, with_preset
from .reproduce.settings import ReproduceSettings, Table

Word = Annotated[str, tyro.conf.Positional]
GeneratorFile = Annotated[Word, tyro.conf.arg(metavar="FILE")]
Folder = Annotated[Word, tyro.conf.arg(metavar="FOLDER")]
Expdir = Annotated[Word, tyro.conf.arg(metavar="EXPDIR")]
MetadataFolder = Annotated[Word, tyro.conf.arg(metavar="METADATA")]
Repository = Annotated[Word, tyro.conf.arg(metavar="USER/NAME")]
Config = Annotated[Word, tyro.conf.arg(metavar="CONFIG")]
Recordings = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[FILE ...]")]
Runs = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[RUN ...]")]
To = Annotated[str, tyro.conf.arg(aliases=("-o",))]
Stage = Annotated[int, Field(ge=1, le=7), Number]
Preset = Literal["quick", "default", "paper"]

WAY = """s3prl-dd: distil a speech-emotion corpus into one generator file.

usage: s3prl-dd VERB [OPTIONS]      (s3prl-dd VERB --help tells a verb's options)

The way of the data; each arrow is one verb, and one stage of `s3prl-dd run`:

  corpus --prepare--> S3PRL metadata --real--> heads on real data, layer weights --extract--> feature store
     --pool--> pool of heads --distill--> generator.safetensors --train--> heads on GAN samples (S3PRL's runner)
     --report--> results.json, a plot and a table
"""

log = logging.getLogger("s3prl_dd")


class Verb(Protocol):
    """What a verb is: a settings dataclass that is called once its flags are read."""

    def __call__(self) -> int | None:
        """Do it; raise UserError for what the user can mend. returns: the exit code, None for 0"""


# the recipe


@settings
class RunVerb:
    """Run the recipe: every stage in order, going on from what is there."""

    out: str = "result/demo"
    """The run's folder, where everything is written."""

    preset: Preset | None = None
    """One setting for all the rest: quick is a first look, default what `bash run.sh` takes, paper the paper's own job
    (GAN-ATT at full size, 40,000 steps, for a GPU)."""

    stage: Stage = 1
    """First stage, 1 to 7: prepare real extract pool distill train report."""

    stop_stage: Stage = 7
    """Last stage, 1 to 7."""

    settings: Annotated[Settings, tyro.conf.arg(name=""), tyro.conf.OmitArgPrefixes] = Settings()
    """What the run is made of."""

    def __post_init__(self) -> None:
        if self.stage > self.stop_stage:
            raise ValueError(f"--stage {self.stage} comes after --stop-stage {self.stop_stage}: nothing would run")

    def __call__(self) -> None:
        """Run the stages; the settings are kept once the corpus could be read."""
        from .plugin.upstreams import check_upstream
        from .recipe.folder import Run
        from .recipe.stages import STAGES

        run = Run.start(self.out, self.settings)
        wanted = list(STAGES)[self.stage - 1:self.stop_stage]
        upstream = run.settings.upstream
        with run.held():
            if {"prepare", "real"} <= set(wanted) and not (run.metadata / "corpus.json").is_file():
                check_upstream(upstream.upstream, upstream.upstream_ckpt, upstream.upstream_model_config)
            for name in wanted:
                number = list(STAGES).index(name) + 1
                log.info("\n[stage %d] %s: %s", number, name, STAGES[name].__doc__)
                if name != "prepare":  # what a killed stage leaves is of these settings
                    run.keep()
                run_stage(run, name)
            run.keep()


@settings
class StageVerb:
    """One stage of the recipe, on a run's folder."""

    stage: ClassVar[str]

    out: str = "result/demo"
    """The run's folder."""

    def __call__(self) -> None:
        """Run the stage."""
        from .recipe.folder import Run

        run = Run.open(self.out)
        with run.held():
            run_stage(run, self.stage)


@settings
class RealVerb(StageVerb):
    """Stage 2: SER heads on all real training data, by S3PRL's runner; their layer weights serve the extraction."""

    stage = "real"


@settings
class Extract(StageVerb):
    """Stage 3: every training utterance once through the frozen upstream, into the feature store."""

    stage = "extract"


@settings
class PoolVerb(StageVerb):
    """Stage 4: the pool, SER heads at many steps of their training on stored features."""

    stage = "pool"


@settings
class Distill(StageVerb):
    """Stage 5: the GAN; the last generator within one standard error of the best on dev becomes the file.

    On many GPUs or processes: torchrun --nproc_per_node 2 -m s3prl_dd distill --out RUN
    """

    stage = "distill"

    def __call__(self) -> None:
        """Run it, as one rank of torchrun where there are several."""
        from .distill.distributed import end_group, start_group
        from .recipe.folder import Run
        from .recipe.stages import distill

        run = Run.open(self.out)
        ranks = start_group(run.settings.device_name())
        try:
            distill(run, progress=ranks.rank == 0)
        finally:
            end_group()


@settings
class Train(StageVerb):
    """Stage 6: SER heads on GAN samples and on rivals, by S3PRL's runner."""

    stage = "train"


@settings
class Report(StageVerb):
    """Stage 7: the table of results, results.json and a plot; with --html a page on finished runs."""

    stage = "report"

    runs: Runs = ()
    """With --html: folders of finished runs (folds, configurations, corpora), which are read alone; else --out."""

    html: bool = False
    """Write one page that holds everything, and a Markdown twin beside it, instead of the stage's own files."""

    to: To | None = None
    """A folder for the stage's files, where the run's own may only be read; with --html the page, report.html."""

    def __call__(self) -> None:
        """Report on a run, or write the page."""
        from .recipe.folder import Run

        if self.html:
            from .publish.page import write_page

            page, twin = write_page(self.runs or (self.out,), self.to or "report.html")
            print(f"wrote {page} ({page.stat().st_size / 1e6:.1f} MB) and {twin}")
            return
        if self.runs:
            raise UserError(f"report {self.runs[0]}: give --html for a page on these runs, or --out {self.runs[0]} for "
                            "the results of one.")
        report(Run.open(self.out), Path(self.to) if self.to else None)


@settings
class Reproduce(ReproduceSettings):
    """The paper's tables beside ours, and what lies beyond them: a grid of runs that goes on cell by cell."""

    table: Annotated[Table, tyro.conf.Positional] = "all"
    """Which table; beyond: every arm, other heads and upstreams."""

    to: To = "result/reproduce"
    """The grid's folder: cells/, and the tables as text, Markdown and JSON."""

    preset: Preset | None = None
    """As of `run`."""

    def __call__(self) -> None:
        """Run the grid, and print its tables."""
        from .reproduce.reproduce import reproduce

        reproduce(self.table, self, self.to)


def run_stage(run: Any, name: str) -> None:
    """Run stage `name`."""
    from .recipe.stages import STAGES

    if name == "report":
        report(run)
    else:
        STAGES[name](run)


def report(run: Any, to: Path | None = None) -> None:
    """Gather the results, print the table and plot it; they are kept in the folder `to`, or the run's."""
    from .evaluation.report import plot, table
    from .recipe import stages

    results, folder = stages.report(run, to), to or run.out
    print(table(results))
    if is_writable(folder):
        kept = folder / run.results.name
        plot(results, kept.with_suffix(".png"))
        log.info("\n%s and %s hold the same; TensorBoard: %s and %s", kept, kept.with_suffix(".png").name, run.gan,
                 run.out / "exp")


# corpora


@settings
class Prepare(CorpusOptions):
    """Stage 1: check a corpus's audio and write S3PRL's emotion metadata (sid: a tree in VoxCeleb1's shape)."""

    corpus: Annotated[CorpusName | Literal["sid"], tyro.conf.Positional] = field(kw_only=True)
    """Which corpus; sid shapes any folder of speakers for `-d voxceleb1`."""

    to: To = field(kw_only=True)
    """The folder to write: a run's metadata (RUN/metadata), for sid the tree."""

    root: str | None = None
    """The corpus's folder (table: or the table itself); demo makes its own."""

    split_by: str | None = None
    """sid: a regular expression; train and dev get some of its values, test the others."""

    copy: bool = False
    """sid: copies of the audio instead of links."""

    def __call__(self) -> None:
        """Prepare it."""
        if self.corpus != "sid":
            from .corpora import prepare
            from .recipe.lists import went_on

            out = Path(self.to)
            prepare(self.corpus, self.root, out, fixed=went_on(out.absolute()), **self.options())
            return
        if self.root is None:
            raise UserError("sid: no root given. Give the folder of the speakers with --root FOLDER.")
        from .corpora.sid import prepare_sid

        prepare_sid(self.root, self.to, split_by=self.split_by, speaker=self.speaker, copy=self.copy)


# results


@settings
class Compare:
    """The tables of several runs (folds, configurations, heads) in one, each row against all real data."""

    runs: Runs
    """Folders of finished runs."""

    to: To | None = None
    """A folder for comparison.json, .txt and .png; without it nothing is written."""

    across: tuple[str, ...] = ()
    """Evaluate the heads of RUN ... on the test folds of these runs of another corpus with the same classes. Results go
    to --to; the same command resumes."""

    arms: tuple[str, ...] = ()
    """With --across: some of them, real distilled_full distilled_12ppc ...; without any, all."""

    def __call__(self) -> None:
        """Compare them."""
        from .evaluation import across, compare

        if not self.runs:
            raise UserError("compare: give the folders of one or more finished runs.")
        if self.across:
            if self.to is None:
                raise UserError("compare --across writes its results: give --to FOLDER.")
            print(across.table(across.across(self.runs, self.across, self.to, self.arms)))
            return
        comparison = compare.compare(self.runs)
        print(compare.table(comparison))
        if self.to:
            compare.save(comparison, self.to)


@settings
class PrivacyVerb(PrivacySettings):
    """How much heads (paper, Table 4) and the generator file reveal about speakers."""

    out: str = "result/demo"
    """A run's folder, that of the proposed GAN."""

    baseline: str | None = None
    """The folder of a run of the baseline GAN on the same features."""

    sid_root: tuple[str, ...] = ()
    """Trees in VoxCeleb1's shape (`prepare sid`); without any, attacks alone."""

    sid_list: str | None = None
    """S3PRL's list file; without it list.txt in the tree."""

    def __call__(self) -> None:
        """Measure it."""
        from .privacy.measure import measure

        measure(self.out, self.sid_root, self.sid_list, self.baseline, self)


# the generator file


@settings
class Sample:
    """Draw a fixed synthetic set from a generator file (safetensors: features, lengths, labels, soft labels)."""

    generator: GeneratorFile
    """The generator file."""

    to: To
    """The file to write."""

    budget: str = "balanced"
    """Points per class, a mapping {total: 200}, balanced or original."""

    seed: Seed = 0
    """Another seed draws another set."""

    lengths: Lengths = DEFAULTS.lengths
    """Frames of a sample: the network's own T, or stretched to lengths drawn from the corpus's."""

    center: Center = DEFAULTS.center
    """Where each class of the set is shifted. false: nowhere (the paper). true: to the mean of the real class.
    teaching: to the class's teaching point, for heads that read utterance means. learnt: each sample to a learnt point
    of the file. auto: true, for the file holds frames, and any head may read them."""

    def __call__(self) -> None:
        """Draw it."""
        from .generator import Generator

        budget = int(self.budget) if self.budget.isdecimal() else _as_yaml(self.budget)  # 010 is ten, and in YAML eight
        generator = Generator.load(self.generator)
        center = generator.resolve_center(self.center, generator.counts(budget), means=False, fixed=True)
        generator.write_samples(self.to, budget, self.seed, self.lengths, center)


def _as_yaml(text: str) -> Any:
    """A value as YAML reads it; text that it cannot read stays as it is."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


@settings
class Inspect:
    """What a generator file is and was made from."""

    generator: GeneratorFile
    """The generator file."""

    json: bool = False
    """The whole header as JSON."""

    def __call__(self) -> None:
        """Print it."""
        from .generator import inspect

        inspect(self.generator, self.json)


@settings
class Weights:
    """Write a generator's layer weights as a checkpoint for S3PRL's -i (in a clone that runs without our launcher)."""

    generator: GeneratorFile
    """The generator file."""

    to: To
    """The checkpoint to write."""

    def __call__(self) -> None:
        """Write it."""
        from .generator import read_header
        from .plugin.featurizer import write_featurizer_checkpoint

        weights = read_header(self.generator).features.layer_weights
        if not weights:
            raise UserError(f"{self.generator}: its features are one layer, so there are no weights to write and -i is "
                            "not needed.")
        write_featurizer_checkpoint(weights, self.to)
        print(f"wrote {self.to}: give it to run_downstream.py as -i {self.to}")


@settings
class CardVerb:
    """A generator file's card for the Hub: what it replaces, its licence, results, limits, how to load it."""

    generator: GeneratorFile
    """The generator file."""

    run: str | None = None
    """The folder of the finished run that made it, for results with intervals."""

    to: To | None = None
    """The file to write, README.md for one; without it the card is printed."""

    def __call__(self) -> None:
        """Print or write it."""
        from .files import write_text
        from .publish.card import card

        text = card(self.generator, self.run)
        if self.to is None:
            print(text, end="")
            return
        write_text(self.to, text)
        print(f"wrote {self.to}")


@settings
class Push:
    """Push a generator file to the Hugging Face Hub, with its card, its description and a preview of samples."""

    generator: GeneratorFile
    """The generator file."""

    repo: Repository
    """The repository on the Hub."""

    run: str | None = None
    """The folder of the finished run that made it, for the card's results."""

    private: bool = False
    """A repository that others do not see, where there is none yet."""

    revision: str | None = None
    """A branch, made where there is none; without it the main branch."""

    may_share: bool = False
    """The corpus's terms, or its owner, allow it: for corpora whose terms are known here and do not say so."""

    def __call__(self) -> None:
        """Push it, and say how it is read back."""
        from .publish.push import push

        address = push(self.generator, self.repo, self.run, self.private, self.revision, self.may_share)
        print(f"pushed {address}\nGenerator.load({address!r}) reads it back; in S3PRL: generator={address}")


# heads at work


@settings
class HeadVerb:
    """A trained head and where to find what it needs."""

    head: Expdir
    """An expdir of a `-d emotion` or `-d distilled_emotion` run, or one of its checkpoints."""

    labels: tuple[str, ...] = field(default=(), kw_only=True)
    """Names of the head's classes in the order of training, where its folder does not tell them."""

    upstream: str | None = field(default=None, kw_only=True)
    """The upstream, where it goes by another name here."""

    upstream_ckpt: str | None = field(default=None, kw_only=True)
    """The upstream's checkpoint, where it lies elsewhere now."""

    upstream_model_config: str | None = field(default=None, kw_only=True)
    """Its model configuration, where it lies elsewhere now."""

    device: str | None = field(default=None, kw_only=True)
    """cuda or cpu; without it a GPU where there is one."""

    def load(self) -> Any:
        """The head with its upstream, a plugin.head.SerModel."""
        from .plugin.head import SerModel

        places = {key: getattr(self, key) for key in ("upstream", "upstream_ckpt", "upstream_model_config")}
        changes = {key: value for key, value in places.items() if value is not None}
        return SerModel.load(self.head, self.device, self.labels or None, changes)


@settings
class Predict(HeadVerb):
    """Class and probabilities of recordings, by a trained head and its upstream, without S3PRL's Runner."""

    files: Recordings
    """Recordings, folders of them, or - for a WAV on standard input."""

    window: Positive = 30.0
    """Seconds of a recording that pass the upstream at a time; longer ones are averaged over their windows."""

    windows: bool = False
    """Tell each window's class, too."""

    json: bool = False
    """A JSON object a line, instead of a table."""

    def __call__(self) -> int:
        """Predict; 1 where a recording could not be used."""
        from .plugin.predict import check_files, tell

        check_files(self.files)
        return tell(self.load(), self.files, self.window, self.windows, self.json)


@settings
class Evaluate(HeadVerb):
    """UAR, WA, macro-F1 and confusion of a trained head, on its own fold, another one, or another corpus."""

    metadata: MetadataFolder
    """A folder that `s3prl-dd prepare` wrote, or one of S3PRL's JSON files."""

    fold: str | None = None
    """fold1, ...; without it the head's own fold in its own metadata, elsewhere every utterance."""

    split: Literal["test", "dev", "train"] = "test"
    """Which part of the fold."""

    root: str | None = None
    """The corpus's folder, where the metadata does not tell it."""

    json: bool = False
    """As JSON, with every prediction."""

    def __call__(self) -> None:
        """Evaluate it."""
        from .plugin.evaluate import evaluate

        scores = evaluate(self.load(), self.metadata, self.fold, self.split, self.root)
        print(json.dumps(scores.json(), indent=2) if self.json else scores.table())


# networks


@settings
class Describe:
    """A GAN's layers, parameters, FLOPs and file size, without training."""

    config: Config
    """A distiller's configuration, a file or a shipped one."""

    dim: Annotated[int, Field(ge=1, le=65536), Number] = 768
    """D, dimensions of the features."""

    classes: Annotated[int, Field(ge=2, le=1000), Number] = 4
    """C, emotions."""

    json: bool = False
    """As JSON."""

    def __call__(self) -> None:
        """Print it."""
        from .distill.config import DistillConfig
        from .distill.describe import describe, print_description

        description = describe(load_config(DistillConfig, self.config), self.dim, self.classes)
        if self.json:
            print(json.dumps(as_json(description), indent=2))
        else:
            print_description(description)


# S3PRL


@settings
class LinkVerb:
    """Make our downstreams known to a clone of S3PRL, so that its own run_downstream.py finds them."""

    clone: Folder
    """The clone's folder."""

    def __call__(self) -> None:
        """Link them, and say what there is now."""
        from .plugin.link import describe, link

        link(self.clone)
        print(describe(self.clone))


@settings
class Unlink:
    """Undo `link`, and nothing else."""

    clone: Folder
    """The clone's folder."""

    def __call__(self) -> None:
        """Unlink them."""
        from .plugin.link import unlink

        gone = unlink(self.clone)
        if gone:
            print("unlinked:", *gone, sep="\n  ")
        else:
            print(f"{self.clone}: nothing was linked")


VERBS: dict[str, type] = {
    "run": RunVerb, "prepare": Prepare, "real": RealVerb, "extract": Extract, "pool": PoolVerb, "distill": Distill,
    "train": Train, "report": Report, "compare": Compare, "reproduce": Reproduce, "privacy": PrivacyVerb,
    "sample": Sample, "inspect": Inspect,
    "predict": Predict, "evaluate": Evaluate, "weights": Weights, "card": CardVerb, "push": Push,
    "describe": Describe, "bench": Bench,
    "link": LinkVerb, "unlink": Unlink}


# main


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. returns: the exit code, 2 for what the user can mend, 141 where nobody reads on (| head)"""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        with printed_whole():
            return answer(words)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes what Python writes when it ends
        return 128 + signal.SIGPIPE


@contextlib.contextmanager
def printed_whole() -> Iterator[None]:
    """Nothing that was printed waits at the end, however that comes: --help ends by SystemExit."""
    try:
        yield
    finally:
        sys.stdout.flush()


def answer(words: Sequence[str]) -> int:
    """Do what a command line asks for. returns: the exit code"""
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return 0
    if words[0] == "--version":
        print(__version__)
        return 0
    try:
        with talking():
            return call(parse(words))
    except UserError as error:
        rank = f"rank {os.environ['RANK']}: " if int(os.environ.get("WORLD_SIZE", 1)) > 1 else ""
        print(f"s3prl-dd: error: {rank}{error}", file=sys.stderr, flush=True)
        return 2
    except KeyboardInterrupt:
        return 130


def call(verb: Verb) -> int:
    """Do what a verb is for. returns: the exit code. What the disk does not take is a UserError, and so is a `to` where
    a generator file lies.
    """
    if isinstance(written := getattr(verb, "to", None), str):
        refuse_generator(written)
    try:
        return verb() or 0
    except OSError as error:
        where = error.filename or getattr(verb, "to", None) or getattr(verb, "out", None) or os.getcwd()
        raise disk_error(error, where) or error from None


def parse(words: Sequence[str]) -> Verb:
    """The verb of a command line, with its flags checked. Raises UserError, or SystemExit as argparse does."""
    name, *flags = words
    if name not in VERBS:
        hint = did_you_mean(name, VERBS, f"Expected one of {', '.join(VERBS)}.")
        raise UserError(f"{name}: no such verb.{hint}")
    defaults: dict[str, Callable[[Sequence[str]], Any]] = {"run": run_defaults, "reproduce": reproduce_defaults}
    default = defaults[name](flags) if name in defaults else tyro.MISSING_NONPROP
    verb: Verb = tyro.cli(VERBS[name], args=flags, prog=f"s3prl-dd {name}", default=default)
    return verb


def run_defaults(flags: Sequence[str]) -> RunVerb:
    """What `run` takes where no flag says otherwise: the folder's own settings, its base's, the preset's, or ours."""
    from .recipe.folder import Run

    given = glance(flags, "--out", "--base", "--preset", "--config", "--overrides")
    out = given.out or "result/demo"
    if given.preset not in (None, *PRESETS) or "-h" in flags or "--help" in flags:
        return RunVerb(out=out)
    kept = Run.defaults(out, given.base, given.preset)
    if given.config not in (None, kept.distiller.config) and given.overrides is None:
        kept = with_preset(kept.changed(overrides=()), given.preset)  # others were of the other configuration
        kept = kept.changed(config=given.config)
    return RunVerb(out=out, preset=given.preset, settings=kept)


def reproduce_defaults(flags: Sequence[str]) -> Reproduce:
    """What `reproduce` takes where no flag says otherwise: the preset's settings, or ours."""
    preset = glance(flags, "--preset").preset
    known = preset if preset in PRESETS else None
    return replace(Reproduce.by_preset(known), preset=known)


def glance(flags: Sequence[str], *names: str) -> argparse.Namespace:
    """The values of these flags before all are read, None where one is not there; nothing is judged."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in names:
        first.add_argument(name, nargs="*" if name == "--overrides" else None)
    return first.parse_known_args(list(flags))[0]


def overview() -> str:
    """The way of the data, and a line for each verb."""
    verbs = "\n".join(f"  {name:<10} {(verb.__doc__ or '').splitlines()[0]}" for name, verb in VERBS.items())
    return f"{WAY}\nVerbs:\n{verbs}"


class Plain(logging.Handler):
    """Prints messages as plain lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one."""
        print(record.getMessage(), flush=True)


@contextlib.contextmanager
def talking() -> Iterator[None]:
    """Let what the package says appear as plain lines, here alone: S3PRL makes root print every message again."""
    plain, before = Plain(), (log.level, log.propagate)
    log.addHandler(plain)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(plain)
        log.setLevel(before[0])
        log.propagate = before[1]


if __name__ == "__main__":
    sys.exit(main())

"""Heads of one corpus on the speech of another: how far what was distilled carries, beside what all real data carry.

    across([run, ...], [other, ...], to) -> [Crossed, ...] -> table
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from ..arms import REAL, TEACHER, Arm
from ..corpora.inventory import Inventory, read_inventory
from ..errors import UserError
from ..features.spec import own_upstream
from ..files import file_digest, read_json, text_digest, write_json, write_text
from ..plugin.runs import evaluate_s3prl
from ..pool.kinds import HEADS, head_label
from ..recipe.folder import Run
from ..recipe.results import Results
from .compare import read
from .folds import over_folds, share_of_real
from .text import aligned, percent

FILE = "across.json"
"""What is kept: the table, and the UAR of each head on each test fold."""


@dataclass(frozen=True, eq=False)
class Pair:
    """A finished run, and another whose test fold its heads hear."""

    run: Run
    results: Results
    other: Run

    @property
    def folds(self) -> tuple[str, str]:
        """Of both."""
        return self.results.fold, self.other.settings.corpus.fold

    @property
    def way(self) -> tuple[str, str]:
        """From which corpus to which."""
        return called(self.run, self.results.corpus), called(self.other, self.other.corpus.name)

    @cached_property
    def inventory(self) -> Inventory:
        """The other's files; empty where there is no inventory."""
        return read_inventory(self.other.metadata)

    @cached_property
    def heard_digest(self) -> str:
        """Identity of what the heads hear: the other's test list and its files, which other audio may share names with.

        Of a corpus without an inventory the root stands for the files.
        """
        root, test = self.other.corpus.root, self.other.fold.test
        files = sorted(f"{utterance.path}\t{self.inventory.get(utterance.path, root)}" for utterance in test.utterances)
        return text_digest([test.digest(), *files])


Named = dict[tuple[Pair, Arm], list[str]]
"""The heads of a pair's arm, by the name under which their UAR is kept (key_of), one a seed."""


class RowKey(NamedTuple):
    """What the pairs of a row have in common; `head` is the place in kinds.HEADS."""

    way: tuple[str, str]
    head: int
    arm: Arm
    variant: str

    @classmethod
    def of(cls, pair: Pair, arm: Arm) -> "RowKey":
        """The row that an arm of a pair belongs to."""
        return cls(pair.way, list(HEADS).index(pair.results.head), arm, pair.results.variant_of(arm))


@dataclass(frozen=True)
class Crossed:
    """An arm of one corpus on the test folds of another. UARs are in [0, 1], means over pairs of folds and seeds."""

    trained_on: str
    """The arm, and its configuration, as a table shows them."""
    source: str
    """The corpus that its heads know."""
    target: str
    """The corpus that they hear."""
    folds: int
    """Pairs of folds."""
    uar: float
    """On the other corpus."""
    spread: float | None
    """Standard deviation over seeds, mean over pairs; None of one seed."""
    of_real: float | None
    """Share of the UAR of all real data of the source on the same pairs."""
    at_home: float
    """UAR on the test folds of its own corpus."""


def called(run: Run, name: str) -> str:
    """The corpus of a run by its name; one that was read from a table goes by the table's."""
    asked = run.settings.corpus
    return Path(asked.root).stem if asked.corpus == "table" and asked.root else name


def across(folders: Sequence[str | Path], others: Sequence[str | Path], to: str | Path,
           arms: Sequence[str] = ()) -> list[Crossed]:
    """Every arm (or these) of finished runs on the test folds of runs of other corpora, by S3PRL's own evaluation.

    others: their folders; the lists of stage 1 are enough
    to: a folder for across.json and .txt, where each head's UAR is kept at once; a call that was killed goes on.
    Raises UserError, before any work, for two runs of one corpus, whose folds share speakers, or with files of one in
    the other, for other classes, and for two sets of heads of one row.
    """
    runs = [(Run.open(folder), read(folder)) for folder in folders]
    pairs = [Pair(run, results, Run.open(other)) for run, results in runs for other in others]
    for pair in pairs:
        _check(pair)
    named = {(pair, arm): [key_of(pair, arm, seed) for seed in range(seeds)]
             for pair in pairs for arm, seeds in _arms(pair, arms)}
    _check_shared(named)
    folder = Path(to)
    path = folder / FILE
    kept: dict[str, float] = read_json(path)["heads"] if path.is_file() else {}
    heads = [(name, pair, arm, seed) for (pair, arm), names in named.items() for seed, name in enumerate(names)]
    for name, pair, arm, seed in tqdm(heads, desc="across", unit="head", disable=None):
        if name not in kept:
            kept[name] = hear(pair, arm, seed, folder, folder / "heads" / name.replace(" ", "_"))
            write_json(path, {"heads": kept})
    crossed = list(_rows(named, kept))
    write_json(path, {**as_table(crossed), "values": [asdict(row) for row in crossed], "heads": kept,
                      "runs": list(map(str, folders))})
    write_text(path.with_suffix(".txt"), table(crossed) + "\n")
    return crossed


def hear(pair: Pair, arm: Arm, seed: int, folder: Path, expdir: Path) -> float:
    """UAR of a head on the other's test fold. The upstream's states are kept in `folder`, for all heads.

    expdir: what S3PRL's evaluation writes of this one
    """
    other, device = pair.other, pair.run.settings.device_name()
    data = {"root": str(other.corpus.root), "meta_data": str(other.metadata.resolve()),
            "test_fold": other.settings.corpus.fold}
    upstream = pair.run.settings.upstream.upstream
    named = ["-u", upstream] if own_upstream(upstream) else []  # the run's settings are the user's word for its code
    flags = [*named, "--device", device, "--feature_folder", str(folder / "means")]
    overrides = {f"config.downstream_expert.datarc.{key}": value for key, value in data.items()}
    return evaluate_s3prl(pair.run.best(arm, seed), expdir.resolve(), flags, overrides)


def _check(pair: Pair) -> None:
    run, other = pair.run, pair.other
    if run.corpus.root == other.corpus.root:
        raise UserError(f"{other.out}: of the same corpus as {run.out}, so its test speakers may have trained these "
                        "heads. Give runs of another corpus to --across.")
    mine, theirs = run.fold.test.labels, other.fold.test.labels
    if mine != theirs:
        raise UserError(f"{other.out}: classes {', '.join(theirs)}, those of {run.out} are {', '.join(mine)}. Give "
                        "runs of the same classes to --across.")
    files, others = read_inventory(run.metadata), pair.inventory
    heard = {files.get(utterance.path) for utterance in (*run.fold.train.utterances, *run.fold.dev.utterances)} - {None}
    again = [utterance.path for utterance in other.fold.test.utterances if others.get(utterance.path) in heard]
    if again:
        raise UserError(f"{other.out}: {len(again)} of its test utterances, {again[0]} the first, are files that heads "
                        f"of {run.out} were trained on under other names. Give runs of another corpus to --across.")


def _check_shared(named: Named) -> None:
    """Variants on one base share its heads; two sets of heads of one row and pair of folds are no table's."""
    before: dict[tuple[RowKey, tuple[str, str]], tuple[Pair, list[str]]] = {}
    for (pair, arm), names in named.items():
        first, theirs = before.setdefault((RowKey.of(pair, arm), pair.folds), (pair, names))
        if names != theirs:
            raise UserError(f"{pair.run.out} and {first.run.out}: {arm.name} of {' and '.join(pair.folds)} twice, "
                            "by different heads or on other speech of the same name. Give one of them.")


def _arms(pair: Pair, arms: Sequence[str]) -> Iterator[tuple[Arm, int]]:
    """Arms of a run whose heads are heard, and the number of their seeds; the teacher has none."""
    wanted = [Arm.parse(name) for name in arms]
    for name, result in pair.results.arms.items():
        arm = Arm.parse(name)
        if arm != TEACHER and (not wanted or arm in wanted):
            yield arm, result.seeds


def key_of(pair: Pair, arm: Arm, seed: int) -> str:
    """What a kept UAR is of: the head by its file's digest, the test list by its utterances' and their audio's."""
    return f"{file_digest(pair.run.best(arm, seed)):.16} on {pair.heard_digest:.16}"


def _rows(named: Named, kept: dict[str, float]) -> Iterator[Crossed]:
    """By source and target, then by head, as tables show arms, and by variant."""
    found: dict[RowKey, Listeners] = {}
    for (pair, arm), names in named.items():
        heard, of_row = [kept[name] for name in names], found.setdefault(RowKey.of(pair, arm), {})
        of_row.setdefault(pair.folds, Listened(pair, heard))  # variants on one base share its heads
    for key in sorted(found):
        yield _row(key, found[key], found.get(key._replace(arm=REAL, variant=""), {}))


class Listened(NamedTuple):
    """An arm's heads on a pair."""

    pair: Pair
    uars: list[float]
    """One a seed."""


Listeners = dict[tuple[str, str], Listened]
"""Folds of a pair -> its heads, of one row."""


def _row(key: RowKey, of_arm: Listeners, of_real: Listeners) -> Crossed:
    uars, real = ({folds: heads.uars for folds, heads in row.items()} for row in (of_arm, of_real))
    mean, spread = over_folds(uars.values())
    first = next(iter(of_arm.values())).pair.results
    title = key.arm.title(key.arm.generated and first.gaussian)
    return Crossed(
        trained_on=", ".join(filter(None, (title, key.variant, head_label(first.head)))),
        source=key.way[0], target=key.way[1], folds=len(of_arm), uar=mean,
        spread=spread, of_real=share_of_real(uars, real) if uars.keys() <= real.keys() else None,
        at_home=float(np.mean([heads.pair.results.arms[key.arm.name].uar for heads in of_arm.values()])))


# what is printed


def as_table(crossed: Sequence[Crossed]) -> dict[str, Any]:
    """Title, headers, rows, the number of columns of words, and notes: as a page of results takes tables."""
    rows = [[row.trained_on, f"{row.source} > {row.target}", str(row.folds), percent(row.uar), percent(row.spread),
             "-" if row.of_real is None else f"{percent(row.of_real)}%", percent(row.at_home)] for row in crossed]
    return {"title": "Across corpora: UAR % of heads of one corpus on test folds of another",
            "headers": ["trained on", "from > to", "pairs of folds", "UAR", "+-", "of real", "at home"], "rows": rows,
            "left": 2, "notes": ["of real: per cent of what all real data of the same corpus reach there; at home: on "
                                 "its own test folds"]}


def table(crossed: Sequence[Crossed]) -> str:
    """The same as text."""
    shown = as_table(crossed)
    return "\n".join([shown["title"], "", *aligned(shown["headers"], shown["rows"], shown["left"]), *shown["notes"]])

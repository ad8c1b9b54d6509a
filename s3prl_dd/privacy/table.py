"""What `s3prl-dd privacy` prints and draws."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from ..evaluation.significance import Interval
from ..evaluation.text import aligned, percent, plural
from ..files import atomic_path
from .attacks import FEWEST_SPEAKERS, Attacked, SpeakersFromReal, View, blind
from .results import PrivacyResults, RowResult, TreeResult
from .rows import TITLES, Row
from .teacher import TeacherAttacked
from .within import WithinClass

SID_HEADERS = ("first linear layer of", "SID acc %", "95 %", "probe %", "95 %", "- real", "95 %", "SER UAR %")
VIEW_TITLES = {View.MEAN: "utterance means", View.FRAMES: "all frames"}

ROLES = {"copied": "to be caught", "one_in_ten_copied": "a tenth is copied", "gaussian": "holds no utterance",
         "noise": "knows nobody", "held_out": "not to be caught", "memorised": "to be caught"}
"""Control -> what is known of it; all else is a file's."""

PROBE = ("probe: linear discriminant analysis of the same embeddings, every utterance tested once; - real: paired over "
         "utterances.",
         "The untrained head shows what any linear layer lets through; privacy is only worth something at equal UAR.")

NO_GUARANTEE = "Not caught is no guarantee: these attackers, on this many utterances, did not find it."

NOT_LEARNT = (f"Speakers were not attacked: it takes {FEWEST_SPEAKERS} of them in train, and two utterances of one of "
              "them.")


class Section(NamedTuple):
    """A table of what was measured, as text in cells; the first `left` columns are flush left."""

    title: str
    headers: Sequence[str]
    rows: list[list[str]]
    left: int = 1
    notes: Sequence[str] = ()
    """What must be known to read it."""


def table(results: PrivacyResults) -> str:
    """The results as text."""
    lines: list[str] = []
    for section in sections(results):
        lines += ["", section.title, "", *aligned(section.headers, section.rows, section.left), *section.notes]
    return "\n".join(lines)


def sections(results: PrivacyResults) -> list[Section]:
    """The results as tables: each SID tree, the attacks on samples by what the attacker sees, the attack on heads."""
    found = [_tree(tree) for tree in results.sid.values()]
    found += [_attacks(view, sets) for view, sets in results.attacks.items()]
    if results.within:
        found.append(_within(results.within))
    if results.teachers:
        found.append(_teachers(results.teachers))
    return found


# speaker identification


def _tree(tree: TreeResult) -> Section:
    seeds = max(len(row.per_seed) for row in tree.rows.values())
    title = (f"{Path(tree.root).name}: speaker identification by S3PRL's -d voxceleb1, {tree.speakers} speakers, "
             f"{tree.train} / {tree.dev} / {tree.test} utterances, {plural(seeds, 'seed')}; "
             f"chance {percent(tree.chance)} %")
    measure = tree.measure + (" (synthetic speech)" if tree.synthetic else "")
    rows = [_row(row, result) for row, result in tree.rows.items()]
    return Section(title, SID_HEADERS, rows, notes=(f"Measured on {measure}.", *PROBE))


def _row(row: Row, result: RowResult) -> list[str]:
    difference = None if row == Row.REAL else result.probe_minus_real
    return [TITLES[row], *_percents(result.sid_accuracy), *_percents(result.probe_accuracy), *_percents(difference),
            percent(result.ser_uar)]


def _percents(interval: Interval | None) -> tuple[str, str]:
    if interval is None:
        return "-", ""
    return percent(interval.value), f"{percent(interval.low, 0)} .. {percent(interval.high, 0)}"


# attacks


def _attacks(view: View, sets: dict[str, Attacked]) -> Section:
    headers = ["samples", "control", "membership AUC", "found at 1 % false, %", "train / dev distance"]
    if view == View.MEAN:
        headers += ["sounds known AUC", "names real speech %"]
    rows = [[name, ROLES.get(name, ""), *_attacked(result, view)] for name, result in sets.items()]
    heard = sets["proposed"].speakers_from_real if "proposed" in sets else None
    notes = [_attacker_on_real(heard)] if heard else []
    if view == View.MEAN and not any(result.speakers_from_real for result in sets.values()):
        notes.append(NOT_LEARNT)
    missed = blind(sets)
    if missed:
        notes.append(f"WARNING: copied training data was not caught by {', '.join(missed)}: "
                     "these figures say nothing here.")
    title = f"attacks on generated features, {VIEW_TITLES[view]}; * = caught"
    return Section(title, headers, rows, len(headers), [*notes, NO_GUARANTEE])


def _within(found: dict[str, WithinClass]) -> Section:
    headers = ["samples", "control", "names real speech %"]
    rows = [[name, ROLES.get(name, ""), _share(result.accuracy, result.caught)] for name, result in found.items()]
    notes = []
    if not found["copied"].caught:
        notes.append("WARNING: copied training data was not caught: these figures say nothing here.")
    title = (f"attack on speakers by who knows the file and the class; chance {percent(found['copied'].chance, 0)} %; "
             "* = caught")
    return Section(title, headers, rows, len(headers), notes)


def _teachers(found: dict[str, TeacherAttacked]) -> Section:
    headers = ["heads", "control", "membership AUC", "by the loss alone", "found at 1 % false, %"]
    rows = []
    for name, result in found.items():
        rows.append([name, ROLES.get(name, ""), _interval(result.auc, result.auc.low > 0.5),
                     _interval(result.auc_of_loss, result.auc_of_loss.low > 0.5),
                     _share(result.found_at_1_percent_false)])
    notes = []
    if not found["memorised"].caught:
        notes.append("WARNING: heads that know train by heart were not caught: these figures say nothing here.")
    title = "attack on the heads in the file: who was in training, by their loss; * = caught"
    return Section(title, headers, rows, len(headers), notes)


def _attacked(result: Attacked, view: View) -> list[str]:
    cells = [_interval(result.membership.auc, result.membership.caught),
             _share(result.membership.found_at_1_percent_false),
             _interval(result.nearest.ratio, result.nearest.caught)]
    if result.speakers_from_real and result.speakers_from_samples:
        named = result.speakers_from_samples
        cells.append(_interval(result.speakers_from_real.more_than_unknown, result.speakers_from_real.caught))
        cells.append(_share(named.accuracy, named.caught))
    elif view == View.MEAN:
        cells += ["-", "-"]
    return cells


def _interval(interval: Interval, caught: bool, digits: int = 2) -> str:
    value, low, high = (f"{number:.{digits}f}" for number in interval)
    return f"{value} ({low} .. {high}){'*' if caught else ''}"


def _share(interval: Interval | None, caught: bool = False) -> str:
    """In percent."""
    return "-" if interval is None else _interval(Interval(*(100 * value for value in interval)), caught, digits=0)


def _attacker_on_real(heard: SpeakersFromReal) -> str:
    confidence = heard.confidence
    return (f"The attacker on real speech names {percent(heard.accuracy_on_dev.value, 0)} % of dev utterances rightly; "
            f"confidence {confidence.samples.value:.2f} in samples, {confidence.known_speakers.value:.2f} in known "
            f"speakers, {confidence.unknown_speakers.value:.2f} in unknown speakers; among the samples he hears "
            f"{heard.speakers_heard:.1f} speakers.")


# the plot


def plot(results: PrivacyResults, path: str | Path) -> None:
    """SID accuracy over SER UAR, one panel a tree; rows without a UAR are lines. Written to `path` (PNG)."""
    trees = list(results.sid.values())
    figure = Figure(figsize=(5 * len(trees), 4), layout="constrained")
    axes = figure.subplots(1, len(trees), squeeze=False)[0]
    for axis, tree in zip(axes, trees, strict=True):
        for number, (row, result) in enumerate(tree.rows.items()):
            share, low, high = (100 * value for value in result.sid_accuracy)
            look = {"color": f"C{number}", "label": TITLES[row]}
            if result.ser_uar is None:
                axis.axhline(share, linestyle="--", **look)
            else:
                axis.errorbar(100 * result.ser_uar, share, [[share - low], [high - share]], fmt="o", capsize=3, **look)
        axis.axhline(100 * tree.chance, color="grey", linestyle=":", label="chance")
        axis.set(xlabel="SER UAR of the head, %", ylabel="SID accuracy, %", title=Path(tree.root).name, ylim=(0, 105))
        axis.legend(fontsize="small")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)

"""What a page says in sentences: the result, what was distilled from what, what is missing, how far it carries."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields

from ..evaluation.text import percent, plural, seeds_in_words
from ..privacy.attacks import Attacked, View, blind
from ..privacy.results import PrivacyResults
from ..privacy.teacher import TeacherAttacked
from ..privacy.within import WithinClass
from ..recipe.folder import Run
from ..recipe.settings import GROUPS, Settings
from .study import Line, Member, Study
from .tables import interval


def result(study: Study) -> str:
    """The result in one sentence."""
    line, real = study.generated, study.real
    if line is None:
        return f"Heads on all real data of {study.comparison.corpus} only; nothing was distilled yet."
    what = f"Heads trained on {_plain(line)} reach {percent(line.row.mean)} % UAR on held-out speakers"
    if real is None:
        return f"{what}; there are no heads on all real data to hold this against."
    same = _on_both(line, real)
    if not same:
        return f"{what}; there are no heads on all real data of the same folds to hold this against."
    text = f"{what}, {percent(line.row.of_real)} % of the {percent(real.row.mean_of(same))} % of all real data"
    less = line.row.minus_real
    if less is not None:
        text += f" (difference {_signed(less.value)} points, 95 % interval {interval(less)})"
    return text + "."


def budget(study: Study) -> str:
    """The same with few points, beside a random real subset; empty where there is no such pair."""
    line = study.generated
    subset = study.beside(line) if line else None
    if line is None or subset is None:
        return ""
    small = next(other for other in study.lines
                 if other.series == line.series and other.row.arm.budget == subset.row.arm.budget)
    same = _on_both(small, subset)
    if not same:
        return ""
    given, theirs = percent(small.row.mean_of(same)), percent(subset.row.mean_of(same))
    where = "" if len(same) == len(small.row.uar) else f" on {', '.join(same)}"
    return (f"With {subset.row.arm.budget} points a class, {small.kind} give {given} % and random real subsets "
            f"{theirs} %{where}.")


def source(study: Study) -> str:
    """What was distilled from what."""
    comparison = study.comparison
    folds, seeds = len(comparison.folds), seeds_in_words(study.seeds)
    speech = "synthetic utterances" if study.members[0].results.synthetic else "utterances"
    tested = sum({member.results.fold: member.results.test_utterances for member in study.members}.values())
    text = (f"{comparison.corpus}, features of {comparison.upstream}; {plural(folds, 'fold')} "
            f"({', '.join(comparison.folds)}), {seeds}, tested on {tested} {speech} of "
            "speakers whom no head and no generator heard.")
    if study.real:
        text += f" All real data are {study.real.points:.0f} training utterances a fold."
    return text


def _on_both(line: Line, other: Line) -> list[str]:
    """The folds that both have."""
    return [fold for fold in line.row.uar if fold in other.row.uar]


def _plain(line: Line) -> str:
    size = line.row.arm.size if line.row.arm.budget != "balanced" else f"full size ({line.points:.0f} points)"
    return f"{line.kind}, {size},"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


# privacy

ATTACKS = {"membership": "membership in the training set", "nearest": "nearness to training utterances",
           "speakers_from_real": "known speakers heard in samples",
           "speakers_from_samples": "speakers named after training on samples"}
"""Field of Attacked -> what the attack looks for."""


def privacy(results: PrivacyResults) -> str:
    """What the attacks found on utterance means, and whether they can find anything; then of the heads in the file."""
    said = [_of_samples(results.attacks[View.MEAN])] if View.MEAN in results.attacks else []
    if "proposed" in results.within:
        said.append(_of_who_knows_the_file(results.within["proposed"]))
    if "proposed" in results.teachers:
        said.append(_of_heads(results.teachers))
    return " ".join(said)


def _of_samples(sets: Mapping[str, Attacked]) -> str:
    """Of whoever gets the file's samples."""
    mine = sets["proposed"]
    caught = [title for name, title in ATTACKS.items() if (found := getattr(mine, name)) is not None and found.caught]
    text = f"Attacks on the file's samples caught {', '.join(caught) or 'nothing'}"
    missed = blind(sets)
    if missed:
        return f"{text}, but say little: copies of training data escaped {', '.join(ATTACKS[name] for name in missed)}."
    text += "; all of them catch copies of training data."
    named = mine.speakers_from_samples
    if named is not None:
        floor = f"; with samples that hold no utterance {percent(named.floor, 0)} %"
        text += (f" An attacker who trains on samples names {percent(named.accuracy.value, 0)} % of real utterances "
                 f"rightly (95 % interval {interval(named.accuracy, 0)}; chance {percent(named.chance, 0)} %{floor}).")
    return text


def _of_who_knows_the_file(found: WithinClass) -> str:
    """Of whoever knows what the file leaves of speech, and the class of what he hears."""
    return (f"One who knows the file's speaker suppression and the class names {percent(found.accuracy.value, 0)} % "
            f"({interval(found.accuracy, 0)}; chance {percent(found.chance, 0)} %; with samples that know nobody "
            f"{percent(found.floor, 0)} %).")


def _of_heads(found: Mapping[str, TeacherAttacked]) -> str:
    """Of the teacher in the file."""
    auc = found["proposed"].auc
    if not found["memorised"].caught:
        return "The attack on the heads in the file says nothing here: it missed heads that know train by heart."
    tell = "tell" if found["proposed"].caught else "were not found to tell"
    return (f"The heads in the file {tell} who was in training: AUC {auc.value:.2f} ({auc.low:.2f} to {auc.high:.2f}), "
            "chance 0.5.")


# commands


def command(member: Member) -> str:
    """The command line that makes a run: what of its settings is not the default, or not its base's."""
    return "" if member.run is None else command_of(member.run)


def command_of(run: Run) -> str:
    """The same of a run."""
    settings = run.settings
    before = (run.base.settings if run.base else Settings()).flat()
    if settings.distiller.config != before["config"]:
        before["overrides"] = ()  # of the other configuration, so `run` forgets them
    flags = ["s3prl-dd run"]
    for key, value in settings.flat().items():
        if key not in ("base", "device", "jobs") and value != before[key]:
            flags.append(_flag(key, value))
    if settings.base:
        flags.insert(1, f"--base {shlex.quote(str(settings.base))}")
    return " ".join([*flags, f"--out {shlex.quote(str(run.out))}"])


SWITCHES = {item.name for group in GROUPS.values() for item in fields(group) if item.type is bool}
"""Settings that are true or false and nothing else: flags without a value."""


def _flag(key: str, value: object) -> str:
    name = key.replace("_", "-")
    if key in SWITCHES:
        return f"--{name}" if value else f"--no-{name}"
    if isinstance(value, tuple | list):
        return " ".join([f"--{name}", *(shlex.quote(str(item)) for item in value)])
    return f"--{name} {shlex.quote(str(value))}"


# what is missing, how far it carries


def missing(study: Study) -> list[str]:
    """What these runs lack, and the verb that would add it."""
    said = []
    for member in study.members:
        said += [f"{member.name}: {text}" for text in _lacks(member)]
    if study.real is None:
        said.append("No heads on all real data, so nothing is held against them: `s3prl-dd real`.")
    if any(line.uar is None for line in study.lines):
        said.append("Predictions of some heads were not kept: their rows have no interval and no confusion.")
    return said


def _lacks(member: Member) -> list[str]:
    if member.run is None:
        return ["no run.json of this version; results alone are shown."]
    lacks = []
    if member.generator is None:
        lacks.append("no generator file that can be read: `s3prl-dd distill`.")
    if not (member.run.features / "header.json").is_file():
        lacks.append("no feature store, so no picture of real utterances.")
    return lacks


def limits(study: Study, privacy: bool) -> list[str]:
    """How far the figures carry."""
    said = [
        "Intervals are over test speakers and hold for the speakers of this corpus; another is another question.",
        "Intervals of few test speakers are too narrow: of four they hold about eight times in ten. McNemar's p is "
        "over utterances, so the two may disagree.",
        "Step, learning rate and generator were chosen on dev; some default settings of the package were chosen with "
        "test figures of RAVDESS and nEMO in view (docs/results.md).",
        "A generator file stands for features of one frozen upstream, not for audio; another upstream needs its own.",
    ]
    tests = len([line for line in study.lines if line.row.mcnemar is not None])
    if tests > 1:
        said.append(f"McNemar's p are {tests} tests on one test list; they are not corrected for that.")
    if max(study.seeds) == 1:
        said.append("One seed: there is no spread, and a difference between rows may be the seed's.")
    known = _folds_known(study.members)
    if known > len(study.comparison.folds):
        said.append(f"{len(study.comparison.folds)} of the corpus's {known} folds are here.")
    if any(member.results.synthetic for member in study.members):
        said.append("The speech is synthetic: these figures say nothing about people.")
    if not privacy:
        said.append("Privacy was not measured: nothing here says what the file tells about its speakers.")
    return said


def _folds_known(members: Sequence[Member]) -> int:
    """Folds of the corpus; 0 where no run has its metadata any more."""
    runs = [member.run for member in members if member.run is not None]
    return max((len(run.corpus.folds) for run in runs if (run.metadata / "corpus.json").is_file()), default=0)

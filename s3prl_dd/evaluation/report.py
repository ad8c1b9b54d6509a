"""One run's results as a table and as a plot."""

from pathlib import Path

from matplotlib.figure import Figure

from ..arms import REAL, TEACHER, Arm, Source
from ..files import atomic_path
from ..generator.sampling import sets_in_words, sets_of, ways_of
from ..pool.kinds import HEADS
from ..recipe.results import ArmResult, Results, Sizes
from .significance import wilson
from .text import aligned, percent, seeds_in_words

COLORS = {Source.REAL: "#4878a8", Source.GENERATED: "#d1762f"}
"""Of the bars of these sources; rivals are grey."""

HEADERS = ("trained on", "points", "UAR %", "+-", "of real", "acc %", "seconds")


def table(results: Results) -> str:
    """The results as text: a row an arm, then the sizes of what stands for the training part."""
    rows = [_row(Arm.parse(name), arm, results) for name, arm in results.arms.items()]
    arms = aligned(HEADERS, rows)
    rule = arms[1]
    lines = ["", _heading(results), "", *arms, rule, *_sizes(results.bytes)]
    if results.distill_seconds:
        lines.append(f"{'distillation':<32} {results.distill_seconds:>10.0f} s")
    lines.append("seconds: a whole run of S3PRL's runner, start and evaluations on real audio included. "
                 f"GAN samples have {results.labels} labels; full size: "
                 f"{sets_in_words(sets_of(results.resample, 'balanced'))}.{_points(results)}")
    lines.append(_chance(results))
    return "\n".join(lines)


def _heading(results: Results) -> str:
    head = "SER head" if results.head == "superb" else f"{results.head} SER head"
    speech = "test utterances (synthetic speech)" if results.synthetic else "real test utterances"
    seeds = seeds_in_words(arm.seeds for name, arm in results.arms.items() if name != TEACHER.name)
    return (f"{results.corpus}, {results.upstream}, {results.fold}: {head} by S3PRL's runner, "
            f"UAR on {results.test_utterances} {speech} of held-out speakers, {seeds}")


def _points(results: Results) -> str:
    """What small sets are, where they are learnt points, and how their frames deviate for heads that hear them."""
    hears_frames, last = HEADS[results.head].hears_frames, results.learnt_points
    text = ""
    if last and (results.center == "learnt" or results.center == "auto" and not hears_frames):
        text = f" Up to {last} a class they are the file's learnt points (docs/method.md)."
    if hears_frames and (ways := ways_of(results.resample, 1)) > 1:
        text += f" Budgets in numbers are one set each whose frames deviate in {ways} ways in turn."
    return text


def _chance(results: Results) -> str:
    """What so few test utterances can tell."""
    accuracy, number = next(iter(results.arms.values())).accuracy, results.test_utterances
    known = wilson(round(accuracy * number) / number, number)
    half = percent((known.high - known.low) / 2)
    return (f"An accuracy of {percent(accuracy)} % on {number} utterances is known to ± {half} "
            "points (95 %, Wilson).")


def _row(arm: Arm, result: ArmResult, results: Results) -> list[str]:
    real = results.arms.get(REAL.name)
    share = f"{percent(result.uar / real.uar)}%" if real and real.uar else "-"
    return [arm.title(results.gaussian), str(result.points), percent(result.uar), percent(result.spread), share,
            percent(result.accuracy), f"{result.train_seconds:.0f}"]


def color_of(arm: Arm) -> str:
    """Of an arm's bars."""
    return COLORS.get(arm.source, "#9a9a9a")


def _sizes(sizes: Sizes) -> list[str]:
    lines = [_size("audio of the training part", sizes.audio)]
    if sizes.features_float32 is not None:
        lines.append(_size("its features (float32)", sizes.features_float32))
    if sizes.generator is not None:
        share = percent(sizes.generator / sizes.audio)
        lines.append(f"{_size('generator file', sizes.generator)}  ({share} % of the audio)")
    return lines


def _size(what: str, size: int) -> str:
    return f"{what:<32} {size / 1e6:>10.2f} MB"


def plot(results: Results, path: str | Path) -> None:
    """UAR of each arm as a bar, its seeds as dots, chance as a line; written to `path` (PNG)."""
    upwards = [(Arm.parse(name), arm) for name, arm in reversed(results.arms.items())]
    figure = Figure(figsize=(7, 0.5 * len(upwards) + 1.4), layout="constrained")
    axis = figure.subplots()
    for place, (arm, result) in enumerate(upwards):
        axis.barh(place, 100 * result.uar, color=color_of(arm))
        axis.plot([100 * uar for uar in result.uar_per_seed], [place] * result.seeds, "k.", markersize=4)
    axis.set_yticks(range(len(upwards)), [arm.title(results.gaussian) for arm, _ in upwards])
    axis.axvline(100 / results.classes, color="k", linestyle=":", linewidth=1)
    axis.set(xlabel="UAR % on held-out speakers (dots: seeds, dotted line: chance)", xlim=(0, 100),
             title=f"{results.corpus}, {results.upstream}, {results.fold}")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)

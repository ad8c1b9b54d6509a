"""One self-contained page on finished runs, and the same as Markdown.

    write_page([folder, ...], "report.html") -> report.html, report.md
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np

from .. import __version__
from ..errors import UserError
from ..evaluation.text import percent
from ..files import write_text
from ..generator.inspect import described
from ..privacy.results import PrivacyResults
from ..privacy.table import Section, sections
from . import figures, tables, words
from .curves import Training, read_training
from .projection import Plane, project
from .study import Line, Study, studies

TEMPLATES = Path(__file__).parent / "templates"


class Key(NamedTuple):
    """An entry of a figure's legend."""

    number: int
    """Of the colour and shape."""
    glyph: str
    text: str


class Panel(NamedTuple):
    """A figure with what is written below it."""

    drawing: figures.Drawing
    caption: str
    keys: Sequence[Key] = ()
    """Its legend; none where several panels share one."""
    narrow: figures.Drawing | None = None
    """The same for a phone, where the figure is too wide for one."""


class Confusion(NamedTuple):
    """Of the utterances of a class what the heads say."""

    title: str
    rows: list[list[int]]
    """[C, C] per cent."""


class Privacy(NamedTuple):
    """What was measured of what a run tells about its speakers."""

    name: str
    """Of the run."""
    result: str
    """In a sentence or two."""
    sections: list[Section]
    """Tables, controls among their rows."""


@dataclass(frozen=True)
class Chapter:
    """All that a page shows of one study."""

    study: Study
    title: str
    source: str
    result: str
    budget: str
    tiles: list[tuple[str, str]]
    results: tables.Table
    by_fold: tables.Table
    budgets: Panel | None
    confusions: list[Confusion]
    plane: list[Panel]
    class_keys: list[Key]
    explained: float
    training: list[Panel]
    costs: tables.Table
    times: tables.Table
    privacy: list[Privacy]
    commands: list[tuple[str, str]]
    versions: tables.Table
    provenance: list[tuple[str, tables.Table]]
    missing: list[str]
    limits: list[str]


def write_page(folders: Sequence[str | Path], to: str | Path) -> tuple[Path, Path]:
    """Write the page `to` (.html) and its Markdown twin beside it. returns: both paths

    Raises UserError where there are no results.
    """
    page = Path(to)
    if not folders:
        raise UserError("report --html: give the folders of one or more finished runs.")
    if page.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"{page}: a page's name ends in .html; the Markdown twin goes beside it.")
    chapters = [chapter(study, number) for number, study in enumerate(studies(folders))]
    twin = page.with_suffix(".md")
    write_text(page, fill("page.html.j2", chapters=chapters, version=__version__))
    write_text(twin, fill("page.md.j2", chapters=chapters, version=__version__))
    return page, twin


def fill(template: str, **values: Any) -> str:
    """A template of ours with these values."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, autoescape=template.endswith(".html.j2"))
    environment.filters |= {"pipes": tables.as_pipes, "confusion_pipes": confusion_as_pipes}
    return environment.get_template(template).render(values).rstrip() + "\n"


def confusion_as_pipes(confusion: Confusion, class_names: Sequence[str]) -> str:
    """A confusion in Markdown."""
    rows = [[name, *map(str, row)] for name, row in zip(class_names, confusion.rows, strict=True)]
    return tables.as_pipes(tables.Table(["", *class_names], rows))


def chapter(study: Study, number: int = 0) -> Chapter:
    """What a page shows of a study; number: of the study on the page."""
    prefix = f"c{number}"
    plane = project(_drawn(study))
    privacy = privacy_of(study)
    return Chapter(
        study=study, title=f"{study.comparison.corpus} · {study.comparison.upstream}", source=words.source(study),
        result=words.result(study), budget=words.budget(study), tiles=_tiles(study), results=tables.results(study),
        by_fold=tables.by_fold(study), budgets=_budgets(study, prefix), confusions=_confusions(study),
        plane=_panels(plane, study, prefix), class_keys=_keys(study.class_names),
        explained=plane.explained if plane else 0.0, training=_curves(_trainings(study), prefix),
        costs=tables.costs(study), times=tables.times(study), privacy=privacy,
        commands=[(member.name, words.command(member)) for member in study.members],
        versions=tables.versions([member.results for member in study.members]), provenance=_provenance(study),
        missing=words.missing(study), limits=words.limits(study, bool(privacy)))


def _keys(texts: Sequence[str]) -> list[Key]:
    return [Key(number, figures.GLYPHS[number % len(figures.GLYPHS)], text) for number, text in enumerate(texts)]


def _tiles(study: Study) -> list[tuple[str, str]]:
    """The figures at the top, each with what it is."""
    line, tiles = study.generated, []
    if line is None:
        return []
    tiles.append((f"{percent(line.row.mean)} %", f"UAR, {line.row.trained_on}"))
    if line.row.of_real is not None:
        tiles.append((f"{percent(line.row.of_real)} %", "of the UAR of all real data"))
    cell = next(iter(line.cells.values()))
    sizes = cell.run.bytes
    if sizes.generator is not None:
        what = f"of the audio's bytes: {sizes.generator / 1e6:.1f} MB for {sizes.audio / 1e6:.1f} MB"
        tiles.append((f"{percent(sizes.generator / sizes.audio)} %", what))
    if cell.run.distill_seconds:
        tiles.append((f"{cell.run.distill_seconds:.0f} s", f"to distil, {cell.run.machine.get('cores', '?')} cores"))
    return tiles


# UAR over budgets


def _budgets(study: Study, prefix: str) -> Panel | None:
    curves: dict[str, list[figures.Point]] = {}
    for line in study.lines:
        if line.row.arm.budget is not None:
            curves.setdefault(_curve_name(line, study), []).append(_point(line))
    if not curves:
        return None
    curves = {name: sorted(points) for name, points in curves.items()}
    real = study.real
    level = figures.Level(*_bar(real)) if real else None
    chance = 1 / study.members[0].results.classes
    alt = _budgets_alt(curves, real)
    wide, narrow = (figures.budgets(f"{prefix}-budgets-{name}", curves, level, chance, width, alt)
                    for name, width in (("wide", figures.WIDE), ("narrow", figures.NARROW)))
    caption = ("UAR over training points a class. Bars and band: 95 % interval over test speakers (where predictions "
               "were kept, else ± the spread over seeds). All arms are tested on the same speakers, so differences are "
               f"surer than the bars: see the table. Chance is {percent(chance)} %.")
    return Panel(wide, caption, _keys(list(curves)), narrow)


def _curve_name(line: Line, study: Study) -> str:
    """The curve that a line is a point of; the corpus's own class mix is a budget of its own."""
    return tables.named(line, study) if line.row.arm.budget == "original" else tables.kind_named(line, study)


def _point(line: Line) -> figures.Point:
    return figures.Point(line.points_a_class, *_bar(line))


def _bar(line: Line) -> tuple[float, float, float]:
    """UAR with the ends of its bar."""
    if line.uar is not None:
        return line.row.mean, line.uar.low, line.uar.high
    spread = line.row.spread or 0.0
    return line.row.mean, line.row.mean - spread, line.row.mean + spread


def _budgets_alt(curves: dict[str, list[figures.Point]], real: Line | None) -> str:
    said = [f"all real data {percent(real.row.mean)} %"] if real else []
    for name, points in curves.items():
        values = ", ".join(f"{percent(point.uar)} % with {point.points:.0f}" for point in points)
        said.append(f"{name} {values}")
    return f"UAR over training points a class: {'; '.join(said)}."


# confusion


def _confusions(study: Study) -> list[Confusion]:
    """Of all real data, the generated rows' first, and the subset beside it."""
    chosen = [study.real, study.generated, study.beside(study.generated) if study.generated else None]
    return [Confusion(tables.named(line, study), (100 * line.confusion).round().astype(int).tolist())
            for line in chosen if line is not None and line.confusion is not None]


# utterance means


def _drawn(study: Study) -> dict[str, Any]:
    """What made samples -> its run, of the first fold that has one: the table's first configuration first."""
    runs: dict[str, Any] = {}
    for line in study.lines:
        if not line.row.arm.generated:
            continue
        cell = next(iter(line.cells.values()))
        member = next(member for member in study.members if member.folder == cell.folder)
        if member.run is not None and member.generator is not None:
            runs.setdefault(_curve_name(line, study).split(",")[0], member.run)
    return dict(list(runs.items())[:3])


def _panels(plane: Plane | None, study: Study, prefix: str) -> list[Panel]:
    if plane is None:
        return []
    shown = {"real training utterances": plane.real, **plane.samples}
    everything = np.concatenate([each.points for each in shown.values()])
    low, high = np.percentile(everything, [0.5, 99.5], axis=0)
    margin = 0.08 * (high - low)
    limits = np.stack([low - margin, high + margin], axis=1)
    panels = []
    for number, (name, each) in enumerate(shown.items()):
        alt = f"{name}: {len(each.labels)} utterance means of the classes {', '.join(study.class_names)} in the plane."
        panels.append(Panel(figures.cloud(f"{prefix}-plane{number}", each, limits, alt), name))
    return panels


# training


def _trainings(study: Study) -> dict[str, Training]:
    """Run -> the curves of its GAN, of the runs that trained one."""
    found: dict[str, Training] = {}
    seen = set()
    for member in study.members:
        if member.run is None or member.results.gaussian or member.run.gan.resolve() in seen:
            continue
        training = read_training(member.run.gan)
        if training:
            seen.add(member.run.gan.resolve())
            found[member.name] = training
    return found


GENERATOR_TERMS = ("feature_matching", "generator_class", "softmax_matching", "diversity", "frame_covariance",
                   "modulation", "mmd")
"""Loss terms of the generator that a page draws, where they were used."""


def _first_terms(trainings: dict[str, Training]) -> dict[str, dict[int, float]]:
    """The generator's loss terms of the first run."""
    terms = next(iter(trainings.values())).terms if trainings else {}
    return {name.replace("_", " "): terms[name] for name in GENERATOR_TERMS if name in terms}


def _curves(trainings: dict[str, Training], prefix: str) -> list[Panel]:
    panels, keys = [], _keys(list(trainings))
    dev = {name: each.dev["dev_uar"] for name, each in trainings.items() if "dev_uar" in each.dev}
    if dev:
        best = {name: each.best for name, each in trainings.items() if each.best is not None}
        alt = "UAR on dev along the GAN's training: " + "; ".join(
            f"{name} from {percent(list(curve.values())[0])} % to {percent(max(curve.values()))} % at best"
            for name, curve in dev.items()) + "."
        panels.append(Panel(figures.curves(f"{prefix}-dev", dev, "dev UAR %", alt, best, percent=True),
                            "UAR on dev of quick heads on samples; the ring is the step that was taken.", keys))
    score = {name: each.terms["wasserstein"] for name, each in trainings.items() if "wasserstein" in each.terms}
    if score:
        alt = "The critic's estimate of the Wasserstein distance along training: " + "; ".join(
            f"{name} ends at {list(curve.values())[-1]:.1f}" for name, curve in score.items()) + "."
        panels.append(Panel(figures.curves(f"{prefix}-score", score, "Wasserstein estimate", alt),
                            "What the critic still tells apart: its estimate of the Wasserstein distance.", keys))
    terms = _first_terms(trainings)
    if terms:
        alt = "The generator's loss terms: " + "; ".join(
            f"{name} ends at {list(curve.values())[-1]:.2f}" for name, curve in terms.items()) + "."
        panels.append(Panel(figures.curves(f"{prefix}-terms", terms, "loss term", alt),
                            f"The generator's loss terms, unweighted, of {next(iter(trainings))}.", _keys(list(terms))))
    return panels


# privacy, provenance


def privacy_of(study: Study) -> list[Privacy]:
    """Of the runs that were measured."""
    found = []
    for member in study.members:
        results = PrivacyResults.read(member.folder / "privacy" / "results.json")
        measured = sections(results)
        if measured:
            found.append(Privacy(member.name, words.privacy(results), measured))
    return found


def _provenance(study: Study) -> list[tuple[str, tables.Table]]:
    """Run -> what its generator file is and was made from; files that cannot be read are among what is missing."""
    found = []
    for member in study.members:
        if member.generator is not None:
            rows = [[key, value] for key, value in described(member.generator).items() if value and key != "file"]
            found.append((member.name, tables.Table(["", ""], rows, left=2)))
    return found

"""Figures of a page, by matplotlib as inline SVG. Colours are CSS variables: light, dark and print have their own.

matplotlib draws with stand-in colours; `as_svg` replaces each by the variable that it stands for.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup, escape
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from .curves import Curve
from .projection import Cloud

INK, MUTED, RULE = "#0a0b01", "#0a0b02", "#0a0b03"
SERIES = tuple(f"#0a0c{number:02x}" for number in range(8))
VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule",
             **{color: f"--series-{number}" for number, color in enumerate(SERIES)}}
"""Stand-in colour -> the CSS variable of the page."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
GLYPHS = ("●", "■", "▲", "◆", "▼", "✚", "✖", "⬢")
"""The same shapes as text, for legends in HTML."""

WIDE, NARROW = 7.4, 4.9
"""Inches: a figure over the page's whole width, and one that a phone shows at its size."""

FAR = 0.15
"""How far below all error bars chance is no longer drawn: it would press the rest together."""

LOOK = {
    "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10.5, "text.color": INK, "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE, "xtick.color": MUTED, "ytick.color": MUTED, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True, "grid.color": RULE, "grid.linewidth": 0.7,
    "axes.titlelocation": "left", "axes.titlesize": 10.5, "axes.labelsize": 10, "lines.linewidth": 1.8,
    "xtick.major.size": 3, "ytick.major.size": 0, "figure.facecolor": "none", "axes.facecolor": "none",
}


class Drawing(NamedTuple):
    """A figure for a page and for readers who do not see it."""

    svg: Markup
    """<svg>, with title and description."""
    alt: str
    """What it shows, in words."""


class Point(NamedTuple):
    """An arm in the plot over budgets. UARs are in [0, 1]."""

    points: float
    """Training points a class."""
    uar: float
    """Mean UAR."""
    low: float
    """Lower end of the error bar."""
    high: float
    """Upper end."""


class Level(NamedTuple):
    """A horizontal line with a band: all real data."""

    uar: float
    low: float
    high: float


# UAR over budgets


def budgets(name: str, curves: Mapping[str, Sequence[Point]], real: Level | None, chance: float, width: float,
            alt: str) -> Drawing:
    """UAR over points a class, a curve with error bars for each kind of training set; real data as a level.

    Chance is drawn where it is not far below everything else.
    """
    everything = [point for points in curves.values() for point in points]
    high = max([point.high for point in everything] + [real.high if real else 0])
    low = min([point.low for point in everything] + [real.low if real else 1])
    near = low - chance < FAR
    low = min(low, chance) if near else low
    with style.context([LOOK, {"svg.hashsalt": name}]):
        figure = Figure(figsize=(width, 4.0), layout="constrained")
        axis = figure.subplots()
        if real:
            axis.axhspan(100 * real.low, 100 * real.high, color=INK, alpha=0.07, linewidth=0)
            axis.axhline(100 * real.uar, color=INK, linestyle=(0, (5, 3)), linewidth=1.3)
            _tell(axis, "all real data", real.uar)
        if near:
            axis.axhline(100 * chance, color=MUTED, linestyle=":", linewidth=1.2)
            _tell(axis, "chance", chance)
        for number, points in enumerate(curves.values()):
            _curve(axis, number, len(curves), points)
        _budget_axis(axis, [point.points for points in curves.values() for point in points])
        axis.set(xlabel="training points a class", ylabel="UAR %",
                 ylim=(max(0, 100 * low - 4), min(100, 100 * high + 4)))
        return Drawing(as_svg(figure, name, alt), alt)


def _tell(axis: Axes, text: str, share: float) -> None:
    """A line's name over its left end, where small budgets leave room."""
    axis.annotate(text, (0, 100 * share), (5, 3), xycoords=axis.get_yaxis_transform(), textcoords="offset points",
                  color=MUTED, fontsize=9.5)


def _curve(axis: Axes, number: int, of: int, points: Sequence[Point]) -> None:
    """One curve, a little beside the others so that error bars can be told apart."""
    shift = 1.045 ** (number - (of - 1) / 2)
    places = [point.points * shift for point in points]
    values = 100 * np.array([point.uar for point in points])
    bars = 100 * np.array([[point.uar - point.low for point in points], [point.high - point.uar for point in points]])
    color = SERIES[number % len(SERIES)]
    axis.errorbar(places, values, bars.clip(min=0), color=color, marker=MARKERS[number % len(MARKERS)], markersize=6,
                  elinewidth=1.2, capsize=0)


def _budget_axis(axis: Axes, budgets: Sequence[float]) -> None:
    """A logarithmic axis whose ticks are the budgets."""
    ticks = sorted({round(budget) for budget in budgets})
    axis.set_xscale("log")
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    if ticks:
        axis.set_xlim(ticks[0] / 1.4, ticks[-1] * 1.9)
    axis.grid(axis="x", visible=False)


# utterance means


def cloud(name: str, shown: Cloud, limits: np.ndarray, alt: str) -> Drawing:
    """Utterance means in the plane, a colour and shape for each class; limits: [[x, x'], [y, y']] of all panels."""
    with style.context([LOOK, {"svg.hashsalt": name}]):
        figure = Figure(figsize=(3.5, 3.1), layout="constrained")
        axis = figure.subplots()
        for label in np.unique(shown.labels):
            points = shown.points[shown.labels == label]
            axis.scatter(points[:, 0], points[:, 1], s=13, alpha=0.62, linewidths=0,
                         color=SERIES[label % len(SERIES)], marker=MARKERS[label % len(MARKERS)])
        axis.set(xlim=limits[0], ylim=limits[1], xticks=[], yticks=[])
        axis.spines[:].set_visible(True)
        return Drawing(as_svg(figure, name, alt), alt)


# training


def curves(name: str, lines: Mapping[str, Curve], ylabel: str, alt: str, marks: Mapping[str, int] | None = None,
           percent: bool = False) -> Drawing:
    """Values over steps, a line each; marks: line -> the step that was taken, with a ring."""
    with style.context([LOOK, {"svg.hashsalt": name}]):
        figure = Figure(figsize=(3.7, 2.7), layout="constrained")
        axis = figure.subplots()
        scale = 100 if percent else 1
        for number, (line, curve) in enumerate(lines.items()):
            color = SERIES[number % len(SERIES)]
            values = [scale * value for value in curve.values()]
            axis.plot(list(curve), values, color=color, marker=MARKERS[number % len(MARKERS)], markersize=4.5,
                      markevery=max(1, len(values) // 6), linewidth=1.4)
            step = (marks or {}).get(line)
            if step in curve:
                axis.plot([step], [scale * curve[step]], marker="o", markersize=10, markerfacecolor="none",
                          markeredgecolor=color)
        axis.set(xlabel="step", ylabel=ylabel)
        axis.grid(axis="x", visible=False)
        return Drawing(as_svg(figure, name, alt), alt)


# matplotlib -> HTML


def as_svg(figure: Figure, name: str, alt: str) -> Markup:
    """The figure as <svg> for HTML: as wide as its place, colours as CSS variables, ids that begin with `name`."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={key: None for key in ("Date", "Creator", "Format", "Type")})
    text = buffer.getvalue()
    text = text[text.index("<svg"):]
    for color, variable in VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--sans)", text)
    text = re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", text)
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    viewed = re.search(r'viewBox="[^"]*"', text)
    assert viewed
    head = f'<svg {viewed[0]} xmlns:xlink="http://www.w3.org/1999/xlink" role="img" aria-label="{escape(alt)}">'
    return Markup(head + text[text.index(">") + 1:].strip())

"""Tables of text."""

from collections.abc import Iterable, Sequence

from tabulate import tabulate


def aligned(headers: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of a table: headers, a rule, then rows. The first `left` columns are flush left, the others right."""
    alignment = ["left"] * left + ["right"] * (len(headers) - left)
    text = tabulate([headers, *rows], tablefmt="plain", disable_numparse=True, colalign=alignment)
    first, *others = [line.rstrip() for line in text.splitlines()]
    rule = "-" * max(map(len, (first, *others)))
    return [first, rule, *others]


def piped(headers: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """The same in Markdown; pipes within a cell are escaped."""
    alignment = ["left"] * left + ["right"] * (len(headers) - left)
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return tabulate(cells, headers, tablefmt="pipe", disable_numparse=True, colalign=alignment)


def percent(share: float | None, digits: int = 1) -> str:
    """A share in [0, 1] in per cent, without the sign; a dash for None."""
    return "-" if share is None else f"{100 * share:.{digits}f}"


def plural(number: int, word: str) -> str:
    """A number and what it counts: 1 seed, 5 seeds."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def seeds_in_words(counts: Iterable[int]) -> str:
    """How many heads the rows of a table have, each of its own: 5 seeds, or 3 to 5 seeds. (The teacher has none.)"""
    rising = sorted(counts) or [1]
    low, most = rising[0], rising[-1]
    of_most = plural(most, "seed")
    return f"{low} to {of_most}" if low < most else of_most

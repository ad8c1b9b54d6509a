"""The result tables of README and docs, made of the JSON files of docs/figures.

    python -m s3prl_dd.publish.documents docs/figures/NAME.json RUN ... --revision REVISION    # kept, then all tables
    python -m s3prl_dd.publish.documents                                                       # all tables anew

A table stands between the lines `<!-- results: NAME -->` and `<!-- /results -->`; `NAME short` is its short form, and
`NAME short, Table 2` (with or without `short`) only the tables of a grid whose titles begin so. What all tables have in
common is explained once, under "How to read" in docs/results.md, which each of them links.
Instead of runs there may be one run's `privacy` folder, or that of a `reproduce` or a `compare --across` (--command).
"""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from ..arms import TEACHER
from ..errors import UserError
from ..evaluation.significance import Interval
from ..evaluation.text import percent, piped, seeds_in_words
from ..files import write_text
from ..pool.kinds import head_label
from ..privacy.table import sections
from .kept import Kept, KeptCorpus, KeptRow, keep
from .tables import NONE

FIGURES = Path("docs/figures")
PLACE = re.compile(r"(<!-- results: (\w+)( short)?(?:, ([^\n]+?))? -->\n)(.*?)(<!-- /results -->)", re.DOTALL)
"""Where a table stands: begin, name, whether it is the short form, which tables of a grid, the table, end."""

WHOLE = "full size"
"""The column of all real data, and of what has no budget."""

HOW_TO_READ = "[How to read](results.md#how-to-read)"
"""To the one legend of all tables; without it no table of arms can be read."""

NUMBERED = re.compile(r"(--(?:out|base) \S*[a-z_]|--fold fold)(\d+)(?= |$)")
"""What carries the number of a fold in a command line: its runs, and the fold itself."""


def documents(root: Path) -> list[Path]:
    """README and the pages of docs/."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def pages_from(document: Path) -> str:
    """Where the pages of docs/ lie, seen from a document."""
    return "docs/" if document.name == "README.md" else ""


def with_results(text: str, figures: Path, pages: str = "") -> str:
    """A document with its tables as the files of `figures` have them; UserError for a place without end or file.

    pages: where the pages of docs/ lie, seen from the document
    """
    if text.count("<!-- results:") != len(PLACE.findall(text)):
        raise UserError("a place for results: expected <!-- results: NAME --> and <!-- /results --> in lines of their "
                        "own.")
    def filled(place: re.Match[str]) -> str:
        return f"{place[1]}{_table(figures, place[2], bool(place[3]), place[4], pages)}{place[6]}"

    return PLACE.sub(filled, text)


def _table(figures: Path, name: str, short: bool, only: str | None, pages: str) -> str:
    kept = Kept.read(figures / f"{name}.json")
    if only is not None:
        tables = [table for table in kept.tables if table.title.startswith(only)]
        if not tables:
            raise UserError(f"{figures / name}.json: no table is called {only}.")
        kept = replace(kept, tables=tables)
    return markdown(kept, f"{name}.json", short, pages) + "\n"


def markdown(kept: Kept, name: str, short: bool = False, pages: str = "") -> str:
    """What a file of figures holds, as Markdown.

    name: of the file; short: without p values, folds and commands; pages: where docs/ lies, seen from the document
    """
    blocks: list[str] = []
    for corpus in kept.corpora:
        blocks += [_heading(corpus), over_budgets(corpus, short)]
        if not short and len(corpus.folds) > 1:
            blocks.append(folded("By fold", by_fold(corpus)))
    if kept.privacy is not None:
        for section in sections(kept.privacy):
            blocks += [f"{section.title}:", pipes(section.headers, section.rows, section.left), *section.notes]
    for table in kept.tables:
        notes = [] if short else table.notes
        blocks += [f"{table.title}:", pipes(table.headers, table.rows, table.left), *notes]
    if not short:
        blocks.append(folded("Commands", "\n".join(["```text", *looped(kept.about.commands), "```"])))
    legend = "" if kept.privacy is not None else HOW_TO_READ.replace("(", f"({pages}") + ". "
    blocks.append(legend + (_made_short(kept, name) if short else _made(kept, name)))
    return "\n\n".join(blocks)


def folded(summary: str, content: str) -> str:
    """Content that a reader opens when it is wanted; GitHub and MkDocs (md_in_html) both know it."""
    return f'<details markdown="1">\n<summary>{summary}</summary>\n\n{content}\n\n</details>'


def looped(commands: Sequence[str]) -> list[str]:
    """Command lines, those that differ by the number of a fold alone as one loop over these numbers."""
    folds: list[tuple[str, list[str], list[str]]] = []  # number, command lines, the same with $k for it
    for command in commands:
        number, general = _of_fold(command)
        if not (folds and number and folds[-1][0] == number):
            folds.append((number, [], []))
        folds[-1][1].append(command)
        folds[-1][2].append(general)
    lines: list[str] = []
    for general, group in groupby(folds, key=lambda fold: fold[2]):
        alike = list(group)
        if len(alike) == 1:
            lines += alike[0][1]
        else:
            lines += [f"for k in {' '.join(fold[0] for fold in alike)}; do", *(f"  {line}" for line in general), "done"]
    return lines


def _of_fold(command: str) -> tuple[str, str]:
    """The number that its runs and its fold carry, and the command with $k for it; no number where they differ."""
    numbers = {found[2] for found in NUMBERED.finditer(command)}
    if len(numbers) != 1:
        return "", command
    number, general = numbers.pop(), NUMBERED.sub(r"\1$k", command)
    if "--corpus" in command and "--fold" not in command:
        if number != "1":
            return "", command
        general = re.sub(r"(--root \S+)", r"\1 --fold fold$k", general)  # fold1 is the default
    return number, general


def _heading(corpus: KeptCorpus) -> str:
    seeds = seeds_in_words(row.seeds for row in corpus.rows if row.trained_on != TEACHER.title())
    of = f" of {corpus.speakers} held-out speakers" if corpus.speakers else ""
    head = f", {head_label(corpus.head)}" if head_label(corpus.head) else ""
    return (f"**{corpus.corpus}, {corpus.upstream}{head}**: {' '.join(corpus.folds)}, {seeds}, "
            f"{corpus.utterances} test utterances{of}")


def _made_short(kept: Kept, name: str) -> str:
    """At which revision, and where the rest is."""
    return f"Revision {kept.about.revision}; commands, versions, p values: docs/figures/{name}."


def _made(kept: Kept, name: str) -> str:
    """On what, and with what."""
    with_what = kept.about.made_with
    gpu = with_what.get("gpu", NONE)
    machine = [f"{with_what.get('cores', '?')} cores", "no GPU" if gpu == NONE else gpu]
    versions = [f"{key} {value}" for key, value in with_what.items() if key not in ("system", "cores", "gpu")]
    return (f"Measured at revision {kept.about.revision}: {', '.join([*machine, *versions])}. "
            f"All of it: docs/figures/{name}.")


# arms over budgets


def over_budgets(corpus: KeptCorpus, short: bool = False) -> str:
    """A row an arm, a column a budget."""
    sizes = list(dict.fromkeys([WHOLE, *(row.size or WHOLE for row in corpus.rows)]))
    cells: dict[str, dict[str, str]] = {}
    for row in corpus.rows:
        of_arm = cells.setdefault(row.trained_on, {})
        of_arm[row.size or WHOLE] = _short(row) if short else _long(row)
    rows = [[name, *(of_arm.get(size, "") for size in sizes)] for name, of_arm in cells.items()]
    return pipes(["trained on", *sizes], rows)


def by_fold(corpus: KeptCorpus) -> str:
    """UAR of each fold, a row an arm and budget."""
    rows = []
    for row in corpus.rows:
        name = f"{row.trained_on}, {row.size}" if row.size else row.trained_on
        rows.append([name, *(percent(row.by_fold.get(fold)) for fold in corpus.folds)])
    return pipes(["UAR %", *corpus.folds], rows)


def _long(row: KeptRow) -> str:
    if row.is_real or row.of_real is None:
        return _uar(row)
    tested = "" if row.mcnemar is None else f"<br>p {row.mcnemar:.2g}"
    if row.below_samples is not None:
        tested += f"<br>GAN {_signed(row.below_samples.value)}{_ends(row.below_samples, 1)}"
    return f"{_uar(row)}<br>{percent(row.of_real)} %{_ends(row.of_real_interval, 1)}{tested}"


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else ''}{percent(value)}"


def _short(row: KeptRow) -> str:
    return _uar(row) if row.is_real else f"{percent(row.of_real)}{_ends(row.of_real_interval, 0)}"


def _uar(row: KeptRow) -> str:
    return percent(row.uar) if row.spread is None else f"{percent(row.uar)} ± {percent(row.spread)}"


def _ends(interval: Interval | None, digits: int) -> str:
    return "" if interval is None else f" ({percent(interval.low, digits)} to {percent(interval.high, digits)})"


def pipes(headers: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table in Markdown, without padding. The first `left` columns are flush left, the others right."""
    return re.sub(" {2,}", " ", re.sub("-{3,}", "---", piped(headers, rows, left)))


# the command


def main(words: Sequence[str] | None = None) -> int:
    """Keep figures where some are named, and write the tables of all documents. returns: the exit code"""
    flags = argparse.ArgumentParser(prog="python -m s3prl_dd.publish.documents", description=(__doc__ or ""),
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("figure", nargs="?", type=Path, help="docs/figures/NAME.json, to write")
    flags.add_argument("sources", nargs="*", type=Path, help="what it is made of: folders of finished runs, ...")
    flags.add_argument("--revision", help="of the code that measured")
    flags.add_argument("--command", help="the command line, where runs do not tell it")
    given = flags.parse_args(words)
    try:
        if given.figure is not None:
            if not given.sources or given.revision is None:
                raise UserError(f"{given.figure}: give the folders that it is made of, and --revision.")
            keep(given.sources, given.revision, given.command).write(given.figure)
        write_documents(Path())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def write_documents(root: Path) -> None:
    """The tables of all documents anew; those of this folder."""
    for path in documents(root):
        before = path.read_text(encoding="utf-8")
        after = with_results(before, root / FIGURES, pages_from(path))
        if after != before:
            write_text(path, after)
            print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main())

"""The result tables of README and docs, made of the JSON files of docs/figures.

    python -m s3prl_dd.publish.documents docs/figures/NAME.json RUN ... --revision REVISION    # kept, then all tables
    python -m s3prl_dd.publish.documents                                                       # all tables anew

A table stands between the lines `<!-- results: NAME -->` and `<!-- /results -->`; `NAME short` is its short form.
Instead of runs there may be one run's `privacy` folder, or that of a `reproduce` or a `compare --across` (--command).
"""

import argparse
import re
import sys
from collections.abc import Sequence
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
PLACE = re.compile(r"(<!-- results: (\w+)( short)? -->\n)(.*?)(<!-- /results -->)", re.DOTALL)
"""Where a table stands: begin, name, whether it is the short form, the table, end."""

WHOLE = "full size"
"""The column of all real data, and of what has no budget."""

LONG = ("UAR % ± standard deviation over the seeds of a fold, mean over folds; below it per cent of the UAR of all "
        "real data on the same folds, and its 95 % interval (test speakers drawn anew within folds, paired). p: "
        "McNemar's test against all real data. GAN: how many points heads on the generator's samples of the same size "
        "are above the row's, and the 95 % interval.")
SHORT = ("All real data: UAR % ± standard deviation over seeds. All else: per cent of that, with its 95 % interval "
         "over test speakers.")


def documents(root: Path) -> list[Path]:
    """README and the pages of docs/."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def with_results(text: str, figures: Path) -> str:
    """A document with its tables as the files of `figures` have them; UserError for a place without end or file."""
    if text.count("<!-- results:") != len(PLACE.findall(text)):
        raise UserError("a place for results: expected <!-- results: NAME --> and <!-- /results --> in lines of their "
                        "own.")
    return PLACE.sub(lambda place: place[1] + _table(figures / f"{place[2]}.json", bool(place[3])) + place[5], text)


def _table(path: Path, short: bool) -> str:
    return markdown(Kept.read(path), path.name, short) + "\n"


def markdown(kept: Kept, name: str, short: bool = False) -> str:
    """What a file of figures holds, as Markdown. name: of the file; short: for the README"""
    blocks: list[str] = []
    for corpus in kept.corpora:
        blocks += [_heading(corpus), over_budgets(corpus, short), *([] if short else by_fold(corpus))]
    if kept.corpora and not short:
        blocks.append(LONG)
    if kept.privacy is not None:
        for section in sections(kept.privacy):
            blocks += [f"{section.title}:", pipes(section.headers, section.rows, section.left), *section.notes]
    for table in kept.tables:
        blocks += [f"{table.title}:", pipes(table.headers, table.rows, table.left), *table.notes]
    if not short:
        blocks.append("\n".join(["```text", *kept.about.commands, "```"]))
    blocks.append(f"{SHORT} {_made(kept, name)}" if kept.corpora and short else _made(kept, name))
    return "\n\n".join(blocks)


def _heading(corpus: KeptCorpus) -> str:
    seeds = seeds_in_words(row.seeds for row in corpus.rows if row.trained_on != TEACHER.title())
    of = f" of {corpus.speakers} held-out speakers" if corpus.speakers else ""
    head = f", {head_label(corpus.head)}" if head_label(corpus.head) else ""
    return (f"**{corpus.corpus}, {corpus.upstream}{head}**: {' '.join(corpus.folds)}, {seeds}, "
            f"{corpus.utterances} test utterances{of}")


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


def by_fold(corpus: KeptCorpus) -> list[str]:
    """UAR of each fold, a row an arm and budget; nothing where there is one fold."""
    if len(corpus.folds) < 2:
        return []
    rows = []
    for row in corpus.rows:
        name = f"{row.trained_on}, {row.size}" if row.size else row.trained_on
        rows.append([name, *(percent(row.by_fold.get(fold)) for fold in corpus.folds)])
    return [pipes(["UAR %", *corpus.folds], rows)]


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
        after = with_results(before, root / FIGURES)
        if after != before:
            write_text(path, after)
            print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main())

"""A reproduction from end to end: grid > work > tables."""

from dataclasses import replace
from pathlib import Path

from ..config import build
from ..errors import UserError
from ..files import read_object, write_json, write_text
from .grid import TABLES, cells_of
from .plan import plan
from .settings import ReproduceSettings, Table
from .tables import Printed, print_tables
from .work import execute


def reproduce(table: Table, asked: ReproduceSettings, out: str | Path) -> list[Printed]:
    """Do the cells of a table (or all) into the folder `out`, and print the tables of those that are done.

    Writes tables.json, tables.md and tables.txt there, with the other tables that stand in them already. With `dry_run`
    the grid is printed, and nothing is done. Raises UserError where settings fit no stage, before any work, and
    at the end where cells failed.
    """
    out = Path(out)
    if asked.run.base is not None:
        raise UserError(f"--base {asked.run.base}: a grid makes its own bases. Leave it away.")
    trees = tuple(str(Path(tree).resolve()) for tree in asked.sid_root)
    asked = replace(asked, run=asked.run.resolved(), sid_root=trees)
    root = asked.run.corpus.root
    if root is not None and not Path(root).exists():
        raise UserError(f"{root}: no such file or folder. Check --root.")
    cells = cells_of(table, asked)
    if not cells:
        raise UserError("table4 needs a speaker-identification tree: give --sid-root TREE (made by "
                        "`s3prl-dd prepare sid`).")
    for cell in cells:
        cell.settings.check()
    if asked.dry_run:
        print(plan(cells, out))
        return []
    states = execute(cells, out, asked.cluster)
    printed = print_tables(TABLES if table == "all" else (table,), cells, out)
    _write(_with_others(printed, out), out)
    print("\n\n".join(item.text() for item in printed))
    failed = [state for state in states if not state.done]
    if failed:
        first = failed[0]
        raise UserError(f"{len(failed)} of {len(states)} cells are not done, the first is {first.cell.name} "
                        f"({first.error or 'what it is based on failed'}). Mend it and give the same command again.")
    return printed


def _with_others(printed: list[Printed], out: Path) -> list[Printed]:
    """These tables, and those of other names that the folder has, in the paper's order."""
    path, made = out / "tables.json", {table.name for table in printed}
    remedy = "Delete it: the tables are made again from the grid's cells."
    there = read_object(path, "file of tables", remedy) if path.is_file() else {}
    before = [build(Printed, content, path) for content in there.values()]
    return sorted([*(table for table in before if table.name not in made), *printed],
                  key=lambda table: TABLES.index(table.name))


def _write(tables: list[Printed], out: Path) -> None:
    write_text(out / "tables.txt", "\n\n".join(table.text() for table in tables) + "\n")
    write_text(out / "tables.md", "\n".join(table.markdown() for table in tables))
    write_json(out / "tables.json", {table.title: table.as_json() for table in tables})

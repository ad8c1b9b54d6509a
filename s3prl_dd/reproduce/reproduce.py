"""A reproduction from end to end: grid > work > tables."""

from pathlib import Path

from ..errors import UserError
from ..files import write_json, write_text
from .grid import TABLES, cells_of
from .plan import plan
from .settings import ReproduceSettings, Table
from .tables import Printed, print_tables
from .work import execute


def reproduce(table: Table, asked: ReproduceSettings, out: str | Path) -> list[Printed]:
    """Do the cells of a table (or all) into the folder `out`, and print the tables of those that are done.

    Writes tables.json, tables.md and tables.txt there. With `dry_run` the grid is printed, and nothing is done. Raises
    UserError where settings fit no stage, before any work, and at the end where cells failed.
    """
    out = Path(out)
    if asked.run.base is not None:
        raise UserError(f"--base {asked.run.base}: a grid makes its own bases. Leave it away.")
    cells = cells_of(table, asked)
    if not cells:
        raise UserError("table4: needs speakers to be asked for. Give --sid-root TREE, made by `s3prl-dd prepare sid`.")
    for cell in cells:
        cell.settings.check()
    if asked.dry_run:
        print(plan(cells, out))
        return []
    states = execute(cells, out, asked.cluster)
    printed = print_tables(TABLES if table == "all" else (table,), cells, out)
    write_text(out / "tables.txt", "\n\n".join(item.text() for item in printed) + "\n")
    write_text(out / "tables.md", "\n".join(item.markdown() for item in printed))
    write_json(out / "tables.json", {item.title: item.as_json() for item in printed})
    print("\n\n".join(item.text() for item in printed))
    failed = [state for state in states if not state.done]
    if failed:
        first = failed[0]
        raise UserError(f"{len(failed)} of {len(states)} cells are not done, the first is {first.cell.name} "
                        f"({first.error or 'what it is based on failed'}). Mend it and give the same command again.")
    return printed

"""`s3prl-dd reproduce all --preset quick` on the demo corpus, as users call it: its tables, and a call that goes on."""

import json
import subprocess
import sys

import pytest

TABLES = {"table1", "table2", "table3", "beyond"}  # table4 needs speakers to be asked for
CELLS = {"fold1-base", "fold1-superb", *(f"fold1-gan_att_small-{losses}" for losses in
                                         ("baseline", "softmax_matching", "diversity", "both"))}


def reproduce(folder):
    """The command in a process of its own; returns what it printed."""
    words = ["reproduce", "all", "--preset", "quick", "--device", "cpu", "--to", str(folder)]
    done = subprocess.run([sys.executable, "-m", "s3prl_dd", *words], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_the_paper_s_tables_on_the_demo_corpus_and_a_second_call(tmp_path):
    printed = reproduce(tmp_path)
    cells = {path.parent.name.rpartition("-")[0]: path for path in tmp_path.glob("cells/*/cell.json")}
    assert set(cells) == CELLS
    tables = json.loads((tmp_path / "tables.json").read_text())
    assert {table["name"] for table in tables.values()} == TABLES
    text = (tmp_path / "tables.txt").read_text()
    assert printed.endswith(text) and all(title in text for title in tables)
    for table in tables.values():
        assert table["rows"] and all(len(row) == len(table["headers"]) for row in table["rows"])
    losses = next(table for table in tables.values() if table["name"] == "table2")
    assert [row[0] for row in losses["rows"]] == ["gan_att_small, full size", "gan_att_small, 12 a class"]
    assert all(0 <= float(cell.split()[0]) <= 100 for row in losses["rows"] for cell in row[1:])
    beyond = next(table for table in tables.values() if table["name"] == "beyond")
    assert {row["arm"] for row in beyond["values"]["rows"]} == {
        "real", "distilled_full", "distilled_12ppc", "gaussian_full", "gaussian_12ppc", "random_real_12ppc"}

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json") if path.parent != tmp_path}
    assert reproduce(tmp_path) == text  # nothing is done again
    assert {path: path.stat().st_mtime_ns for path in before} == before

"""Result tables of README and docs: what runs say is kept whole, shown as it was kept, and held equal."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.published import closed_form, keep_scores, reported_run

from s3prl_dd.errors import UserError
from s3prl_dd.evaluation.across import Crossed, as_table
from s3prl_dd.evaluation.compare import compare
from s3prl_dd.evaluation.significance import Interval
from s3prl_dd.files import write_json
from s3prl_dd.publish import documents as shown
from s3prl_dd.publish.documents import (
    documents,
    looped,
    main,
    markdown,
    over_budgets,
    pages_from,
    with_results,
)
from s3prl_dd.publish.kept import Kept, keep, portable
from s3prl_dd.recipe.collect import collect

ROOT = Path(__file__).parent.parent.parent
FIGURES = ROOT / shown.FIGURES
ATTACKS = Path(__file__).parent / "assets/privacy_fold1.json"
OLD = Path(__file__).parent.parent / "evaluation/assets/results_2991ac6.json"
OTHERS = {"costs.json"}
"""Files of figures that other tables are made of."""


@pytest.fixture(scope="module")
def runs(few_speakers, tmp_path_factory):
    """A run with a teacher, and one of the closed form on its base."""
    folder = tmp_path_factory.mktemp("runs")
    first = reported_run(folder / "first")
    keep_scores(first, {"teacher": [0.9]})
    collect(first).write(first.results)
    return [first.out, closed_form(folder / "gaussian", first).out]


@pytest.fixture(scope="module")
def kept(runs, tmp_path_factory):
    """The same, written and read again."""
    path = tmp_path_factory.mktemp("kept") / "main.json"
    keep(runs, "1a2b3c4").write(path)
    return Kept.read(path)


def cells_of(text, row):
    """The cells of a row of a Markdown table, by the headers above it."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    found = next(cells for cells in lines if cells[0] == row)
    return dict(zip(lines[0], found, strict=True))


# what is kept


def test_it_is_what_the_comparison_says(runs, kept):
    rows = {(row.trained_on, row.size): row for row in kept.corpora[0].rows}
    for row in compare(runs).rows:
        mine = rows[row.trained_on.removesuffix(f", {row.arm.size}"), row.arm.size]
        assert (mine.uar, mine.spread, mine.of_real) == (row.mean, row.spread, row.of_real)
        assert (mine.of_real_interval, mine.mcnemar) == (row.of_real_interval, row.mcnemar)
        assert mine.below_samples == row.below_samples
        assert mine.by_fold == {fold: pytest.approx(np.mean(values)) for fold, values in row.uar.items()}
    corpus = kept.corpora[0]
    assert (corpus.corpus, corpus.upstream, corpus.folds) == ("gauss", "made", ["fold1"])
    assert [row.seeds for row in corpus.rows][:3] == [2, 1, 2]  # one teacher


def test_how_it_was_made_stands_beside_without_the_places_of_this_machine(runs, kept):
    about = kept.about
    assert about.revision == "1a2b3c4" and {"torch", "s3prl", "cores"} <= set(about.made_with)
    first, gaussian = about.commands
    assert first.startswith("s3prl-dd run ") and first.endswith("--out result/first")
    assert gaussian == "s3prl-dd run --base result/first --config gaussian --out result/gaussian"
    assert str(runs[0].parent) not in json.dumps(about.commands)


def test_paths_elsewhere_keep_their_last_name():
    command = "s3prl-dd run --root /data/deep/ravdess --base /runs/base/f1 --head-lrs 0.1 --out /runs/f1"
    assert portable(command, "/runs") == (
        "s3prl-dd run --root ravdess --base result/base/f1 --head-lrs 0.1 --out result/f1")


# what is shown


def test_a_row_an_arm_and_a_column_a_budget(kept):
    text = over_budgets(kept.corpora[0])
    samples, real = cells_of(text, "GAN samples"), cells_of(text, "all real data")
    assert list(real) == ["trained on", "full size", "100 a class", "6 a class"]
    assert real["full size"] == "82.0 ± 2.8" and real["6 a class"] == ""
    assert samples["full size"].startswith("77.0 ± 2.8<br>93.9 % (") and "<br>p " in samples["full size"]
    assert cells_of(text, "teacher alone, no samples")["full size"].startswith("90.0<br>109.8 %")
    assert cells_of(text, "Gaussian samples")["6 a class"].startswith("70.0 ± 7.1<br>85.4 %")


def test_the_head_and_what_samples_are_above_a_rival_are_told(kept):
    corpus = kept.corpora[0]
    rows = [replace(row, below_samples=Interval(0.021, -0.01, 0.05)) if row.trained_on == "random real subset" else row
            for row in corpus.rows]
    text = markdown(replace(kept, corpora=[replace(corpus, rows=rows, head="cnn")]), "main.json")
    assert "**gauss, made, cnn head**: fold1" in text
    assert cells_of(text, "random real subset")["6 a class"].endswith("<br>GAN +2.1 (-1.0 to 5.0)")


def test_the_short_form_is_per_cent_of_real(kept):
    text = over_budgets(kept.corpora[0], short=True)
    assert cells_of(text, "all real data")["full size"] == "82.0 ± 2.8"
    assert cells_of(text, "random real subset")["6 a class"].startswith("75.6 (")
    assert "s3prl-dd run" in markdown(kept, "main.json") and "s3prl-dd run" not in markdown(kept, "main.json", True)


def test_corpora_stand_below_each_other(runs, tmp_path):
    (tmp_path / "other").mkdir()
    shutil.copyfile(OLD, tmp_path / "other/results.json")
    text = markdown(keep([*runs, tmp_path / "other"], "1a2b3c4"), "main.json")
    assert text.index("**gauss, made**: fold1, 2 seeds") < text.index("**ravdess, moonshine**")
    assert "revision 1a2b3c4" in text and "docs/figures/main.json" in text


def test_privacy_of_a_run(runs, tmp_path):
    shutil.copytree(runs[0], tmp_path / "run")
    (tmp_path / "run/privacy").mkdir()
    shutil.copyfile(ATTACKS, tmp_path / "run/privacy/results.json")
    found = keep([tmp_path / "run/privacy"], "1a2b3c4")
    found.write(tmp_path / "privacy.json")
    text = markdown(Kept.read(tmp_path / "privacy.json"), "privacy.json")
    assert "| copied | to be caught | 1.00 (0.99 .. 1.00)* |" in text and "privacy --out result/run" in text


def test_tables_of_a_grid(runs, tmp_path):
    (tmp_path / "cells").mkdir()
    shutil.copytree(runs[0], tmp_path / "cells/first")
    table = {"name": "table2", "title": "Table 2: UAR %", "headers": ["samples of", "both"], "rows": [["made", "50.0"]],
             "notes": ["a note"], "values": {"made": 0.5}, "left": 1}
    write_json(tmp_path / "tables.json", {table["title"]: table})
    with pytest.raises(UserError, match="--command"):
        keep([tmp_path], "1a2b3c4")
    text = markdown(keep([tmp_path], "1a2b3c4", "s3prl-dd reproduce table2"), "grid.json")
    assert "| made | 50.0 |" in text and "a note" in text and "reproduce table2" in text and "torch" in text


def test_heads_across_corpora(runs, tmp_path):
    row = Crossed("GAN samples", "one", "other", folds=1, uar=0.4, spread=None, of_real=0.8, at_home=0.7)
    write_json(tmp_path / "across.json", {**as_table([row]), "values": [], "heads": {}, "runs": [str(runs[0])]})
    text = markdown(keep([tmp_path], "1a2b3c4", "s3prl-dd compare result/f1 --across result/n1"), "across.json")
    assert "| GAN samples | one > other | 1 | 40.0 | - | 80.0% | 70.0 |" in text and "torch" in text


def test_only_some_tables_of_a_grid(tmp_path):
    about = {"commands": ["s3prl-dd reproduce all"], "made_with": {}, "revision": "1a2b3c4"}
    tables = [{"title": f"Table {number}: x", "headers": ["a"], "rows": [["b"]], "left": 1, "notes": []}
              for number in (1, 2)]
    write_json(tmp_path / "grid.json", {"about": about, "tables": tables})
    text = with_results("<!-- results: grid short, Table 2 -->\n<!-- /results -->", tmp_path)
    assert "Table 2: x:" in text and "Table 1" not in text and "reproduce all" not in text
    assert "reproduce all" in with_results("<!-- results: grid, Table 2 -->\n<!-- /results -->", tmp_path)
    with pytest.raises(UserError, match="no table is called Table 4"):
        with_results("<!-- results: grid, Table 4 -->\n<!-- /results -->", tmp_path)


def test_the_legend_is_linked_from_where_the_document_lies(kept):
    assert "[How to read](results.md#how-to-read)" in markdown(kept, "main.json")
    from_readme = markdown(kept, "main.json", True, pages_from(ROOT / "README.md"))
    assert "[How to read](docs/results.md#how-to-read)" in from_readme
    assert "## How to read\n" in (ROOT / "docs/results.md").read_text(encoding="utf-8")


def test_folds_are_one_loop():
    commands = ["s3prl-dd run --corpus c --root r --seeds 3 --out f1", "s3prl-dd run --base f1 --out result/a1",
                "s3prl-dd run --corpus c --root r --fold fold2 --seeds 3 --out f2",
                "s3prl-dd run --base f2 --out result/a2", "s3prl-dd run --base f2 --out result/b7"]
    assert looped(commands) == [
        "for k in 1 2; do", "  s3prl-dd run --corpus c --root r --fold fold$k --seeds 3 --out f$k",
        "  s3prl-dd run --base f$k --out result/a$k", "done", commands[-1]]
    assert looped(commands[2:4]) == commands[2:4]
    other = [f"{commands[0]}0", f"{commands[0]}1"]
    assert looped(other) == other  # f10 and f11 without --fold are of fold1, both


# in documents


def test_a_place_is_filled(kept, tmp_path):
    kept.write(tmp_path / "main.json")
    text = with_results("a\n<!-- results: main short -->\nold\n<!-- /results -->\nb", tmp_path)
    assert text == f"a\n<!-- results: main short -->\n{markdown(kept, 'main.json', True)}\n<!-- /results -->\nb"
    assert with_results(text, tmp_path) == text and with_results("none", tmp_path) == "none"
    with pytest.raises(UserError, match="a place for results"):
        with_results("<!-- results: main -->\n", tmp_path)
    with pytest.raises(UserError, match=r"nothing\.json: no such file of figures"):
        with_results("<!-- results: nothing -->\n<!-- /results -->", tmp_path)


def test_one_command_keeps_and_writes(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "docs/results.md"):
        (tmp_path / name).write_text("<!-- results: main -->\n<!-- /results -->\n")
    assert main(["docs/figures/main.json", *map(str, runs)]) == 2 and "--revision" in capsys.readouterr().err
    assert main(["docs/figures/main.json", *map(str, runs), "--revision", "1a2b3c4"]) == 0
    assert capsys.readouterr().out == "wrote README.md\nwrote docs/results.md\n"
    assert (tmp_path / "README.md").read_text().count("| GAN samples |") == 1
    assert main([]) == 0 and capsys.readouterr().out == ""


@pytest.mark.parametrize("document", documents(ROOT), ids=lambda path: path.name)
def test_documents_show_what_was_measured(document):
    text = document.read_text(encoding="utf-8")
    shown_now = with_results(text, FIGURES, pages_from(document))
    assert shown_now == text, "run: python -m s3prl_dd.publish.documents"


def test_every_file_of_figures_is_shown():
    text = "".join(path.read_text(encoding="utf-8") for path in documents(ROOT))
    assert all(f"<!-- results: {path.stem}" in text for path in FIGURES.glob("*.json") if path.name not in OTHERS)

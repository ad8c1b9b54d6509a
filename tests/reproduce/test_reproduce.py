"""Grids: which cells a table has, that they are done once and go on after failures, and the tables made of them."""

import contextlib
import dataclasses
import json
import shutil
import types

import pytest
from support.recipe import wanted
from support.tones import write_table

from s3prl_dd import cli, config
from s3prl_dd.corpora import prepare
from s3prl_dd.errors import UserError
from s3prl_dd.evaluation.significance import Interval
from s3prl_dd.files import write_json
from s3prl_dd.recipe import settings
from s3prl_dd.recipe.folder import Run
from s3prl_dd.recipe.results import Results, Sizes, TestList
from s3prl_dd.reproduce import plan as plans
from s3prl_dd.reproduce import tables, work
from s3prl_dd.reproduce.grid import LOSSES, cells_of
from s3prl_dd.reproduce.plan import plan
from s3prl_dd.reproduce.reproduce import reproduce
from s3prl_dd.reproduce.settings import ClusterSettings, ReproduceSettings
from s3prl_dd.reproduce.tables import Value, family, print_tables
from s3prl_dd.reproduce.work import execute, state_of


def asked(**changes):
    values = {"networks": ("gan_att_small",), "other_heads": ("cnn",), "run": wanted(budgets=(100,), labels="soft")}
    return ReproduceSettings(**{**values, **changes})


UAR = {"real": 0.8, "distilled_full": 0.75, "distilled_100ppc": 0.7, "random_real_100ppc": 0.6,
       "random_real_centred_100ppc": 0.65}


def results_of(run, arms):
    arm = {"uar_per_seed": [0.0, 0.0], "dev_uar": 0.9, "accuracy": 0.5, "points": 400, "train_seconds": 1.0,
           "lr_per_seed": [1e-3, 1e-3], "command": "python", "predicted": [None, None]}
    made = {name: {**arm, "uar": uar, "uar_per_seed": [uar - 0.01, uar + 0.01]} for name, uar in arms.items()}
    settings = run.settings
    return Results(corpus="made", synthetic=True, upstream=settings.upstream.upstream, fold=settings.corpus.fold,
                   config=settings.distiller.config, overrides=list(settings.distiller.overrides), arms=made, classes=4,
                   test_utterances=10, bytes=Sizes(audio=1), head=settings.heads.head)


@pytest.fixture
def stages(monkeypatch):
    """Stages that note what is run; the report writes made-up figures, with a point less for a baseline GAN."""
    noted = []

    def stage(name):
        def do(run):
            noted.append((run.out.name.rsplit("-", 1)[0], name))
            if name == "report":
                less = 0.1 * ("lambdas.diversity=0" in run.settings.distiller.overrides)
                arms = {arm: uar - less * arm.startswith("distilled") for arm, uar in UAR.items()}
                results_of(run, arms).write(run.results)
        return do

    monkeypatch.setattr(work, "STAGES", {name: stage(name) for name in ("prepare", "pool", "distill", "report")})
    monkeypatch.setattr(tables, "sizes", lambda run: Sizes(audio=1000, features_float32=4000, generator=50))
    return noted


# cells


def test_table_2_has_a_cell_for_each_network_and_losses_on_one_base_a_fold():
    cells = cells_of("table2", asked(test_folds=("fold1", "fold2")))
    assert [cell.name for cell in cells] == [
        "fold1-base", "fold1-gan_att_small-baseline", "fold1-gan_att_small-softmax_matching",
        "fold1-gan_att_small-diversity", "fold1-gan_att_small-both", "fold2-base", "fold2-gan_att_small-baseline",
        "fold2-gan_att_small-softmax_matching", "fold2-gan_att_small-diversity", "fold2-gan_att_small-both"]
    assert [cell.losses for cell in cells[1:5]] == list(LOSSES)
    baseline, matching, diversity, both = (cell.settings.distiller.distill_config().lambdas for cell in cells[1:5])
    assert (baseline.softmax_matching, baseline.diversity) == (0, 0)
    assert matching.softmax_matching > 0 == matching.diversity
    assert diversity.diversity > 0 == diversity.softmax_matching
    assert both.diversity > 0 < both.softmax_matching


def test_the_paper_s_samples_are_drawn_as_the_paper_draws_them():
    cell = cells_of("table3", asked())[-1]
    assert (cell.settings.sampling.labels, cell.settings.sampling.center) == ("hard", False)


def test_all_tables_share_their_cells():
    names = [cell.name for cell in cells_of("all", asked(sid_root=("tree",)))]
    assert len(names) == len(set(names))
    assert {"fold1-base", "fold1-superb", "fold1-cnn", "fold1-gan_att_small-both-speakers"} <= set(names)


def test_a_cell_s_folder_is_named_by_what_decides_its_figures(tmp_path):
    first, other = (cells_of("table3", asked(run=wanted(head_steps=steps)))[-1] for steps in (100, 200))
    more_seeds = cells_of("table3", asked(run=wanted(head_steps=100, seeds=5)))[-1]
    assert first.folder(tmp_path) != other.folder(tmp_path)
    assert first.folder(tmp_path) == more_seeds.folder(tmp_path)


def test_further_upstreams_are_runs_of_their_own():
    names = [cell.name for cell in cells_of("beyond", asked(upstreams=("fbank", "made")))]
    assert names == ["fold1-base", "fold1-superb", "fold1-cnn", "fold1-fbank"]


def test_quick_is_a_small_grid_and_a_flag_still_wins():
    quick = cli.parse(["reproduce", "all", "--preset", "quick", "--networks", "gan_1d"])
    cells = {cell.name: cell for cell in cells_of("all", quick)}
    assert list(cells) == ["fold1-base", "fold1-gan_1d-both", "fold1-gan_1d-baseline", "fold1-gan_1d-softmax_matching",
                           "fold1-gan_1d-diversity", "fold1-superb"]
    assert cells["fold1-superb"].settings.rivals.rivals == ("gaussian", "random_real")
    assert cells["fold1-gan_1d-both"].settings.rivals.rivals == ()  # its tables show samples alone
    assert cells["fold1-base"].settings.distiller.distill_config().steps == 20
    assert cli.parse(["reproduce", "all"]).run.rivals.rivals == ("all",)


# work


def test_a_grid_is_done_once_and_more_seeds_go_on_in_the_same_folders(tmp_path, stages):
    cells = cells_of("table3", asked())
    assert all(state.done for state in execute(cells, tmp_path, ClusterSettings()))
    assert stages == [("fold1-base", "prepare"), ("fold1-base", "pool"),
                      *(("fold1-gan_att_small-both", name) for name in ("prepare", "pool", "distill", "report"))]
    stages.clear()
    execute(cells, tmp_path, ClusterSettings())
    assert stages == []
    execute(cells_of("table3", asked(run=wanted(budgets=(100,), labels="soft", seeds=5))), tmp_path, ClusterSettings())
    assert ("fold1-gan_att_small-both", "report") in stages


@pytest.mark.parametrize("cluster", ["here", "local"])
def test_a_cell_that_grows_counts_the_time_of_its_tries_before(tmp_path, stages, monkeypatch, cluster):
    small, grown = (cells_of("table3", asked(run=wanted(seeds=seeds))) for seeds in (1, 2))
    execute(small, tmp_path, ClusterSettings())
    path = small[0].folder(tmp_path) / "cell.json"
    write_json(path, {**json.loads(path.read_text()), "seconds": 1000.0})
    if cluster == "local":
        monkeypatch.setattr(work, "_executor", lambda out, cluster: Executor())
    execute(grown, tmp_path, ClusterSettings(cluster=cluster))
    assert 1000 <= state_of(grown[0], tmp_path).seconds < 1100


def test_a_cell_that_another_process_works_on_is_left_to_it(tmp_path, stages):
    cell = cells_of("table3", asked())[0]
    with Run.start(cell.folder(tmp_path), cell.settings).held():
        work.run_cell(cell, tmp_path, 0.0)
    assert stages == [] and "another process is working on this run" in state_of(cell, tmp_path).error


class Executor:
    """Stands for submitit's: runs a job at once, in this process."""

    def batch(self):
        return contextlib.nullcontext()

    def submit(self, function, *arguments):
        function(*arguments)
        return types.SimpleNamespace(done=lambda: True)


def test_more_rivals_go_on_in_the_same_folders(tmp_path, stages):
    few, all_of_them = (asked(run=wanted(rivals=rivals)) for rivals in (["random_real"], ["all"]))
    cells = cells_of("beyond", few)
    execute(cells, tmp_path, ClusterSettings())
    assert all(state_of(cell, tmp_path).done for cell in cells_of("beyond", few))
    more = cells_of("beyond", all_of_them)
    assert [cell.folder(tmp_path) for cell in more] == [cell.folder(tmp_path) for cell in cells]
    assert not any(state_of(cell, tmp_path).done for cell in more)


def test_more_seeds_of_rivals_go_on_in_the_same_folders(tmp_path, stages):
    fewer, as_many = (cells_of("beyond", asked(run=wanted(rivals=["random_real"], seeds=5, rival_seeds=seeds)))
                      for seeds in (3, None))
    execute(fewer, tmp_path, ClusterSettings())
    assert [cell.folder(tmp_path) for cell in as_many] == [cell.folder(tmp_path) for cell in fewer]
    assert all(state_of(cell, tmp_path).done for cell in fewer)
    assert not any(state_of(cell, tmp_path).done for cell in as_many)


def test_an_edited_configuration_is_another_cell(tmp_path):
    file, digests = tmp_path / "mine.yaml", []
    for steps in (10, 20):
        file.write_text(f"steps: {steps}\n")
        digests.append(cells_of("beyond", asked(run=wanted(config=str(file))))[-1].digest)
    assert digests[0] != digests[1]


def test_a_shipped_configuration_that_changed_is_another_cell(tmp_path, monkeypatch):
    """Its name stands for what it says now."""
    before = cells_of("table3", asked())[-1].digest
    for path in config.CONFIGS.glob("*.yaml"):
        shutil.copyfile(path, tmp_path / path.name)
    (tmp_path / "gan_att_small.yaml").write_text((tmp_path / "gan_att_small.yaml").read_text() + "tau: 3\n")
    monkeypatch.setattr(config, "CONFIGS", tmp_path)
    assert cells_of("table3", asked())[-1].digest != before


def test_a_rival_that_is_new_is_still_to_do(tmp_path, stages, monkeypatch):
    """`--rivals all` are more of them then."""
    cells = cells_of("beyond", asked(run=wanted(rivals=("all",))))
    monkeypatch.setattr(settings, "RIVALS", settings.RIVALS[:-1])
    execute(cells, tmp_path, ClusterSettings())
    assert all(state_of(cell, tmp_path).done for cell in cells)
    monkeypatch.undo()
    assert not any(state_of(cell, tmp_path).done for cell in cells if cell.last == "report")


def test_a_corpus_has_one_grid_however_its_path_is_spelt(tmp_path, stages, monkeypatch):
    (tmp_path / "speech").mkdir()
    monkeypatch.chdir(tmp_path)
    for root in ("speech", "./speech", str(tmp_path / "speech")):
        reproduce("table3", asked(run=wanted(root=root)), tmp_path / "out")
    assert len(list((tmp_path / "out/cells").iterdir())) == 2


def test_a_cell_runs_on_its_base(tmp_path, stages):
    base, cell = cells_of("table3", asked())
    execute([base, cell], tmp_path, ClusterSettings())
    found = [Run.open(each.folder(tmp_path)).settings.base for each in (base, cell)]
    assert found == [None, str(base.folder(tmp_path).resolve())]


@pytest.mark.parametrize("now, again", [("1", False), ("2", True)])
def test_what_stands_on_a_base_that_was_made_anew_of_other_lists_is_to_do(tmp_path, stages, monkeypatch, now, again):
    base, cell = cells_of("table3", asked())
    execute([base, cell], tmp_path, ClusterSettings())
    for each in (base, cell):
        write_json(each.folder(tmp_path) / "lists.json", {"classes": "1"})
    assert all(state_of(each, tmp_path).done for each in (base, cell))
    shutil.rmtree(base.folder(tmp_path))
    pool, tried = work.STAGES["pool"], "fold1-gan_att_small-both"

    def makes_lists(run):
        pool(run)
        if run.out == base.folder(tmp_path):
            write_json(run.out / "lists.json", {"classes": now})

    monkeypatch.setitem(work.STAGES, "pool", makes_lists)
    stages.clear()
    execute([base, cell], tmp_path, ClusterSettings())
    assert (tried in {name for name, _ in stages}) is again
    assert [state_of(each, tmp_path).done for each in (base, cell)] == [True, not again]
    speakers = cells_of("table4", asked(sid_root=("tree",)))[-1]
    assert work._is_stale(speakers, tmp_path) is again


def test_nothing_is_done_of_a_table_that_was_edited(tmp_path, stages):
    table = write_table(tmp_path / "data")
    grid = asked(run=wanted(corpus="table", root=table, budgets=(100,), labels="soft"))
    base, cell = cells_of("table3", grid)
    prepare("table", table, base.folder(tmp_path) / "metadata")
    assert all(state.done for state in execute([base, cell], tmp_path, ClusterSettings()))
    write_table(tmp_path / "data", swapped="a")
    assert not any(state_of(each, tmp_path).done for each in (base, cell))
    with pytest.raises(UserError, match="2 of 2 cells are not done.*mine.csv: it was edited since .*metadata was made"):
        reproduce("table3", grid, tmp_path)
    write_table(tmp_path / "data")
    assert reproduce("table3", grid, tmp_path)


def test_a_cell_of_a_version_before_stays_done_on_a_base_with_lists(tmp_path, stages):
    base, cell = cells_of("table3", asked())
    execute([base, cell], tmp_path, ClusterSettings())
    write_json(base.folder(tmp_path) / "lists.json", {"classes": "1"})
    assert state_of(cell, tmp_path).done


def test_a_cell_whose_results_are_gone_is_to_do(tmp_path, stages):
    base, cell = cells_of("table3", asked())
    execute([base, cell], tmp_path, ClusterSettings())
    (cell.folder(tmp_path) / "results.json").unlink()
    assert [state_of(each, tmp_path).done for each in (base, cell)] == [True, False]
    assert reproduce("table3", asked(), tmp_path) and state_of(cell, tmp_path).done


@pytest.mark.parametrize("content, told", [("[]", "a JSON object, found"), ('{"seconds": "x"}', "seconds: expected"),
                                           ('{"error": 3}', "error: expected")])
def test_a_foreign_cell_is_told(tmp_path, stages, content, told):
    base = cells_of("table3", asked())[0]
    base.folder(tmp_path).mkdir(parents=True)
    (base.folder(tmp_path) / "cell.json").write_text(content)
    with pytest.raises(UserError, match=f"cell.json: .*{told}"):
        reproduce("table3", asked(), tmp_path)


@pytest.mark.parametrize("content", ["[]", '{"table": []}', '{"table": 3}'])
def test_foreign_tables_are_told(tmp_path, stages, content):
    (tmp_path / "tables.json").write_text(content)
    with pytest.raises(UserError, match="tables.json: "):
        reproduce("table3", asked(), tmp_path)


def test_a_cell_that_fails_is_told_and_the_others_go_on(tmp_path, stages, monkeypatch, capsys):
    report = work.STAGES["report"]

    def fails(run):
        if "diversity" in run.out.name:
            raise RuntimeError("no luck")
        report(run)

    monkeypatch.setitem(work.STAGES, "report", fails)
    with pytest.raises(UserError, match=r"1 of 5 cells are not done, .*diversity.*no luck"):
        reproduce("table2", asked(), tmp_path)
    assert "fold1-gan_att_small-both" in {name for name, _ in stages}
    failed = next(cell for cell in cells_of("table2", asked()) if "diversity" in cell.name)
    assert "RuntimeError" in (failed.folder(tmp_path) / "failure.txt").read_text()
    monkeypatch.setitem(work.STAGES, "report", report)
    stages.clear()
    reproduce("table2", asked(), tmp_path)
    assert {name for name, _ in stages} == {"fold1-gan_att_small-diversity"}


def test_what_stands_on_a_failed_cell_is_not_tried(tmp_path, stages, monkeypatch):
    monkeypatch.setitem(work.STAGES, "pool", lambda run: (_ for _ in ()).throw(UserError("no pool")))
    base, cell = execute(cells_of("table3", asked()), tmp_path, ClusterSettings())
    assert (base.done, base.error) == (False, "no pool")
    assert not cell.done and not cell.cell.folder(tmp_path).exists()


@pytest.mark.slow
def test_jobs_through_submitit_give_what_is_done_here(tmp_path):
    """Its local executor, on cells that fail early, for a stage runs in the job's own process: nothing is patched."""
    pytest.importorskip("submitit")
    cells = cells_of("table3", asked(run=wanted(corpus="ravdess", root=str(tmp_path / "nowhere"), budgets=(100,))))
    here = execute(cells, tmp_path / "here", ClusterSettings())
    jobs = execute(cells, tmp_path / "jobs", ClusterSettings(cluster="local", gpus=0, cores=1, memory=2))
    assert [state.error for state in jobs] == [state.error for state in here]
    assert "nowhere" in str(here[0].error)


# tables


def test_tables_of_the_paper_put_its_numbers_beside_ours(tmp_path, stages, capsys):
    printed = {table.name: table for table in reproduce("all", asked(), tmp_path)}
    assert printed["table1"].rows == [
        ["audio", "0.00", "-", "75.0%", "[1800]"], ["features", "0.00", "-", "-", "[2400]"],
        ["gan_att_small", "0.00", "95.0%", "98.8%", "[60]"]]
    assert printed["table2"].title == "Table 2: UAR % by losses, made, made, fold1"
    assert printed["table2"].rows == [
        ["gan_att_small, full size", "65.0 +- 1.4", "65.0 +- 1.4", "75.0 +- 1.4", "75.0 +- 1.4"],
        ["gan_att_small, 100 a class", "60.0 +- 1.4", "60.0 +- 1.4", "70.0 +- 1.4", "70.0 +- 1.4 [61.95]"]]
    assert printed["table3"].rows == [
        ["real", "80.0 +- 1.4 [64.20]", "-"], ["gan_att_small", "-", "75.0 +- 1.4 [64.50]"]]
    beyond = printed["beyond"]
    row = next(row for row in beyond.rows if row[0] == "GAN samples, 100 a class" and row[1] == "cnn")
    assert row[-3:] == ["", "5.0", ""]  # HLR, IOR, LRS
    kept = json.loads((tmp_path / "tables.json").read_text())
    assert {table["name"] for table in kept.values()} == set(printed)
    assert "| gan_att_small" in (tmp_path / "tables.md").read_text()
    assert "Table 2" in (tmp_path / "tables.txt").read_text() and "Table 2" in capsys.readouterr().out


def test_hard_labels_have_all_of_dd_rankings_scores_and_hard_rivals(tmp_path, stages):
    run = wanted(budgets=(100,), labels="hard", center=False)
    [beyond] = reproduce("beyond", asked(run=run), tmp_path)
    row = next(row for row in beyond.rows if row[0] == "GAN samples, 100 a class")
    assert row[-3:-1] == ["10.0", "10.0"] and row[-1] != ""
    assert all(row[-3:] == ["", "", ""] for row in beyond.rows if row[0].startswith("random real"))


def test_one_table_after_the_other_stand_together(tmp_path, stages):
    for name in ("table3", "table1", "table3"):
        reproduce(name, asked(), tmp_path)
    kept = json.loads((tmp_path / "tables.json").read_text())
    assert [table["name"] for table in kept.values()] == ["table1", "table3"]
    text = (tmp_path / "tables.txt").read_text()
    assert text.index("Table 1") < text.index("Table 3") and text.count("Table 3") == 1
    expected = print_tables(["table1", "table3"], cells_of("table3", asked()), tmp_path)
    assert kept == {table.title: json.loads(json.dumps(table.as_json())) for table in expected}


def test_table_4_reads_what_was_measured(tmp_path, stages, monkeypatch):
    def measure(out, sid_root, sid_list, baseline, settings):
        interval = Interval(0.4, 0.3, 0.5)
        row = {"sid_accuracy": interval, "per_seed": [0.4], "lr": 0.1, "train_accuracy": 1.0, "ser_uar": 0.7,
               "heads": ["x"], "command": "python"}
        tree = {"root": "tree", "list": "list.txt", "speakers": 10, "train": 1, "dev": 1, "test": 1, "chance": 0.1,
                "majority": 0.1, "split_by": None, "synthetic": False, "measure": "", "rows": {"proposed": row}}
        write_json(out / "privacy" / "results.json", {"sid": {"tree": tree}, "attacks": {}})
        assert "baseline" in baseline.name

    monkeypatch.setattr(work, "measure", measure)
    table = reproduce("table4", asked(sid_root=("tree",)), tmp_path)[0]
    assert table.rows == [["tree: 10 speakers", "SER head on the proposed GAN", "40.0 [37.99]", "30 .. 50", "70.0"]]
    everything = reproduce("all", asked(sid_root=("tree",)), tmp_path)  # the cell of speakers is no run
    assert {table.name for table in everything} == {"table1", "table2", "table3", "table4", "beyond"}


def test_what_is_not_done_leaves_a_dash(tmp_path, stages):
    cells = cells_of("table2", asked())
    execute(cells[:2], tmp_path, ClusterSettings())
    assert print_tables(["table2"], cells, tmp_path)[0].rows[0][1:] == ["65.0 +- 1.4", "-", "-", "-"]


def test_a_mean_over_some_of_the_folds_says_so(tmp_path, stages):
    cells = cells_of("table2", asked(test_folds=("fold1", "fold2")))
    execute([cell for cell in cells if cell.settings.corpus.fold == "fold1" or cell.losses in (None, "baseline")],
            tmp_path, ClusterSettings())
    row = print_tables(["table2"], cells, tmp_path)[0].rows[0]
    assert row[1:3] == ["65.0 +- 1.4", "65.0 +- 1.4 on fold1 only"]
    assert print_tables(["table3"], cells, tmp_path)[0].rows[1][-1] == "75.0 +- 1.4 on fold1 only [64.50]"


def test_losses_have_their_gain_over_the_baseline(tmp_path, stages):
    """Of the same network and size, on the same test speakers; every speaker has both classes here."""
    cells = cells_of("table2", asked(test_folds=("fold1", "fold2")))
    execute(cells, tmp_path, ClusterSettings())
    truth = [0, 1] * 6
    for cell in cells:
        path = cell.folder(tmp_path) / "results.json"
        if not path.is_file():
            continue
        results = Results.read(path)
        found = [0] * 12 if cell.losses == "baseline" else truth
        arms = {name: dataclasses.replace(arm, predicted=[found, found]) for name, arm in results.arms.items()}
        test = TestList(truth=truth, speakers=[f"s{place // 4}" for place in range(12)])
        dataclasses.replace(results, arms=arms, test=test).write(path)
    table = print_tables(["table2"], cells, tmp_path)[0]
    assert table.values["gan_att_small, full size"]["both"]["gain"] == Interval(0.5, 0.5, 0.5)
    assert table.values["gan_att_small, full size"]["baseline"]["gain"] is None
    assert table.rows[0][1:3] == ["65.0 +- 1.4", "65.0 +- 1.4 (gain 50.0, 50.0 .. 50.0)"]
    assert "95 % interval" in table.notes[-1]


def test_a_value_is_ours_its_spread_and_the_paper_s():
    assert Value(0.5, 0.01, 0.6, Interval(0.02, -0.01, 0.05)).text() == "50.0 +- 1.0 (gain 2.0, -1.0 .. 5.0) [60.00]"
    assert Value(0.5, 0.01, 0.6195).text() == "50.0 +- 1.0 [61.95]"
    assert Value(0.5).text() == "50.0"
    assert (family("gan_cnn_small"), family("gan_1d")) == ("GAN-CNN", None)


# what is printed before


def test_the_plan_shows_what_is_done_and_runs_nothing(tmp_path, stages, capsys):
    cells = cells_of("table2", asked())
    execute(cells[:2], tmp_path, ClusterSettings())
    stages.clear()
    assert reproduce("table2", dataclasses.replace(asked(), dry_run=True), tmp_path) == []
    lines = capsys.readouterr().out.splitlines()
    assert not stages
    assert [line.split()[-2] for line in lines if line.startswith("fold1")] == ["done", "done", "do", "do", "do"]
    assert "2 of 5 cells are done" in plan(cells, tmp_path)
    assert state_of(cells[0], tmp_path).done


def test_the_plan_counts_the_heads_of_each_arm(tmp_path):
    run = wanted(rivals=["teacher", "random_real"], seeds=5, rival_seeds=3, budgets=(6, 100), head_lrs=(1e-3, 1e-4))
    lines = plan(cells_of("beyond", asked(other_heads=(), run=run)), tmp_path).splitlines()
    heads = {line.split()[0]: int(line.split()[3]) for line in lines if line.startswith("fold1")}
    samples, subsets = 3 * 5, 2 * 3  # full size, 6 and 100 a class; subsets of real data have no full size
    assert heads == {"fold1-base": 5 * 2, "fold1-superb": (samples + subsets) * 2}  # the teacher is no head to train


def test_a_corpus_that_is_not_there_is_not_planned_for(tmp_path):
    settings = asked(dry_run=True)
    corpus = dataclasses.replace(settings.run.corpus, corpus="ravdess", root=str(tmp_path / "RAVDESS"))
    gone = dataclasses.replace(settings, run=dataclasses.replace(settings.run, corpus=corpus))
    with pytest.raises(UserError, match="RAVDESS: no such file or folder. Check --root"):
        reproduce("table2", gone, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_each_kind_of_network_is_projected_by_steps_of_its_own(tmp_path, monkeypatch):
    timed = []
    monkeypatch.setattr(plans, "rate_of", lambda name: timed.append(name) or {"gan_1d": 1e12, "gan_att": 1e9}[name])
    text = plan(cells_of("all", asked(other_heads=())), tmp_path)
    assert timed == ["gan_1d", "gan_att"] and "3 steps of gan_1d, gan_att_small timed just now" in text
    minutes = {line.split()[0]: int(line.split()[-1]) for line in text.splitlines() if line.startswith("fold1")}
    assert minutes["fold1-gan_att_small-both"] > 10 * minutes["fold1-superb"]


def test_what_fits_no_cell_is_refused_before_any_work(tmp_path, stages):
    with pytest.raises(UserError, match="--sid-root"):
        reproduce("table4", asked(), tmp_path)
    with pytest.raises(UserError, match="--base"):
        reproduce("table3", asked(run=wanted(base="x")), tmp_path)
    assert not stages

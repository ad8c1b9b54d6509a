"""The recipe's own logic: settings that stay, scores read from S3PRL's log, the table."""

import json
import shlex

import pytest
from support.gauss import LABELS, write_run

from s3prl_dd import cli
from s3prl_dd.recipe import stages as recipe
from s3prl_dd.corpora.metadata import Metadata, Utterance
from s3prl_dd.errors import UserError
from s3prl_dd.evaluation.report import collect, order, table
from s3prl_dd.plugin import workers
from s3prl_dd.recipe.stages import SCORES, Run, Settings, best_on_dev, points

# settings


def test_settings_are_kept(tmp_path):
    first = Settings.of(tmp_path, {"corpus": "ravdess", "root": str(tmp_path), "experts": 3, "overrides": ["steps=5"], "out": "not a setting",
                                   "layer": None})
    assert first.root == str(tmp_path.resolve()) and first.experts == 3 and first.upstream == Settings().upstream
    assert json.loads((tmp_path / "run.json").read_text())["overrides"] == ["steps=5"]
    assert Settings.of(tmp_path, {}) == first
    assert Settings.of(tmp_path, {"corpus": "ravdess", "experts": 3}) == first


@pytest.mark.parametrize("change", [{"corpus": "emodb"}, {"upstream": "hubert"}, {"fold": "fold2"}, {"experts": 4}, {"overrides": ["steps=6"]},
                                    {"normalize": True}, {"head_lrs": [1e-2]}, {"labels": "hard"}, {"layer": 3}])
def test_changed_settings_are_refused(tmp_path, change):
    Settings.of(tmp_path, {"corpus": "ravdess"})
    before = (tmp_path / "run.json").read_text()
    (key, value), = change.items()
    with pytest.raises(UserError, match=f"this run's {key} is .* is asked for. Take another --out"):
        Settings.of(tmp_path, change)
    assert (tmp_path / "run.json").read_text() == before


def test_settings_that_may_change(tmp_path):
    Settings.of(tmp_path, {"device": "cpu"})
    changed = Settings.of(tmp_path, {"device": "cuda", "jobs": 3, "budgets": [6, 12], "seeds": 5})
    assert (changed.device, changed.jobs, changed.budgets, changed.seeds) == ("cuda", 3, [6, 12], 5)
    assert Settings.of(tmp_path, {}) == changed


def test_only_the_leading_rank_writes_settings(tmp_path):
    Settings.of(tmp_path, {"experts": 4}, write=False)
    assert not (tmp_path / "run.json").exists()


@pytest.mark.parametrize("change, told", [({"overrides": ["stepz=5"]}, "unknown key 'stepz'"), ({"config": "gan_9d"}, "no such configuration"),
                                          ({"labels": "firm"}, "expected soft or hard"), ({"overrides": ["teacher=false"]}, "carries no teacher")])
def test_mistakes_show_before_they_are_kept(tmp_path, change, told):
    with pytest.raises(UserError, match=told):
        Settings.of(tmp_path, change)
    assert not (tmp_path / "run.json").exists()


def test_command_line_reaches_the_settings(tmp_path, capsys):
    """`s3prl-dd distill` on an empty run: flags are kept, and the missing stage is named."""
    out = str(tmp_path / "run")
    assert cli.main(["distill", "--out", out, "--head-lrs", "0.01", "0.1", "--budgets", "6", "12", "--no-normalize", "--overrides", "steps=3"]) == 2
    kept = json.loads((tmp_path / "run/run.json").read_text())
    assert (kept["head_lrs"], kept["budgets"], kept["normalize"], kept["overrides"]) == ([0.01, 0.1], [6, 12], False, ["steps=3"])
    assert "s3prl-dd prepare" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["distill", "--out", out, "--corpus", "nothing"])


# scores


LOG = """train at step 10: 0.9
dev at step 10: 0.5
dev uar at step 10: 0.41
New best on dev at step 10: 0.5
test at step 10: 0.61
test uar at step 10: 0.62
dev at step 20: 0.7
dev uar at step 20: 0.53
New best on dev at step 20: 0.7
test at step 20: 0.31
test uar at step 20: 0.32
dev at step 30: 0.9
dev uar at step 30: 0.53
test at step 30: 0.91
test uar at step 30: 0.92
dev at step 40: 0.99
dev uar at step 40: 0.99
test at step 40: 0.99
"""


def test_best_on_dev_is_by_dev_uar_and_the_first_of_equals(tmp_path):
    (tmp_path / "log.log").write_text(LOG)
    assert best_on_dev(tmp_path, SCORES) == {"step": 20, "dev_uar": 0.53, "uar": 0.32, "accuracy": 0.31}


def test_log_without_scores_is_told(tmp_path):
    (tmp_path / "log.log").write_text("dev at step 10: 0.5\ntest at step 10: 0.4\n")
    with pytest.raises(UserError, match="no step with all of dev uar, test uar, test"):
        best_on_dev(tmp_path, SCORES)


def test_points():
    assert points("real", [5, 3, 4]) == points("distilled_full", [5, 3, 4]) == points("distilled_original", [5, 3, 4]) == 12
    assert points("distilled_6ppc", [5, 3, 4]) == 18 and points("random_real_4ppc", [5, 3, 4]) == 11


def test_missing_stage_is_named(tmp_path):
    with pytest.raises(UserError, match="pool.safetensors: not there yet. Run `s3prl-dd experts` first"):
        recipe.need(tmp_path / "pool.safetensors", "experts")


@pytest.fixture
def run(tmp_path):
    """A run's folder with metadata, features, generator, and heads' scores, all made."""
    out = write_run(tmp_path / "run")
    (out / "generator.safetensors").write_bytes(b"x" * 5000)
    for item in Metadata.read(out / "metadata/Session1/train_meta_data.json").utterances:
        (out / item.path).parent.mkdir(exist_ok=True)
        (out / item.path).write_bytes(b"x" * 1000)
    scores = {"real": [0.80, 0.84], "distilled_full": [0.79, 0.75], "distilled_6ppc": [0.7, 0.7], "distilled_100ppc": [0.76, 0.76],
              "random_real_6ppc": [0.6, 0.64], "random_real_100ppc": [0.8, 0.8]}
    for arm, uars in scores.items():
        for seed, uar in enumerate(uars):
            folder = out / "exp" / f"{arm}_seed{seed}"
            folder.mkdir(parents=True)
            (folder / "run.json").write_text(json.dumps({"arm": arm, "seed": seed, "seconds": 60 + seed, "step": 5, "dev_uar": 0.9, "uar": uar,
                                                         "accuracy": 0.5, "command": f"python {arm}", "lr": 1e-3, "expdir": folder.name}))
    (out / "gan").mkdir()
    (out / "gan/seconds.json").write_text('{"distill": 123.4}')
    return Run(out, Settings.of(out, {"labels": "hard", "upstream": "made", "seeds": 2}))


def test_collect(run):
    results = collect(run)
    counts = run.fold.train.class_counts
    assert list(results["arms"]) == ["real", "distilled_full", "distilled_100ppc", "distilled_6ppc", "random_real_100ppc", "random_real_6ppc"]
    real = results["arms"]["real"]
    assert real["uar"] == pytest.approx(0.82) and real["uar_per_seed"] == [0.80, 0.84] and real["train_seconds"] == 60.5
    found = {arm: score["points"] for arm, score in results["arms"].items()}
    assert found == {"real": sum(counts), "distilled_full": sum(counts) // 3 * 3, "distilled_100ppc": 300, "distilled_6ppc": 18,
                     "random_real_100ppc": sum(counts), "random_real_6ppc": 18}  # real subsets cannot be larger than the corpus
    assert results["bytes"]["audio"] == 1000 * sum(counts) and results["bytes"]["generator"] == 5000
    frames = json.loads("[" + ",".join((run.features / "index.jsonl").read_text().splitlines()) + "]")
    train = {item.path for item in run.fold.train.utterances}
    assert results["bytes"]["features_float32"] == sum(entry["frames"] for entry in frames if entry["id"] in train) * 10 * 4
    assert results["distill_seconds"] == 123.4 and results["test_utterances"] == 36 and results["fold"] == "fold1"
    assert {"torch", "s3prl", "s3prl_dd"} <= set(results["versions"])


def test_table(run):
    lines = table(collect(run)).splitlines()
    assert lines[1] == ("gauss, made, fold1: SER head by S3PRL's runner, UAR on 36 test utterances (synthetic speech) of held-out speakers, 2 seeds")
    assert lines[3].split() == ["trained", "on", "points", "UAR", "%", "+-", "acc", "%", "seconds"]
    count = sum(run.fold.train.class_counts)
    assert lines[5:11] == [
        f"all real data                    {count:>7}    82.0   2.8    50.0       60",
        f"GAN samples, full size           {count // 3 * 3:>7}    77.0   2.8    50.0       60",
        "GAN samples, 100 a class             300    76.0   0.0    50.0       60",
        "GAN samples, 6 a class                18    70.0   0.0    50.0       60",
        f"random real subset, 100 a class  {count:>7}    80.0   0.0    50.0       60",
        "random real subset, 6 a class         18    62.0   2.8    50.0       60"]
    assert any(line.startswith("generator file") and "0.01 MB" in line and "% of the audio" in line for line in lines)
    assert "distillation" in lines[-2] and "123 s" in lines[-2] and "hard labels" in lines[-1]


def test_report_writes_what_it_prints(run, capsys):
    recipe.report(run)
    results = json.loads((run.out / "results.json").read_text())
    assert table(results) in capsys.readouterr().out


def test_order():
    arms = ["random_real_6ppc", "distilled_6ppc", "real", "distilled_100ppc", "distilled_full"]
    assert sorted(arms, key=order) == ["real", "distilled_full", "distilled_100ppc", "distilled_6ppc", "random_real_6ppc"]


# S3PRL's runner


def test_finished_runs_are_not_run_again(run, monkeypatch):
    calls = []
    monkeypatch.setattr(recipe, "run_downstream", lambda *arguments, **_: calls.append(arguments[1:]) or
                        {"uar": 0.5, "dev_uar": 0.5, "seconds": 1})
    run.settings.budgets, run.settings.seeds = [6], 3
    recipe.train(run)
    assert sorted(calls) == [("distilled_6ppc", 2, 1e-3), ("distilled_full", 2, 1e-3), ("random_real_6ppc", 2, 1e-3)]


def test_command_of_an_arm(run, monkeypatch):
    """The literal command of S3PRL, and its failure with the end of the log."""
    commands = []

    def fake(command, log, threads):
        commands.append(command)
        (run.expdir("distilled_6ppc", 7) / "log.log").write_text(LOG)
        log.write_text("loading\rtraining\nValueError: it broke\n")
        return len(commands) - 1

    monkeypatch.setattr(workers, "run_downstream", fake)
    run.settings.layer, run.settings.device = 3, "cpu"
    score = recipe.run_downstream(run, "distilled_6ppc", 7, 1e-3)
    assert score["uar"] == 0.32 and json.loads((run.expdir("distilled_6ppc", 7) / "run.json").read_text()) == score
    command = commands[0]
    flag = lambda name: command[command.index(name) + 1]
    assert command[:2] == ["-m", "train"]
    assert (flag("-d"), flag("-u"), flag("--seed"), flag("-l"), flag("-p")) == (
        "distilled_emotion", "made", "7", "3", str(run.expdir("distilled_6ppc", 7)))
    options = dict(item.split("=", 1) for item in flag("-o").split(",,"))
    assert options["config.downstream_expert.datarc.budget"] == "6" and options["config.downstream_expert.datarc.labels"] == "'hard'"
    assert options["config.downstream_expert.datarc.test_fold"] == "'fold1'" and options["config.optimizer.lr"] == "0.001"
    assert shlex.split(score["command"]) == ["python", "-m", "s3prl_dd.run_downstream", *command]
    with pytest.raises(UserError, match="(?s)ended with code 1.*stdout.log:.*ValueError: it broke"):
        recipe.run_downstream(run, "distilled_6ppc", 7, 1e-3)
    downstream, _ = recipe.arm_overrides(run, "random_real_6ppc", 1e-3)
    assert downstream == "emotion"


def test_experts_and_distill_leave_finished_files_alone(run, capsys):
    recipe.experts(run), recipe.distill(run)
    told = capsys.readouterr().out
    assert "pool is there" in told and "generator is there" in told


def test_labels_of():
    metadata = Metadata(LABELS, (Utterance("a", "sad", "s"), Utterance("b", "neu", "s")))
    assert recipe.labels_of(metadata).tolist() == [2, 0]


# learning rates, runs on a base, runs side by side


def keep_score(out, arm, seed, uar, dev_uar, lr=1e-3, suffix="", predicted=None):
    folder = out / "exp" / f"{arm}_seed{seed}{suffix}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps({"arm": arm, "seed": seed, "seconds": 1, "step": 5, "dev_uar": dev_uar, "uar": uar,
                                                 "accuracy": 0.5, "command": "", "lr": lr, "expdir": folder.name, "predicted": predicted}))


def test_each_head_takes_the_learning_rate_that_is_best_on_dev(run):
    """By dev, though test is worse; of equals the first."""
    keep_score(run.out, "real", 0, 0.1, 0.95, 1e-2, "_lr0.01")
    keep_score(run.out, "real", 1, 0.1, 0.9, 1e-2, "_lr0.01")
    assert collect(run)["arms"]["real"]["uar_per_seed"] == [0.1, 0.84] and collect(run)["arms"]["real"]["lr_per_seed"] == [1e-2, 1e-3]
    run.settings.head_lrs = [1e-3, 1e-2]
    assert run.expdir("real", 0, 1e-3) == run.expdir("real", 0) == run.out / "exp/real_seed0"
    assert run.expdir("real", 0, 1e-2) == run.out / "exp/real_seed0_lr0.01"
    assert recipe.arm_overrides(run, "real", 1e-2)[1]["config.optimizer.lr"] == 1e-2


def test_a_run_on_a_base_takes_all_but_its_generator_from_there(run, tmp_path):
    out = tmp_path / "variant"
    settings = Settings.of(out, {"base": str(run.out), "config": "ablation_sml", "labels": "hard", "center": False, "seeds": 2})
    other = Run(out, settings)
    assert (settings.upstream, settings.corpus, settings.config) == ("made", run.settings.corpus, "ablation_sml")
    assert (other.metadata, other.features, other.pool) == (run.metadata, run.features, run.pool)
    assert other.expdir("real", 1) == run.expdir("real", 1) and other.expdir("distilled_full", 1) == out / "exp/distilled_full_seed1"
    keep_score(out, "distilled_full", 0, 0.3, 0.9)
    arms = collect(other)["arms"]
    assert set(arms) == {"real", "random_real_6ppc", "random_real_100ppc", "distilled_full"} and arms["distilled_full"]["uar_per_seed"] == [0.3]
    again = {"base": str(run.out), "config": "ablation_sml", "labels": "hard", "center": False, "seeds": 2}
    assert Settings.of(out, {}) == Settings.of(out, again) == settings
    third = Settings.of(tmp_path / "third", {"base": str(out)})  # all as it is there, but in a folder of its own
    assert third == Settings.of(tmp_path / "third", {"base": str(out)})  # the same command again
    assert (third.base, third.config, third.labels, third.center) == (str(out), "ablation_sml", "hard", False)
    with pytest.raises(UserError, match="--upstream fbank: --base .* was made with made"):
        Settings.of(tmp_path / "fourth", {"base": str(run.out), "upstream": "fbank"})
    with pytest.raises(UserError, match="run.json: not there yet"):
        Settings.of(tmp_path / "fifth", {"base": str(tmp_path / "nothing")})


def test_what_a_variant_takes_from_which_base(run, tmp_path):
    """The generator from the first with the same configuration, heads on real data from the first with the same head."""
    def variant(name, base, **changes):
        return Run(tmp_path / name, Settings.of(tmp_path / name, {"base": str(base.out), **changes}))

    sml = variant("sml", run, config="ablation_sml")
    hard, attentive = variant("hard", sml, center=False), variant("attentive", run, head="attentive", lengths="corpus")
    both = variant("both", attentive, config="ablation_both")
    assert (sml.generator, hard.generator, attentive.generator, both.generator) == (
        sml.out / "generator.safetensors", sml.out / "generator.safetensors", run.generator, both.out / "generator.safetensors")
    assert sml.gan == hard.gan == sml.out / "gan" and attentive.gan == run.gan
    assert [each.exp("real") for each in (sml, hard, attentive, both)] == [run.out / "exp", run.out / "exp", attentive.out / "exp",
                                                                         attentive.out / "exp"]
    assert all(each.exp("distilled_full") == each.out / "exp" and each.pool == run.pool for each in (sml, hard, attentive, both))
    data = {key.removeprefix("config.downstream_expert."): value for key, value in recipe.arm_overrides(both, "real", 1e-3)[1].items()}
    assert data["modelrc.UtteranceLevel.pooling"] == "AttentivePooling" and "datarc.lengths" not in data
    assert recipe.arm_overrides(both, "distilled_full", 1e-3)[1]["config.downstream_expert.datarc.lengths"] == "corpus"
    moved = tmp_path / "moved"
    sml.out.rename(moved)
    with pytest.raises(UserError, match="sml/run.json: not there yet"):  # a base that is gone is told, not made up from defaults
        Run.open(hard.out)
    moved.rename(sml.out)
    changed = variant("changed", variant("overridden", run, overrides=["steps=7"]), config="ablation_both")
    assert changed.settings.overrides == []  # they were of the other configuration
    for key, value in (("head", "tail"), ("lengths", "long")):
        with pytest.raises(UserError, match=f"--{key} {value}: expected"):
            Settings.of(tmp_path / "wrong", {key: value})


def test_compare(run, tmp_path, capsys):
    out = tmp_path / "variant"
    other = Run(out, Settings.of(out, {"base": str(run.out), "config": "ablation_sml", "labels": "hard", "center": False, "seeds": 2}))
    keep_score(out, "distilled_full", 0, 0.3, 0.9), keep_score(out, "distilled_full", 1, 0.5, 0.9)
    for each in (run, other):
        (each.out / "results.json").write_text(json.dumps(collect(each)))
    assert cli.main(["compare", str(run.out), str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    real, = (line for line in lines if line.startswith("all real data"))
    assert real.split()[3:] == ["82.0", "82.0", "2.8", "2", "100.0%"]
    sml, = (line for line in lines if "ablation_sml" in line)
    assert "hard labels uncentred" in sml and sml.split()[-5:] == ["40.0", "40.0", "14.1", "2", "48.8%"]
    assert sum(line.startswith("GAN samples, full size") for line in lines) == 2
    assert cli.main(["compare", str(tmp_path)]) == 2 and "results.json: not there" in capsys.readouterr().err

    attentive = Run(tmp_path / "attentive", Settings.of(tmp_path / "attentive", {"base": str(run.out), "head": "attentive"}))
    keep_score(attentive.out, "real", 0, 0.5, 0.9), keep_score(attentive.out, "distilled_full", 0, 0.4, 0.9)
    (attentive.out / "results.json").write_text(json.dumps(collect(attentive)))
    assert cli.main(["compare", str(run.out), str(attentive.out)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "attentive head" in line]
    assert [row[-1] for row in rows] == ["100.0%", "80.0%"]

    keep_score(run.out, "real", 0, 0.1, 0.99)  # the base's heads have changed since the variant's report
    (run.out / "results.json").write_text(json.dumps(collect(run)))
    assert cli.main(["compare", str(run.out), str(out)]) == 2
    assert "the row 'all real data' of fold1 differs" in capsys.readouterr().err


def test_compare_tells_chance_from_difference(run, tmp_path, capsys):
    """With predictions kept, each row's distance to all real data, its interval over speakers, and McNemar's p."""
    truth = [run.fold.test.labels[item.label] for item in run.fold.test.utterances]
    wrong = [(label + 1) % 3 for label in truth]
    for seed in range(2):
        keep_score(run.out, "real", seed, 1.0, 0.95, 1e-2, "_lr0.01", truth), keep_score(run.out, "distilled_full", seed, 0.0, 0.95, 1e-2, "_lr0.01", wrong)
    (run.out / "results.json").write_text(json.dumps(collect(run)))
    assert cli.main(["compare", str(run.out), "--out", str(tmp_path / "comparison")]) == 0
    text = capsys.readouterr().out
    row, = (line for line in text.splitlines() if line.startswith("GAN samples, full size"))
    assert row.split()[-6:-1] == ["0.0%", "-100.0", "-100.0", "..", "-100.0"] and float(row.split()[-1]) < 1e-6
    assert (tmp_path / "comparison/comparison.txt").read_text() == text and (tmp_path / "comparison/comparison.png").read_bytes()[:4] == b"\x89PNG"
    rows = json.loads((tmp_path / "comparison/comparison.json").read_text())["rows"]
    found = {row["arm"]: row for row in rows}
    assert found["distilled_full"]["minus_real"] == [-1, -1, -1] and found["distilled_full"]["uar"] == {"fold1": [0, 0]}
    assert found["distilled_6ppc"]["minus_real"] is None and found["real"]["of_real"] == 1  # no predictions were kept there

"""What S3PRL's runner is told for an arm, and what is kept of its run."""

import json
import shlex
import shutil
from dataclasses import replace

import pytest
from support.recipe import variant

from s3prl_dd.arms import REAL, Arm
from s3prl_dd.errors import UserError
from s3prl_dd.files import file_digest
from s3prl_dd.generator.store import FORMAT
from s3prl_dd.metrics import BEST_PREDICTIONS
from s3prl_dd.plugin import runs
from s3prl_dd.recipe import stages, training
from s3prl_dd.recipe.folder import Run
from s3prl_dd.recipe.training import Job, as_downstream, check_trained_on, train_head

SIX = Arm.parse("distilled_6ppc")
LOG = """dev at step 10: 0.5
dev uar at step 10: 0.41
test at step 10: 0.61
test uar at step 10: 0.62
dev at step 20: 0.7
dev uar at step 20: 0.53
test at step 20: 0.31
test uar at step 20: 0.32
"""


def datarc(downstream):
    start = "config.downstream_expert.datarc."
    return {key.removeprefix(start): value for key, value in downstream.overrides.items() if key.startswith(start)}


def test_finished_runs_are_not_run_again(run, monkeypatch):
    trained = []

    def fake(run, job, threads):
        trained.append((job.arm.name, job.seed, job.lr))
        return next(score for score in run.scores())

    monkeypatch.setattr(training, "train_head", fake)
    monkeypatch.setattr(stages, "_fill_means", lambda run: None)
    stages.train(Run(run.out, run.settings.changed(budgets=(6,), seeds=3)))
    assert sorted(trained) == [("distilled_6ppc", 2, 1e-3), ("distilled_full", 2, 1e-3), ("random_real_6ppc", 2, 1e-3)]


@pytest.fixture
def commands(run, monkeypatch):
    """Command lines that S3PRL's runner was started with; the first run ends well, the others do not."""
    commands = []

    def fake(command, log, threads):
        commands.append(command)
        expdir = run.expdir(SIX, 7, 1e-3)
        (expdir / "log.log").write_text(LOG)
        (expdir / BEST_PREDICTIONS).write_text(json.dumps({"step": 20, "predicted": [0, 2, 1]}))
        log.write_text("loading\rtraining\nValueError: it broke\n")
        return len(commands) - 1

    monkeypatch.setattr(runs.workers, "run_downstream", fake)
    return commands


def test_command_of_an_arm(run, commands):
    """The literal command of S3PRL, its score, and its failure with the end of the log."""
    run = Run(run.out, run.settings.changed(layer=3, upstream_ckpt="made.ckpt", normalize=True))
    score = train_head(run, Job(SIX, 7, 1e-3))
    kept = json.loads((run.expdir(SIX, 7, 1e-3) / "run.json").read_text())
    assert (score.uar, score.dev_uar, score.accuracy, score.step, score.predicted) == (0.32, 0.53, 0.31, 20, [0, 2, 1])
    assert kept["uar"] == 0.32 and kept["arm"] == "distilled_6ppc" and kept["predicted"] == [0, 2, 1]
    command = commands[0]
    flags = {
        name: command[command.index(name) + 1]
        for name in ("-d", "-u", "-k", "-l", "-s", "-p", "--seed", "--device", "--feature_folder", "-o")
    }
    options = dict(item.split("=", 1) for item in flags.pop("-o").split(",,"))
    assert flags == {
        "-d": "distilled_emotion",
        "-u": "made",
        "-k": "made.ckpt",
        "-l": "3",
        "-s": "hidden_states",
        "-p": str(run.expdir(SIX, 7, 1e-3)),
        "--seed": "7",
        "--device": "cpu",
        "--feature_folder": str(run.means),
    }
    assert command[:2] == ["-m", "train"] and "--upstream_feature_normalize" in command and "-a" in command
    assert options["config.downstream_expert.datarc.budget"] == "6" and options["config.optimizer.lr"] == "0.001"
    assert shlex.split(score.command) == ["python", "-m", "s3prl_dd.run_downstream", *command]
    with pytest.raises(UserError, match="(?s)ended with code 1.*stdout.log:.*ValueError: it broke"):
        train_head(run, Job(SIX, 7, 1e-3))


def test_predictions_of_another_step_are_not_kept(run, commands):
    expdir = run.expdir(SIX, 7, 1e-3)
    assert training._predictions(expdir, 20) is None
    expdir.mkdir(parents=True)
    (expdir / BEST_PREDICTIONS).write_text(json.dumps({"step": 10, "predicted": [0]}))
    assert training._predictions(expdir, 20) is None and training._predictions(expdir, 10) == [0]


def test_heads_of_another_generator_file_are_no_heads_of_this_one(run, commands):
    """Whoever deletes the file to distil anew has their scores still."""
    assert train_head(run, Job(SIX, 7, 1e-3)).generator == file_digest(run.generator)
    check_trained_on(run)
    run.generator.write_bytes(b"another")
    with pytest.raises(UserError, match=r"distilled_6ppc_seed7.*: trained on samples of another file than .*generator"):
        stages.train(run)
    (run.expdir(SIX, 7, 1e-3) / "run.json").unlink()
    check_trained_on(run)  # heads of versions before do not say of what they are


@pytest.mark.parametrize("head, refused", [("attentive", True), ("superb", False)])
def test_heads_that_hear_frames_of_an_older_way_of_drawing(head, refused, run, commands):
    """A run that goes on with them would mix two kinds of samples; utterance means are the same."""
    shutil.rmtree(run.out / "exp")
    run = Run(run.out, replace(run.settings, heads=replace(run.settings.heads, head=head)))
    train_head(run, Job(SIX, 7, 1e-3))
    check_trained_on(run)
    path = run.expdir(SIX, 7, 1e-3) / "run.json"
    score = json.loads(path.read_text())
    assert score.pop("drawn") == FORMAT
    path.write_text(json.dumps(score))
    if not refused:
        return check_trained_on(run)
    with pytest.raises(UserError, match=r"distilled_6ppc_seed7.*: trained on samples whose frames an older version.*"
                                        r"Delete .*exp/distilled_\* to"):
        check_trained_on(run)


def test_every_sampling_option_reaches_s3prl(run):
    """Away from its default each, so that none can be lost on the way."""
    changed = replace(
        run.settings,
        sampling=replace(run.settings.sampling, labels="hard", center=False, resample=True, lengths="corpus"),
    )
    told = datarc(as_downstream(Run(run.out, changed), Job(SIX, 0, 1e-3)))
    assert {key: told[key] for key in ("labels", "center", "resample", "lengths", "budget")} == {
        "labels": "hard",
        "center": False,
        "resample": True,
        "lengths": "corpus",
        "budget": 6,
    }
    assert told["generator"] == str(run.generator.resolve())


def test_real_arms_are_plain_emotion(run):
    few = as_downstream(run, Job(Arm.parse("random_real_6ppc"), 0, 1e-3))
    assert few.name == "emotion" and datarc(few)["budget"] == 6 and "generator" not in datarc(few)
    real = as_downstream(run, Job(REAL, 0, 1e-2))
    assert real.name == "emotion" and "budget" not in datarc(real) and real.overrides["config.optimizer.lr"] == 1e-2
    samples = datarc(as_downstream(run, Job(SIX, 0, 1e-3)))
    shared = ("root", "meta_data", "test_fold", "train_batch_size", "eval_batch_size", "select_by")
    assert {key: samples[key] for key in shared} == {
        key: datarc(real)[key] for key in shared
    }  # like is compared with like
    assert datarc(real)["select_by"] == "uar" and datarc(real)["test_fold"] == "fold1"


def test_heads_of_a_variant(run, tmp_path):
    attentive = variant(tmp_path / "attentive", run, head="attentive", lengths="corpus")
    overrides = as_downstream(attentive, Job(REAL, 0, 1e-3)).overrides
    assert overrides["config.downstream_expert.modelrc.UtteranceLevel.pooling"] == "AttentivePooling"
    assert "config.downstream_expert.datarc.lengths" not in overrides
    assert datarc(as_downstream(attentive, Job(SIX, 0, 1e-3)))["lengths"] == "corpus"
    cnn = variant(tmp_path / "cnn", run, head="cnn")
    assert as_downstream(cnn, Job(REAL, 0, 1e-3)).overrides["config.downstream_expert.modelrc.select"] == "DeepModel"

"""The command line: every flag has help, bad values are one line, verbs that read never write."""

import dataclasses
import json
import logging
import subprocess
import sys

import pytest
import tyro
from support.recipe import IN_ORDER, finished_run, start

from s3prl_dd import cli
from s3prl_dd.recipe.folder import Run
from s3prl_dd.recipe.settings import GROUPS, Settings
from s3prl_dd.recipe.stages import STAGES


def told(capsys, *words):
    """The one line in which a command line is refused."""
    assert cli.main(list(words)) == 2
    error = capsys.readouterr().err
    assert error.startswith("s3prl-dd: error: ") and error.count("\n") == 1, error
    return error


# help


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_flag_of_every_verb_has_a_sentence(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([verb, "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0 and f"usage: s3prl-dd {verb}" in text
    for item in dataclasses.fields(cli.VERBS[verb]):
        about = tyro._docstrings.get_field_docstring(cli.VERBS[verb], item.name, ())
        assert about and about.strip().endswith((".", "...")), f"{verb} --{item.name}: {about!r}"


@pytest.mark.parametrize("group", [*GROUPS.values(), Settings])
def test_every_setting_has_a_sentence(group):
    for item in dataclasses.fields(group):
        about = tyro._docstrings.get_field_docstring(group, item.name, ())
        assert about and about.strip().endswith("."), f"{group.__name__}.{item.name}: {about!r}"


def test_overview(capsys):
    assert cli.main([]) == 0 and cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {verb} " in text for verb in cli.VERBS)
    assert cli.main(["--version"]) == 0


@pytest.mark.parametrize("words", [["run", "--help"], ["inspect", "--json"]], ids=["help", "verb"])
def test_it_ends_quietly_where_nobody_reads_on(words, fbank_generator):
    """As behind `| head`: no traceback, neither from the verb nor from Python when it ends."""
    command = [sys.executable, "-m", "s3prl_dd", *words, *([str(fbank_generator)] if words[0] == "inspect" else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert (process.stderr.read(), process.wait(60)) == ("", 141)


def test_flags_come_in_groups(capsys):
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    text = capsys.readouterr().out
    for group in ("corpus", "upstream", "distiller", "sampling", "heads", "machine"):
        assert f" {group} options" in text


# what is refused


@pytest.mark.parametrize(
    "words, text",
    [
        (("run", "--seeds", "0"), "seeds: expected greater than or equal to 1, found 0"),
        (("run", "--stage", "9"), "stage: expected less than or equal to 7, found 9"),
        (("run", "--stage", "5", "--stop-stage", "3"), "--stage 5 comes after --stop-stage 3"),
        (("run", "--head-lrs"), "head_lrs: expected 1 value(s) or more, found 0"),
        (("run", "--head-lrs", "-1"), "head_lrs.0: expected greater than 0"),
        (("run", "--head-lrs", "nan"), "head_lrs.0: expected a finite number"),
        (("run", "--head-steps", "0"), "head_steps: expected greater"),
        (("run", "--jobs", "-1"), "jobs: expected greater than or equal to 0"),
        (("run", "--config", "gan_9d"), "gan_9d: no such configuration"),
        (("run", "--overrides", "stepz=3"), "unknown key 'stepz'. Did you mean 'steps'?"),
        (("run", "--overrides", "ema=1.5"), "ema: expected less than"),
        (("run", "--overrides", "lambdas.mmd=nan"), "lambdas.mmd: expected a finite number"),
        (("run", "--overrides", "network.dim=5"), "unknown key 'network.dim'"),
        (("run", "--device", "abacus"), "--device abacus: no such device"),
        (("pol",), "pol: no such verb. Did you mean pool?"),
        (("distil",), "Did you mean distill?"),
        (("predict", "x.ckpt"), "give one or more recordings"),
        (("predict", "x.ckpt", "a.wav"), "a.wav: no such file or folder"),
        (("predict", "x.ckpt", "a.wav", "b"), "a.wav and 1 more: no such file"),
        (("predict", "nowhere.ckpt", "."), "nowhere.ckpt"),
        (("bench", "step", "gan_1d", "--rounds", "0"), "rounds: expected greater"),
        (("bench", "step", "gan_1d", "--device", "abacus"), "--device abacus: no such device"),
        (("bench", "sample", "--overrides", "precision=bfloat16"), "draws from networks alone, and precision=bfloat16"),
        (("bench", "busy", "gan_1d", "--dim", "8"), "bench busy: configs, dim would not be read. It reads processes"),
        (("describe", "gan_1d", "--dim", "-3"), "dim: expected greater than or equal to 1, found -3"),
        (("describe", "gan_9d"), "gan_9d: no such configuration"),
        (("compare",), "give the folders"),
        (("sample", "x.safetensors", "--to", "y", "--seed", "-1"), "seed: expected greater"),
        (("inspect", "x.safetensors"), "x.safetensors: no such generator file"),
        (("privacy", "--lrs"), "lrs: expected 1 value(s) or more"),
        (("prepare", "table", "--to", "x", "--folds", "1"), "folds: expected greater than or equal to 2"),
    ],
)
def test_bad_values_are_one_line_and_nothing_is_written(words, text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert text in told(capsys, *words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", [*list(STAGES)[1:], "privacy"])
def test_a_folder_that_is_no_run(verb, tmp_path, capsys):
    """A typing mistake must not make a run, for the real one would then be refused there."""
    assert "TYPO/run.json: not there yet. Run `s3prl-dd run` first" in told(
        capsys, verb, "--out", str(tmp_path / "TYPO")
    )
    assert not (tmp_path / "TYPO").exists()


def test_misspelt_flags_are_told(capsys):
    with pytest.raises(SystemExit):
        cli.main(["run", "--head-stps", "5"])
    assert "--head-steps" in capsys.readouterr().err


# settings of a run


def settings_of(*words):
    return cli.parse(["run", *map(str, words)]).settings


def test_flags_reach_the_settings(tmp_path):
    settings = settings_of(
        "--out",
        tmp_path,
        "--head-lrs",
        "0.01",
        "0.1",
        "--budgets",
        "6",
        "original",
        "--no-normalize",
        "--overrides",
        "steps=3",
        "--corpus",
        "ravdess",
        "--center",
        "False",
        "--upstream_ckpt",
        "k.pt",
    )
    assert settings == Settings().changed(
        head_lrs=(0.01, 0.1),
        budgets=(6, "original"),
        overrides=("steps=3",),
        corpus="ravdess",
        center=False,
        upstream_ckpt="k.pt",
    )
    assert settings_of("--out", tmp_path) == Settings()
    assert settings_of("--out", tmp_path, "--budgets").heads.budgets == ()


def test_a_run_goes_on_with_its_own_settings(tmp_path):
    run = start(tmp_path / "run", corpus="ravdess")
    assert settings_of("--out", run.out, "--seeds", 4) == run.settings.changed(seeds=4)
    assert settings_of("--out", run.out).corpus.corpus == "ravdess"


def test_preset_is_one_dial(tmp_path):
    paper = settings_of("--out", tmp_path, "--preset", "paper")
    assert (paper.distiller.config, paper.sampling.labels, paper.heads.head_steps) == ("gan_att", "hard", 30000)
    assert settings_of("--out", tmp_path, "--preset", "paper", "--head-steps", 9).heads.head_steps == 9
    quick = settings_of("--out", tmp_path, "--preset", "quick", "--config", "gan_att_small")
    assert quick.distiller.config == "gan_att_small" and "steps=200" in quick.distiller.overrides
    with pytest.raises(SystemExit):
        settings_of("--preset", "papr")


def test_overrides_belong_to_their_configuration(tmp_path):
    run = start(tmp_path / "run", overrides=("steps=7",))
    other = settings_of("--out", tmp_path / "other", "--base", run.out, "--config", "ablation_both")
    assert other.distiller.overrides == () and other.upstream == run.settings.upstream
    same = settings_of(
        "--out", tmp_path / "other", "--base", run.out, "--config", "ablation_both", "--overrides", "steps=8"
    )
    assert same.distiller.overrides == ("steps=8",)
    assert settings_of("--out", tmp_path / "other", "--base", run.out).distiller.overrides == ("steps=7",)


def test_a_first_try_that_fails_does_not_bind_the_folder(tmp_path, capsys):
    out = str(tmp_path / "run")
    assert "no such folder" in told(
        capsys, "run", "--corpus", "ravdess", "--root", str(tmp_path / "typo"), "--out", out
    )
    assert not (tmp_path / "run" / "run.json").exists()


def test_stages_are_run_in_order(tmp_path, monkeypatch, capsys):
    ran = []
    for name in STAGES:
        stage = lambda run, name=name: ran.append((name, (run.out / "run.json").exists()))  # noqa: E731
        stage.__doc__ = f"does {name}"
        monkeypatch.setitem(STAGES, name, stage)
    out = str(tmp_path / "run")
    assert cli.main(["run", "--out", out, "--stage", "2", "--stop-stage", "4"]) == 0
    assert ran == [("real", True), ("extract", True), ("pool", True)], "what a killed stage leaves is of known settings"
    assert "[stage 3] extract: does extract" in capsys.readouterr().out
    assert Run.open(out).settings == Settings()


def test_settings_are_kept_once_the_corpus_could_be_read(tmp_path, monkeypatch):
    kept = []
    for name in STAGES:
        monkeypatch.setitem(STAGES, name, lambda run: kept.append((run.out / "run.json").exists()))
    for stop, expected in (("2", [False, True]), ("1", [False])):
        out = tmp_path / stop
        assert cli.main(["run", "--out", str(out), "--stop-stage", stop]) == 0
        assert kept == expected and (out / "run.json").exists()
        kept.clear()


def test_report(tmp_path, capsys):
    run = finished_run(tmp_path / "run")
    assert cli.main(["report", "--out", str(run.out)]) == 0
    text = capsys.readouterr().out
    assert list(json.loads(run.results.read_text())["arms"]) == IN_ORDER
    assert "all real data" in text and "82.0" in text and run.results.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"


# verbs on files


def test_sample_inspect_weights(tmp_path, fbank_generator, capsys):
    from safetensors.torch import load_file

    made = tmp_path / "set.safetensors"
    assert cli.main(["sample", str(fbank_generator), "--to", str(made), "--budget", "3", "--seed", "1"]) == 0
    assert cli.main(["sample", str(fbank_generator), "--to", str(tmp_path / "ten"), "--budget", "010"]) == 0
    assert len(load_file(tmp_path / "ten")["labels"]) == 40
    kept = fbank_generator.read_bytes()
    for verb in (["sample", str(fbank_generator)], ["card", str(fbank_generator)], ["compare", "run"]):
        assert cli.main([*verb, "--to", str(fbank_generator)]) == 2
        assert "is a generator file" in capsys.readouterr().err and fbank_generator.read_bytes() == kept
    samples = load_file(made)
    assert samples["features"].shape[0] == 12 and samples["labels"].tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    for center, same in (("True", True), ("False", False)):  # auto, which any head may read, is true
        other = tmp_path / f"{center}.safetensors"
        assert cli.main(["sample", str(fbank_generator), "--to", str(other), "--budget", "3", "--seed", "1", "--center",
                         center]) == 0
        assert load_file(other)["features"].equal(samples["features"]) is same
    assert cli.main(["inspect", str(fbank_generator), "--json"]) == 0
    text = capsys.readouterr().out
    assert json.loads(text[text.index("{") :])["network"]["architecture"] == "gan_1d"
    assert "its features are one layer" in told(capsys, "weights", str(fbank_generator), "-o", str(tmp_path / "w.ckpt"))
    assert "budget 'many'" in told(capsys, "sample", str(fbank_generator), "--to", str(made), "--budget", "many")


@pytest.mark.slow
def test_describe_and_bench_print_json(capsys):
    assert cli.main(["describe", "gan_1d", "--dim", "12", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dim"] == 12
    assert cli.main(["bench", "step", "gan_1d", "--dim", "8", "--rounds", "1", "--device", "cpu", "--json"]) == 0
    plain, ours = json.loads(capsys.readouterr().out)
    assert plain["ratio"] == 1 and ours["apart"] < 1e-4


def test_what_the_package_says_is_plain_and_said_once(capsys):
    """S3PRL gives root a handler, which would say it again."""
    root = logging.getLogger()
    twice = cli.Plain()
    root.addHandler(twice)
    try:
        with cli.talking():
            cli.log.info("said %d", 1)
        cli.log.info("not said")
    finally:
        root.removeHandler(twice)
    assert capsys.readouterr().out == "said 1\n"


def test_help_waits_for_no_library_that_it_does_not_need():
    code = "import sys, s3prl_dd.cli; print({'sklearn', 'scipy', 'matplotlib', 's3prl'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

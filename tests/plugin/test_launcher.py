"""The launcher's command line: what it adds to S3PRL's, and what it refuses before anything is loaded or written."""

import sys

import pytest
import torch
from support.runs import features_of, make_generator, write_head

from s3prl_dd.config import CONFIGS
from s3prl_dd.errors import UserError
from s3prl_dd.plugin.datarc import DATARC
from s3prl_dd.plugin.launcher import complete, main
from s3prl_dd.plugin.runner import FeatureCache

EMOTION = ["-m", "train", "-d", "emotion", "-u", "fbank"]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)


@pytest.mark.parametrize("arguments, message", [
    (["-m", "train", "-d", "emotion", "-u", "fbnak"], "Did you mean fbank"),
    (["-m", "train", "-d", "emotoin", "-u", "fbank"], "Did you mean emotion"),
    (["-m", "train", "-d", "asr", "-u", "fbank"], "downstream asr: the package of S3PRL carries no configuration"),
    (["-m", "train", "-u", "fbank"], "give -d DOWNSTREAM"),
    ([*EMOTION, "-c", "no_such"], "no_such: no such configuration"),
    ([*EMOTION, "--feature_cache", "-1"], "--feature_cache -1: expected gigabytes"),
    ([*EMOTION, "--feature_cache=nan"], "--feature_cache nan: expected gigabytes"),
    ([*EMOTION, "--feature_cache", "much"], "--feature_cache much: expected gigabytes"),
    ([*EMOTION, "--local_rank", "first"], "--local_rank.*invalid int value"),
    ([*EMOTION, "--feature_cache"], "--feature_cache: expected one argument"),
    ([*EMOTION, "--no_feature_cache", "--feature_cache", "1"], "--no_feature_cache: beside --feature_cache"),
    ([*EMOTION, "--no_feature_cache", "--feature_folder", "x"], "--no_feature_cache: beside --feature_cache"),
    ([*EMOTION, "-k", "gone.pt"], "upstream fbank: gone.pt: no such checkpoint. Check -k"),
    ([*EMOTION, "-g", "gone.yaml"], "gone.yaml: no such model configuration. Check -g"),
    ([*EMOTION, "-i", "{folder}/x.ckpt"], "x.ckpt: no such checkpoint"),
    (["-m", "train", "-e", "{folder}"], "no states-.*.ckpt to resume from"),
    (["-m", "train", "-e", "{folder}/x.ckpt"], "x.ckpt: no such checkpoint"),
])
def test_refused_early(arguments, message, tmp_path):
    with pytest.raises(UserError, match=message) as told:
        complete([word.replace("{folder}", str(tmp_path)) for word in arguments])
    assert "\n" not in str(told.value)


def test_mode_and_name_may_be_left_away(monkeypatch, tmp_path):
    arguments, _ = seen_by_s3prl(complete(["-d", "emotion", "-u", "fbank"]).argv, monkeypatch, tmp_path)
    assert (arguments["mode"], arguments["expname"]) == ("train", "emotion_fbank")
    arguments, _ = seen_by_s3prl(complete([*EMOTION, "-p", "mine"]).argv, monkeypatch, tmp_path)
    assert arguments["expdir"] == "mine"


def test_a_run_without_data_is_told_what_to_run_before_an_upstream_is_loaded(capsys):
    """The command that this project is known by; hubert would be downloaded next."""
    with pytest.raises(SystemExit) as end:
        main(["-d", "distilled_emotion", "-u", "hubert", "-o", f"{DATARC}.root=/corpus"])
    error = capsys.readouterr().err
    assert end.value.code == 2 and "error: -d distilled_emotion: generator, meta_data not set" in error
    assert "s3prl-dd run --corpus CORPUS --root FOLDER --upstream hubert --out RUN" in error
    assert "python run_downstream.py -d distilled_emotion -u hubert" in error
    with pytest.raises(SystemExit):
        main(["-d", "emotion", "-u", "hubert"])
    assert "-d emotion: root, meta_data not set" in capsys.readouterr().err


def test_data_that_is_not_there_is_told_before_an_upstream_is_loaded(capsys, tmp_path):
    (tmp_path / "metadata" / "Session1").mkdir(parents=True)
    meta_data = tmp_path / "metadata"
    for options, message in {
        f"root={tmp_path / 'away'}": f"root: {tmp_path / 'away'}: no such folder",
        f"root={tmp_path},,meta_data={tmp_path / 'lists'}": f"meta_data: {tmp_path / 'lists'}: no such folder",
        f"root={tmp_path},,meta_data={meta_data},,test_fold=fold2": "test_fold is fold2, found fold1",
    }.items():
        given = {"meta_data": meta_data} if "meta_data" not in options else {}
        words = [*options.split(",,"), *(f"{key}={value}" for key, value in given.items())]
        with pytest.raises(SystemExit):
            main(["-d", "emotion", "-u", "hubert", "-o", ",,".join(f"{DATARC}.{word}" for word in words)])
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["-d", "distilled_emotion", "-u", "hubert", "-v", "fold1", "-o",
              f"{DATARC}.root={tmp_path},,{DATARC}.meta_data={meta_data},,{DATARC}.generator={tmp_path / 'file'}"])
    assert "file: no such generator file" in capsys.readouterr().err


def test_a_configuration_that_lacks_a_block_is_told(capsys, tmp_path):
    for text, told in (("runner: {total_steps: 1}", "config.optimizer: missing"),
                       ("runner: {total_steps: 1}\noptimizer: {name: Adam}", "config.downstream_expert: missing"),
                       ("runner: {total_steps: 1}\noptimizer: {name: Adam}\ndownstream_expert: {datarc: , modelrc: {}}",
                        "config.downstream_expert.datarc: missing")):
        (tmp_path / "mine.yaml").write_text(text)
        with pytest.raises(SystemExit):
            main(["-d", "emotion", "-u", "hubert", "-c", str(tmp_path / "mine.yaml")])
        assert told in capsys.readouterr().err


def test_a_generator_of_another_upstream_or_of_who_is_tested_is_told_before_an_upstream_is_loaded(
        corpus, tmp_path, fbank_generator, capsys):
    data = f"{DATARC}.root={corpus}/audio,,{DATARC}.meta_data={corpus}/metadata,,{DATARC}.generator="
    with pytest.raises(SystemExit):
        main(["-d", "distilled_emotion", "-u", "hubert", "-o", f"{data}{fbank_generator}"])
    told = capsys.readouterr().err
    assert "features have upstream fbank, this run has hubert. Run with -u fbank" in told and told.count("\n") == 1
    file = tmp_path / "heard.safetensors"
    make_generator(file, features_of("fbank", 240, 160), train_speakers=("speaker0",))
    with pytest.raises(SystemExit):
        main(["-d", "distilled_emotion", "-u", "fbank", "-o", f"{data}{file}"])
    told = capsys.readouterr().err
    assert "distilled with 1 speaker(s) of this run's test fold fold1" in told and told.count("\n") == 1


def test_an_error_is_one_line_and_code_2(capsys):
    with pytest.raises(SystemExit) as end:
        main([*EMOTION, "--feature_cache", "nan"])
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: --feature_cache nan: expected gigabytes, 0 or more.\n"


def test_distributed_training_is_started_by_torchrun(monkeypatch):
    with pytest.raises(UserError, match="distributed training .* RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT not set. "
                                        "Start it with `torchrun"):
        complete([*EMOTION, "--local-rank=1"])
    for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    on_cpu = complete([*EMOTION, "--device", "cpu"])
    assert on_cpu.joins_on_cpu and not any("local_rank" in word for word in on_cpu.argv)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    on_gpu = complete([*EMOTION, "--device", "cuda"])
    assert not on_gpu.joins_on_cpu and "--local_rank=0" in on_gpu.argv
    with pytest.raises(UserError, match="process 1 of this machine has no GPU of its own, there are 1"):
        complete([*EMOTION, "--device", "cuda", "--local_rank", "1"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine with a GPU")
def test_a_gpu_that_is_not_there():
    with pytest.raises(UserError, match="--device cuda: .* sees no GPU"):
        complete([*EMOTION, "--device", "cuda"])


def seen_by_s3prl(argv, monkeypatch, tmp_path):
    """S3PRL's own reading of a command line: (arguments as a dict, configuration)."""
    from s3prl.run_downstream import get_downstream_args

    monkeypatch.setattr(sys, "argv", ["run_downstream.py", *argv])
    monkeypatch.chdir(tmp_path)
    arguments, config, _ = get_downstream_args()
    return vars(arguments), config


def test_the_cache_is_on_unless_it_is_refused():
    wanted = {(): FeatureCache(4.0), ("--no_feature_cache",): FeatureCache(0.0),
              ("--feature_folder", "x"): FeatureCache(4.0, "x"),
              ("--feature_cache", "0"): FeatureCache(0.0, asked=True)}
    for words, cache in wanted.items():
        launch = complete([*EMOTION, *words])
        assert launch.cache == cache and not any("feature_" in word for word in launch.argv)


def test_s3prl_sees_every_flag_of_its_own_and_none_of_ours(monkeypatch, tmp_path):
    (tmp_path / "k.pt").touch()
    given = ["-m", "train", "-d", "distilled_emotion", "-u", "hubert_local", "-k", str(tmp_path / "k.pt"), "-s", "x",
             "-l", "2", "--upstream_feature_normalize", "-v", "fold3", "-p", str(tmp_path / "run"), "-a", "--seed", "5",
             "-o", "args.verbose=True,,config.runner.total_steps=7"]
    launch = complete([*given, "--feature_cache", "2.5", "--feature_folder", "means"])
    assert launch.cache == FeatureCache(2.5, "means", asked=True)
    arguments, config = seen_by_s3prl(launch.argv, monkeypatch, tmp_path)
    wanted = {
        "mode": "train", "downstream": "distilled_emotion", "upstream": "hubert_local", "hub": "torch",
        "upstream_ckpt": str(tmp_path / "k.pt"), "upstream_feature_selection": "x", "upstream_layer_selection": 2,
        "upstream_feature_normalize": True, "downstream_variant": "fold3", "expdir": str(tmp_path / "run"),
        "auto_resume": True, "seed": 5, "verbose": True, "local_rank": None, "past_exp": None,
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "config": str((CONFIGS / "distilled_emotion.yaml").resolve()),
    }
    assert {key: arguments[key] for key in wanted} == wanted
    assert not set(arguments) & {"feature_cache", "feature_folder"} and config["runner"]["total_steps"] == 7


def test_the_configuration(monkeypatch, tmp_path):
    """A file, a shipped one by name, or the downstream's own; none where a run is resumed."""
    (tmp_path / "mine.yaml").write_text("runner: {}")
    files = {str(tmp_path / "mine.yaml"): tmp_path / "mine.yaml", "voxceleb1": CONFIGS / "voxceleb1.yaml"}
    for given, wanted in files.items():
        arguments, _ = seen_by_s3prl(complete([*EMOTION, "-p", "run", "-c", given]).argv, monkeypatch, tmp_path)
        assert arguments["config"] == str(wanted.resolve())
    fresh = complete([*EMOTION, "-a", "-p", str(tmp_path / "new")])  # nothing to resume there yet
    assert fresh.argv[-2:] == ["--config", str((CONFIGS / "emotion.yaml").resolve())]
    write_head(tmp_path / "states-4.ckpt")
    assert "--config" not in complete(["-m", "train", "-a", "-p", str(tmp_path)]).argv


def resumed(path, *words):
    """What S3PRL is told to set where -e names this checkpoint."""
    argv = complete(["-m", "evaluate", "-e", str(path), *words]).argv
    return [word.removeprefix("--override=") for word in argv if word.startswith("--override=")]


def test_a_checkpoint_without_a_runs_arguments(tmp_path):
    torch.save({"Featurizer": {}}, tmp_path / "weights.ckpt")
    with pytest.raises(UserError, match="weights.ckpt: holds no run's arguments .* goes with -i"):
        resumed(tmp_path / "weights.ckpt")


def test_the_upstream_of_a_checkpoint_that_lies_elsewhere_now(tmp_path):
    path, _ = write_head(tmp_path / "x.ckpt", "hubert_local", "gone/hubert.pt")
    with pytest.raises(UserError, match="upstream hubert_local: gone/hubert.pt: no such checkpoint. Check -k"):
        resumed(path)
    (tmp_path / "new.pt").touch()
    assert resumed(path, "-k", str(tmp_path / "new.pt")) == [f"args.upstream_ckpt='{tmp_path}/new.pt'"]
    assert resumed(path, "-k", str(tmp_path / "new.pt"), "-o", "args.seed=1") == [
        f"args.upstream_ckpt='{tmp_path}/new.pt',,args.seed=1"]
    unknown, _ = write_head(tmp_path / "y.ckpt", "fbnak")
    with pytest.raises(UserError, match="upstream 'fbnak': not on S3PRL's hub. Did you mean fbank"):
        resumed(unknown)


def test_code_that_a_checkpoint_names_is_not_run_unless_the_user_names_it(tmp_path):
    """As in predict and in ser_projector."""
    code = tmp_path / "mine.py"
    code.write_text(f"open({str(tmp_path / 'marker')!r}, 'w').close()\ndef small(**settings): pass\n")
    for downstream in ("emotion", "distilled_emotion", "voxceleb1"):
        path, _ = write_head(tmp_path / f"{downstream}.ckpt", f"{code}:small", downstream=downstream)
        with pytest.raises(UserError, match="its upstream is code, .*mine.py:small, which is not run .* name it: -u"):
            resumed(path)
        with pytest.raises(UserError, match="its upstream is code"):
            resumed(path, "-k", str(code))
    assert not (tmp_path / "marker").exists()
    assert resumed(path, "-u", f"{code}:small") == [] and (tmp_path / "marker").exists()


def test_help_shows_ours_and_s3prls(capsys, monkeypatch, tmp_path):
    launch = complete(["--help"])
    assert "--feature_cache GB" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        seen_by_s3prl(launch.argv, monkeypatch, tmp_path)
    assert "--upstream_ckpt" in capsys.readouterr().out

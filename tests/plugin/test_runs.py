"""Whole runs of S3PRL's own Runner, each in a process of its own: train, evaluate, resume, and with the plugin absent."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys

import pytest
import soundfile
import torch
from support.runs import DATARC, ROOT, data_options, features_of, make_generator, override, run_launcher, run_python

from s3prl_dd.config import CONFIGS
from s3prl_dd.errors import UserError
from s3prl_dd.plugin.featurizer import read_checkpoint, read_layer_weights, same_weights, write_featurizer_checkpoint
from s3prl_dd.plugin.launcher import complete

needs_moonshine = pytest.mark.skipif(not importlib.util.find_spec("moonshine_voice"), reason="moonshine-voice is not installed")

PLAIN = """
import runpy, sys
from s3prl_dd.plugin.compat import mend
mend()
sys.argv = ["run_downstream.py", *{arguments!r}]
{start}
assert not any(name.startswith("s3prl_dd.plugin.") and name != "s3prl_dd.plugin.compat" for name in sys.modules) or {plugin}
"""


def run_plain(*arguments, cwd=ROOT, path="", plugin=False):
    """S3PRL's own command with nothing of ours but the remedies for new libraries."""
    start = "runpy.run_path('run_downstream.py', run_name='__main__')" if path else "import s3prl.run_downstream as r; r.main()"
    code = PLAIN.format(arguments=[str(argument) for argument in arguments], start=start, plugin=plugin)
    return run_python(code, cwd=cwd, env={"PYTHONPATH": os.pathsep.join(filter(None, [str(path), str(ROOT)]))})


def predictions(expdir, split="test"):
    return sorted((expdir / f"{split}_fold1_predict.txt").read_text().splitlines())


def last(expdir, what):
    """The last figure of a line like 'test at step 8: 0.25' in log.log."""
    return float([line for line in (expdir / "log.log").read_text().splitlines() if line.startswith(what)][-1].split()[-1])


def plain_accuracy(checkpoint, corpus, expdir, *upstream):
    """Test predictions and accuracy of a checkpoint under plain S3PRL's -d emotion."""
    options = {**data_options(corpus), f"{DATARC}.pre_load": False}
    run_plain("-m", "evaluate", "-t", "test", "-d", "emotion", *upstream, "-i", checkpoint, "-p", expdir, "--device", "cpu",
              "-c", CONFIGS / "emotion.yaml", "-o", override(options))
    return predictions(expdir), last(expdir, "test at step")


def test_distilled_from_train_to_plain_emotion(corpus, tmp_path, fbank_generator):
    """Train, resume to more steps, evaluate with -e and -i, and once more with the plugin absent: one accuracy."""
    options = data_options(corpus, generator=fbank_generator, budget="{'ppc': 12}")
    expdir = tmp_path / "run"
    done = subprocess.run([sys.executable, "run_downstream.py", "-m", "train", "-d", "distilled_emotion", "-u", "fbank", "-p", str(expdir),
                           "-o", override(options)], cwd=ROOT, text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    log = (expdir / "log.log").read_text()
    assert f"training on 48 generated points (12/12/12/12), resampled each epoch, centred, hard labels, seed 1337, from {fbank_generator}" in log
    assert "New best uar on dev at step" in log and "dev uar at step 8" in log

    run_launcher("-m", "train", "-e", expdir, "-o", "config.runner.total_steps=12")
    checkpoint = expdir / "states-12.ckpt"
    content = read_checkpoint(checkpoint)
    assert content["Step"] == 12 and content["Args"].downstream == "distilled_emotion"
    assert not [name for name in vars(content["Args"]) if name in ("feature_cache", "featurizer_weights")]
    assert set(content["Downstream"]) == {"best_score", "projector.weight", "projector.bias", "model.post_net.linear.weight",
                                          "model.post_net.linear.bias"}
    trained = predictions(expdir), last(expdir, "test at step 12")
    result = json.loads((expdir / "test_fold1_confusion.json").read_text())
    assert result["step"] == 12 and result["accuracy"] == pytest.approx(trained[1]) == pytest.approx(last(expdir, "test at step"))
    assert result["uar"] == pytest.approx(last(expdir, "test uar at step 12"))

    run_launcher("-m", "evaluate", "-t", "test", "-i", checkpoint, "-d", "emotion", "-u", "fbank", "-p", tmp_path / "again",
                 "-o", override(data_options(corpus)))
    assert (predictions(tmp_path / "again"), last(tmp_path / "again", "test at step")) == trained
    assert plain_accuracy(checkpoint, corpus, tmp_path / "plain", "-u", "fbank") == trained
    run_launcher("-m", "evaluate", "-t", "test", "-e", checkpoint)
    assert last(expdir, "test at step 0") == trained[1]


def test_hubert_local_with_learnt_layer_weights(corpus, tmp_path, hubert_file):
    """The launcher weighs the states as the generator says; the weights stay put and are in the checkpoint."""
    from s3prl_dd.plugin.encoder import checkpoint_digest

    weights = [0.6, 0.3, 0.1]
    generator = make_generator(tmp_path / "x.safetensors", features_of("hubert_local", 64, 320, layer_weights=weights,
                                                                       digest=checkpoint_digest("hubert_local", hubert_file)))
    options = data_options(corpus, generator=generator, budget=4, labels="soft", lengths="corpus", resample=False)
    upstream = ("-u", "hubert_local", "-k", hubert_file)
    done = run_launcher("-m", "train", "-d", "distilled_emotion", *upstream, "-p", tmp_path / "run", "--feature_cache", "0.1",
                        "-o", override(options))
    assert "layer weights from" in done.stdout and "one fixed set, centred, soft labels" in done.stdout
    checkpoint = tmp_path / "run" / "states-8.ckpt"
    assert same_weights(read_layer_weights(checkpoint), weights)
    predicted, accuracy = plain_accuracy(checkpoint, corpus, tmp_path / "plain", *upstream)
    assert accuracy == pytest.approx(last(tmp_path / "run", "test at step"))

    write_featurizer_checkpoint([0.1, 0.3, 0.6], tmp_path / "other.ckpt")
    done = run_launcher("-m", "train", "-d", "distilled_emotion", *upstream, "-i", tmp_path / "other.ckpt", "-p", tmp_path / "other",
                        "-o", override(options), check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ") and "[0.100 0.300 0.600]" in done.stderr


def test_hf_hubert_one_layer(corpus, tmp_path):
    from support.tiny_hubert import write_hf_hubert

    from s3prl_dd.plugin.encoder import checkpoint_digest

    write_hf_hubert(tmp_path / "hf")
    generator = make_generator(tmp_path / "x.safetensors", features_of("hf_hubert_custom", 64, 320, layer=1,
                                                                       digest=checkpoint_digest("hf_hubert_custom", tmp_path / "hf")))
    run_launcher("-m", "train", "-d", "distilled_emotion", "-u", "hf_hubert_custom", "-k", tmp_path / "hf", "-l", 1,
                 "-p", tmp_path / "run", "-o", override(data_options(corpus, generator=generator, budget="balanced")))
    assert "training on 20 generated points (5/5/5/5)" in (tmp_path / "run" / "log.log").read_text()
    assert last(tmp_path / "run", "test uar at step 8") >= 0


@needs_moonshine
def test_moonshine_real_audio_cached_or_not(corpus, tmp_path):
    """Utterance means in place of frames: the same decisions, weights equal but for rounding. (By SGD: Adam takes a whole
    step by the sign of a gradient that is nothing but rounding.)"""
    common = ("-m", "train", "-d", "emotion", "-u", "moonshine")
    options = override(data_options(corpus, budget=3, select_by="uar"),
                       {"config.runner.total_steps": 4, "config.optimizer.torch_optim_name": "SGD", "config.optimizer.lr": 0.1})
    run_launcher(*common, "-p", tmp_path / "plain", "-o", options)
    run_launcher(*common, "-p", tmp_path / "cached", "-o", options, "--feature_cache", "0.5", "--feature_folder", tmp_path / "means")
    assert (tmp_path / "plain" / "log.log").read_text() == (tmp_path / "cached" / "log.log").read_text()
    one, other = (read_checkpoint(tmp_path / name / "states-4.ckpt") for name in ("plain", "cached"))
    for name in ("Downstream", "Featurizer"):
        assert all(torch.allclose(one[name][key], other[name][key], atol=1e-5) for key in one[name])
    assert "random real points" in (tmp_path / "cached" / "log.log").read_text()
    assert len(list((tmp_path / "means").glob("*/*.safetensors"))) > 12  # train, dev and test


@needs_moonshine
def test_moonshine_on_samples_alone(tmp_path):
    from s3prl_dd.plugin.encoder import checkpoint_digest

    features = features_of("moonshine", 288, 384, layers=7, digest=checkpoint_digest("moonshine"))
    generator = make_generator(tmp_path / "x.safetensors", features)
    options = override({f"{DATARC}.generator": generator, "config.runner.eval_dataloaders": "['dev']"})
    run_launcher("-m", "train", "-d", "distilled_emotion", "-u", "moonshine", "-p", tmp_path / "run", "-o", options, cwd=tmp_path)
    log = (tmp_path / "run" / "log.log").read_text()
    assert "no real data" in log and "dev uar at step 8" in log and "test at step" not in log


def test_inside_a_clone(corpus, tmp_path, fbank_generator):
    """After link, the clone's own run_downstream.py finds -d distilled_emotion and its default configuration."""
    import s3prl

    from s3prl_dd.plugin.link import link, unlink

    clone = tmp_path / "clone"
    shutil.copytree(os.path.dirname(s3prl.__file__), clone / "s3prl", ignore=shutil.ignore_patterns("__pycache__"))
    link(clone)
    command = [sys.executable, "run_downstream.py", "-m", "train", "-d", "distilled_emotion", "-u", "fbank", "-p", str(tmp_path / "run"),
               "--device", "cpu", "-o", override(data_options(corpus, generator=fbank_generator, budget=2))]
    done = subprocess.run(command, cwd=clone / "s3prl", text=True, capture_output=True, timeout=300,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join([str(clone), str(ROOT)])})  # as `pip install -e clone` does
    assert done.returncode == 0, done.stderr[-3000:]
    assert "training on 8 generated points" in (tmp_path / "run" / "log.log").read_text()
    assert len(unlink(clone)) == 1 and not (clone / "s3prl" / "torchaudio.py").exists()


def test_voxceleb1_has_its_own_file_list(corpus, tmp_path):
    """Two roots, one after the other: the second does not get the first one's files."""
    for number, root in enumerate((tmp_path / "one", tmp_path / "two")):
        lines = []
        for speaker in range(2):
            for part in (1, 2, 3):
                name = f"id1000{speaker + 1}/video{number}/0000{part}.wav"
                (root / "dev" / "wav" / name).parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(root / "dev" / "wav" / name, soundfile.read(corpus / "audio" / f"speaker{speaker}" / "neu0.wav")[0], 16000)
                lines.append(f"{part} {name}\n")
        (root / "list.txt").write_text("".join(lines))
        options = override({f"{DATARC}.file_path": root, f"{DATARC}.meta_data": root / "list.txt", f"{DATARC}.num_workers": 0},
                           {"config.runner.total_steps": 4})
        done = run_launcher("-m", "train", "-d", "voxceleb1", "-u", "fbank", "-p", tmp_path / "run", "-o", options)
        assert "there are 2 files found" in done.stdout
        assert (tmp_path / "run" / "test_truth.txt").is_file()


# what is refused before anything is loaded or written

def test_the_launcher_refuses_early(tmp_path, monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    emotion = ["-m", "train", "-d", "emotion", "-u", "fbank"]
    for arguments, message in (
        (["-m", "train", "-d", "emotion", "-u", "fbnak"], "Did you mean fbank"),
        (["-m", "train", "-d", "emotoin", "-u", "fbank"], "Did you mean emotion"),
        (["-m", "train", "-d", "asr", "-u", "fbank"], "downstream asr: the package of S3PRL carries no configuration"),
        (["-m", "train", "-u", "fbank"], "give -d DOWNSTREAM"),
        ([*emotion, "-c", "no_such"], "no_such: no such configuration"),
        ([*emotion, "--feature_cache", "-1"], "--feature_cache -1.0: expected gigabytes"),
        ([*emotion, "-i", tmp_path / "x.ckpt"], "x.ckpt: no such checkpoint"),
        (["-m", "train", "-e", tmp_path], "no states-.*.ckpt to resume from"),
        (["-m", "train", "-e", tmp_path / "x.ckpt"], "x.ckpt: no such checkpoint"),
    ):
        with pytest.raises(UserError, match=message):
            complete([str(argument) for argument in arguments])


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine with a GPU")
def test_distributed_needs_a_gpu(monkeypatch):
    emotion = ["-m", "train", "-d", "emotion", "-u", "fbank"]
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(UserError, match="distributed training .* needs a GPU"):
        complete(emotion)
    monkeypatch.delenv("LOCAL_RANK")
    with pytest.raises(UserError, match="distributed training .* needs a GPU"):
        complete([*emotion, "--local-rank=1"])
    with pytest.raises(UserError, match="--device cuda: .* sees no GPU"):
        complete([*emotion, "--device", "cuda"])


def test_what_the_launcher_adds(monkeypatch, tmp_path):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    given = ["-m", "train", "-d", "distilled_emotion", "-u", "fbank", "-o", "args.seed=3"]
    argv, cache = complete([*given, "--feature_cache", "2.5"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    assert argv == [*given, "--device", device, "-c", str((CONFIGS / "distilled_emotion.yaml").resolve())] and cache == {"gigabytes": 2.5, "folder": None}
    (tmp_path / "mine.yaml").write_text("runner: {}")
    assert complete([*given, "-c", str(tmp_path / "mine.yaml")])[0][-1] == str(tmp_path / "mine.yaml")
    assert complete(["-m", "train", "-a", "-p", str(tmp_path), *given[2:]])[0][-2] == "-c"  # nothing to resume yet


def test_errors_end_with_one_message(corpus, tmp_path):
    """Through the whole command, with a message that comes from a DataLoader's worker process."""
    folder = tmp_path / "corpus"
    shutil.copytree(corpus, folder)
    victim = folder / "audio" / "speaker1" / "neu1.wav"
    victim.write_bytes(victim.read_bytes()[:3000])
    done = run_launcher("-m", "train", "-d", "emotion", "-u", "fbank", "-p", tmp_path / "run", check=False,
                        *("-o", override(data_options(folder, pre_load=False), {f"{DATARC}.num_workers": 1})))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    error, = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert error.startswith(f"error: {victim}: ") and "truncated" in error

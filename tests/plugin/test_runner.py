"""What we add to S3PRL's Runner: its parts alone, and whole runs: train, evaluate, resume, with the plugin absent."""

import contextlib
import dataclasses
import importlib.util
import json
import shutil
import sqlite3
import sys
from argparse import Namespace

import pytest
import soundfile
import torch
from support.experts import ARGUMENTS
from support.runs import (
    DATARC,
    class_means_of,
    data_options,
    features_of,
    make_generator,
    override,
    run_command,
    run_launcher,
    run_python,
    write_tones,
)
from support.upstreams import OWN

from s3prl_dd.config import CONFIGS, read_yaml
from s3prl_dd.errors import UserError
from s3prl_dd.features.spec import FeatureSpec
from s3prl_dd.metrics import uar
from s3prl_dd.plugin.encoder import checkpoint_digest
from s3prl_dd.plugin.featurizer import read_checkpoint, read_layer_weights, write_featurizer_checkpoint
from s3prl_dd.plugin.placeholder import Recordings
from s3prl_dd.plugin.runner import (
    LITERAL_GLOB,
    TICKETED,
    Bridge,
    FeatureCache,
    TrainingEnds,
    adopt_layer_weights,
    check_blocks,
    end_after,
)

needs_moonshine = pytest.mark.skipif(not importlib.util.find_spec("moonshine_voice"),
                                     reason="moonshine-voice is not installed")
TRAIN = ("-m", "train", "--device", "cpu")


def predictions(expdir, split="test"):
    return sorted((expdir / f"{split}_fold1_predict.txt").read_text().splitlines())


def last(expdir, what):
    """The last figure of a line like 'test at step 8: 0.25' in log.log."""
    lines = (expdir / "log.log").read_text().splitlines()
    return float([line for line in lines if line.startswith(what)][-1].split()[-1])


def head_of(expdir, step=8):
    return read_checkpoint(expdir / f"states-{step}.ckpt")["Downstream"]


# parts

def arguments_of(**changes):
    return Namespace(**{**ARGUMENTS, "hub": "torch", "upstream_feature_selection": "hidden_states", **changes})


ON = FeatureCache()


def kind_of_states(cache=ON, head=None, layers=3, specaug=None, **changes):
    """What a run keeps of its recordings' states."""
    bridge = Bridge.__new__(Bridge)
    bridge.cache, bridge.args = cache, arguments_of(downstream="emotion")
    vars(bridge.args).update(changes)
    bridge.recordings = Recordings() if bridge.args.downstream in TICKETED else None
    modelrc = read_yaml(CONFIGS / "emotion.yaml")["downstream_expert"]["modelrc"]
    bridge.config = {"downstream_expert": {"modelrc": {**modelrc, **(head or {})}}, "specaug": specaug}
    return bridge.kind_of_states(Namespace(weights=None) if layers > 1 else Namespace())


ATTENTIVE = {"UtteranceLevel": {"pooling": "AttentivePooling"}}


@pytest.mark.parametrize("kind, changes", [
    ("means", {}),
    ("means", {"downstream": "voxceleb1"}),
    ("means", {"downstream": "distilled_emotion"}),
    ("means", {"mode": "evaluate"}),
    (None, {"cache": FeatureCache(0.0)}),
    (None, {"upstream_trainable": True}),
    (None, {"downstream": "asr"}),
    ("states", {"downstream": "asr", "cache": FeatureCache(asked=True)}),
    ("states", {"head": {"select": "DeepModel"}}),
    ("states", {"head": ATTENTIVE}),
    ("states", {"upstream_feature_normalize": True}),
    ("states", {"specaug": {"apply_time_mask": True}}),
    ("frames", {"head": ATTENTIVE, "layers": 1}),
    ("frames", {"head": ATTENTIVE, "mode": "evaluate"}),
    ("frames", {"head": ATTENTIVE, "downstream": "distilled_emotion"}),
])
def test_what_is_kept_of_recordings(kind, changes):
    assert kind_of_states(**changes) == kind


def test_layer_weights_of_the_generator_are_adopted(tmp_path):
    path = make_generator(tmp_path / "x.safetensors", features_of("x", 8, 320, layer_weights=[0.6, 0.3, 0.1]))
    config = {"downstream_expert": {"datarc": {"generator": str(path)}}}
    featurizer = Namespace(layer_num=3, weights=torch.nn.Parameter(torch.zeros(3)))
    adopt_layer_weights(featurizer, config)
    assert featurizer.weights.softmax(0).tolist() == pytest.approx([0.6, 0.3, 0.1])
    other = Namespace(layer_num=2, weights=torch.nn.Parameter(torch.zeros(2)))
    adopt_layer_weights(other, config)  # the expert refuses what does not fit
    adopt_layer_weights(Namespace(), config)
    assert not other.weights.any()


def test_an_expdirs_name_is_no_pattern(tmp_path):
    """Where S3PRL looks for states to delete or to go on from."""
    for folder in ("lr=1 r*", "lr=1 rest", "[x]", "x"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "states-4.ckpt").touch()
        assert LITERAL_GLOB.glob(f"{tmp_path}/{folder}/states-*.ckpt") == [f"{tmp_path}/{folder}/states-4.ckpt"]


def test_the_training_of_other_processes_ends():
    """S3PRL counts steps in the first process alone."""
    zeroed = []
    zero_grad = end_after(3, lambda: zeroed.append(1))
    for _ in range(2):
        zero_grad()
    with pytest.raises(TrainingEnds):
        zero_grad()
    assert len(zeroed) == 3


def test_only_the_header_is_read_for_the_layer_weights(tmp_path, monkeypatch):
    import safetensors.torch

    from s3prl_dd.generator import Generator

    path = make_generator(tmp_path / "x.safetensors", features_of("x", 8, 320, layer_weights=[0.6, 0.4]))

    def refuse(*arguments, **options):
        raise AssertionError("the tensors were read")

    monkeypatch.setattr(Generator, "load", refuse)
    monkeypatch.setattr(safetensors.torch, "load_file", refuse)
    featurizer = Namespace(layer_num=2, weights=torch.nn.Parameter(torch.zeros(2)))
    adopt_layer_weights(featurizer, {"downstream_expert": {"datarc": {"generator": str(path)}}})
    assert featurizer.weights.softmax(0).tolist() == pytest.approx([0.6, 0.4])


@pytest.mark.parametrize("changes, message", [
    ({"optimiser": {}}, "config: unknown key 'optimiser'. Did you mean 'optimizer'"),
    ({"runner": {"eval_steps": 1}}, "config.runner: unknown key 'eval_steps'. Did you mean 'eval_step'"),
    ({"runner": {}}, "config.runner: missing"),
    ({"downstream_expert": {"datarc": {}}}, "config.downstream_expert.modelrc: missing"),
])
def test_blocks(changes, message):
    config = read_yaml(CONFIGS / "emotion.yaml")
    check_blocks(config)
    with pytest.raises(UserError, match=message):
        check_blocks({**config, **changes})


# whole runs

PLAIN = """
import runpy, sys
from s3prl_dd.plugin.compat import mend
mend()
sys.argv = ["run_downstream.py", *{arguments!r}]
import s3prl.run_downstream
s3prl.run_downstream.main()
ours = [name for name in sys.modules if name.startswith("s3prl_dd.plugin.")]
assert ours == ["s3prl_dd.plugin.compat"], ours
"""


def evaluate_plain(checkpoint, corpus, expdir, *upstream, head=None):
    """Test predictions and accuracy of a checkpoint under S3PRL's own -d emotion, with nothing of ours but remedies."""
    options = override(data_options(corpus, pre_load=False, test_fold="fold1", eval_batch_size=1), head or {})
    arguments = ["-m", "evaluate", "-t", "test", "-d", "emotion", *upstream, "-i", checkpoint, "-p", expdir, "--device",
                 "cpu", "-c", CONFIGS / "emotion.yaml", "-o", options]
    run_python(PLAIN.format(arguments=[str(argument) for argument in arguments]))
    return predictions(expdir), last(expdir, "test at step")


@pytest.mark.slow
def test_distilled_from_train_to_plain_emotion(corpus, tmp_path, fbank_generator):
    """Train by the literal command, go on to more steps, evaluate with -e, -i and without the plugin: one accuracy."""
    options = data_options(corpus, generator=fbank_generator, budget="{'ppc': 12}", labels="hard", resample=True)
    expdir = tmp_path / "run"
    run_command(sys.executable, "run_downstream.py", "-m", "train", "-d", "distilled_emotion", "-u", "fbank", "-p",
                expdir, "-o", override(options))
    log = (expdir / "log.log").read_text()
    assert ("training on 48 generated points (12/12/12/12), a new set each epoch, centred, hard labels, seed 1337, "
            f"from {fbank_generator}") in log
    assert "New best uar on dev at step" in log and "dev uar at step 8" in log

    run_launcher("-m", "train", "-e", expdir, "-o", "config.runner.total_steps=12")
    checkpoint = expdir / "states-12.ckpt"
    content = read_checkpoint(checkpoint)
    assert content["Step"] == 12 and content["Args"].downstream == "distilled_emotion"
    assert not set(vars(content["Args"])) & {"feature_cache", "launched", "layer_weights"}
    assert set(content["Downstream"]) == {"best_score", "projector.weight", "projector.bias",
                                          "model.post_net.linear.weight", "model.post_net.linear.bias"}
    trained = predictions(expdir), last(expdir, "test at step 12")
    result = json.loads((expdir / "test_fold1_confusion.json").read_text())
    assert result["step"] == 12 and result["accuracy"] == pytest.approx(trained[1])
    assert result["uar"] == pytest.approx(last(expdir, "test uar at step 12"))

    run_launcher("-m", "evaluate", "-t", "test", "-i", checkpoint, "-d", "emotion", "-u", "fbank", "-p",
                 tmp_path / "again", "-o", override(data_options(corpus)))
    assert (predictions(tmp_path / "again"), last(tmp_path / "again", "test at step")) == trained
    assert evaluate_plain(checkpoint, corpus, tmp_path / "plain", "-u", "fbank") == trained
    run_launcher("-m", "evaluate", "-t", "test", "-e", checkpoint)
    assert last(expdir, "test at step 0") == trained[1]


def test_seeds_reach_the_head_and_the_samples(corpus, tmp_path, fbank_generator):
    """The same seed gives the same head, bit for bit; another seed, or other samples, another."""
    runs = {"one": (1, {}), "again": (1, {}), "other": (2, {}), "samples": (1, {"sample_seed": 5})}
    for name, (seed, changes) in runs.items():
        options = override(data_options(corpus, generator=fbank_generator, budget=3, **changes))
        run_launcher(*TRAIN, "-d", "distilled_emotion", "-u", "fbank", "-p", tmp_path / name, "--seed", seed, "-o",
                     options)
    weights = {name: head_of(tmp_path / name)["projector.weight"] for name in runs}
    assert torch.equal(weights["one"], weights["again"])
    assert not torch.equal(weights["one"], weights["other"]) and not torch.equal(weights["one"], weights["samples"])


@pytest.mark.slow
def test_hubert_local_with_learnt_layer_weights(corpus, tmp_path, hubert_file):
    """The launcher weighs the states as the generator says; the weights stay put and are in the checkpoint."""
    weights = [0.6, 0.3, 0.1]
    digest = checkpoint_digest(FeatureSpec("hubert_local", str(hubert_file)))
    features = features_of("hubert_local", 64, 320, layer_weights=weights, digest=digest)
    generator = make_generator(tmp_path / "x.safetensors", features)
    options = override(data_options(corpus, generator=generator, budget=4, lengths="corpus"))
    run = (*TRAIN, "-d", "distilled_emotion", "-u", "hubert_local", "-k", hubert_file)
    done = run_launcher(*run, "-p", tmp_path / "run", "--feature_cache", "0.1", "-o", options)
    assert "layer weights from" in done.output and "one fixed set, centred, soft labels" in done.output
    checkpoint = tmp_path / "run" / "states-8.ckpt"
    assert read_layer_weights(checkpoint) == pytest.approx(weights, abs=1e-4)
    plain = evaluate_plain(checkpoint, corpus, tmp_path / "plain", "-u", "hubert_local", "-k", hubert_file)
    assert plain[1] == pytest.approx(last(tmp_path / "run", "test at step"))

    write_featurizer_checkpoint([0.1, 0.3, 0.6], tmp_path / "other.ckpt")
    done = run_launcher(*run, "-i", tmp_path / "other.ckpt", "-p", tmp_path / "other", "-o", options, check=False)
    assert done.code == 2 and "Traceback" not in done.output
    assert done.output.splitlines()[-1].startswith("error: ") and "[0.100 0.300 0.600]" in done.output

    no_weights = make_generator(tmp_path / "y.safetensors", dataclasses.replace(features, layer_weights=None))
    options = override(data_options(corpus, generator=no_weights))
    done = run_launcher(*run, "-p", tmp_path / "none", "-o", options, check=False)
    assert done.code == 2 and "its features weigh the upstream's layers none" in done.output.splitlines()[-1]


def test_hf_hubert_one_layer(corpus, tmp_path):
    from support.tiny_hubert import write_hf_hubert

    write_hf_hubert(tmp_path / "hf")
    upstream = ("-u", "hf_hubert_custom", "-k", tmp_path / "hf")
    digest = checkpoint_digest(FeatureSpec("hf_hubert_custom", str(tmp_path / "hf")))
    features = features_of("hf_hubert_custom", 64, 320, layer=1, digest=digest)
    generator = make_generator(tmp_path / "x.safetensors", features)
    options = override(data_options(corpus, generator=generator, budget="balanced"))
    run_launcher(*TRAIN, "-d", "distilled_emotion", *upstream, "-l", 1, "-p", tmp_path / "run", "-o", options)
    assert "training on 20 generated points (5/5/5/5)" in (tmp_path / "run" / "log.log").read_text()
    options = override(data_options(corpus))
    done = run_launcher(*TRAIN, "-d", "emotion", *upstream, "-l", 3, "-p", tmp_path / "no", "-o", options, check=False)
    assert done.code == 2 and "error: layer 3: hidden_states of upstream hf_hubert_custom has 3 state" in done.output


@pytest.mark.parametrize("upstream, message", [
    (("-u", "fbank", "-l", "99"), "layer 99: hidden_states of upstream fbank has 1 state"),
    (("-u", "hubert_local", "-k", "{folder}/text.pt"), "text.pt is not a checkpoint of its kind"),
    (("-u", "fbank", "-f", "--feature_cache", "1"), "--feature_cache: features of a trained upstream"),
    (("-u", "{folder}/mine.py:flat"), "mine.py:flat: a hidden state of one recording is [1, 100]"),
])
def test_an_upstream_that_cannot_be(upstream, message, corpus, tmp_path):
    (tmp_path / "text.pt").write_text("no checkpoint")
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "beside_mine.py").write_text("RATE = 160\n")
    words = [word.replace("{folder}", str(tmp_path)) for word in upstream]
    done = run_launcher(*TRAIN, "-d", "emotion", *words, "-p", tmp_path / "run", "-o", override(data_options(corpus)),
                        check=False)
    error = done.output.splitlines()[-1]
    assert done.code == 2 and error.startswith("error: ") and message in error and "Traceback" not in done.output


# learning

LEARN = {"config.runner.total_steps": 60, "config.runner.log_step": 20, "config.runner.eval_step": 20,
         "config.runner.save_step": 60, "config.optimizer.lr": 0.003}
DISTILLED = (*TRAIN, "-d", "distilled_emotion", "-u", "fbank_no_cmvn", "--feature_cache", "0.5")


def score_of(expdir):
    """UAR on test at the last step, recomputed from S3PRL's files of predictions; what we keep agrees with it."""
    truth, predicted = ([line.split()[-1] for line in (expdir / f"test_fold1_{what}.txt").read_text().splitlines()]
                        for what in ("truth", "predict"))
    score = uar(truth, predicted)
    assert score == pytest.approx(last(expdir, "test uar at step 60"))
    kept = expdir / "test_at_dev_best.json"  # none where dev was never above 0
    best = json.loads(kept.read_text()) if kept.is_file() else {"step": None}
    if best["step"] == 60:
        assert [best["labels"][index] for index in best["predicted"]] == predicted
    if best["step"]:
        assert uar(best["truth"], best["predicted"]) == pytest.approx(last(expdir, f"test uar at step {best['step']}:"))
    return score


def mean_generator(path, means):
    """A generator whose samples of a class lie about that class's real mean: samples that teach, without training."""
    features = features_of("fbank_no_cmvn", means.shape[1], 160)
    return make_generator(path, features, class_means=means, std=0.3, teacher=False)


def test_samples_teach_their_classes(corpus, tmp_path):
    """Samples about the real class means: the head tells the tones of a person it never heard.

    With the means exchanged it says the wrong class of every tone; not centred, this untrained generator teaches
    nothing.
    """
    means = class_means_of(corpus)
    right = mean_generator(tmp_path / "right.safetensors", means)
    exchanged = mean_generator(tmp_path / "exchanged.safetensors", means[[1, 2, 3, 0]])
    scores = {}
    for name, generator, center in (("right", right, True), ("exchanged", exchanged, True), ("loose", right, False)):
        options = data_options(corpus, generator=generator, budget=8, labels="hard", center=center)
        run_launcher(*DISTILLED, "--feature_folder", tmp_path / "means", "-p", tmp_path / name, "-o",
                     override(options, LEARN))
        scores[name] = score_of(tmp_path / name)
    assert scores["right"] >= 0.9 and scores["exchanged"] <= 0.1 and scores["loose"] <= 0.6, scores


@pytest.mark.parametrize("shuffled", [False, True])
def test_real_labels_are_learnt_and_shuffled_ones_are_not(shuffled, tmp_path):
    """Tones that tell the classes apart, and the same tones under labels drawn anew: chance is 0.25."""
    corpus = write_tones(tmp_path / "tones", takes=6, shuffled=shuffled)
    options = data_options(corpus, select_by="uar", train_batch_size=16, eval_batch_size=16)
    run_launcher(*TRAIN, "-d", "emotion", "-u", "fbank_no_cmvn", "--feature_cache", "0.5", "-p", tmp_path / "run", "-o",
                 override(options, LEARN))
    score = score_of(tmp_path / "run")
    assert score <= 0.5 if shuffled else score >= 0.9, score


# moonshine

@needs_moonshine
def test_moonshine_real_audio_cached_or_not(corpus, tmp_path):
    """Utterance means in place of frames: the same decisions, weights equal but for rounding.

    By SGD: Adam takes a whole step by the sign of a gradient that is nothing but rounding.
    """
    common = (*TRAIN, "-d", "emotion", "-u", "moonshine")
    few = {"config.runner.total_steps": 4, "config.optimizer.torch_optim_name": "SGD", "config.optimizer.lr": 0.1}
    options = override(data_options(corpus, budget=3, select_by="uar"), few)
    run_launcher(*common, "-p", tmp_path / "plain", "-o", options, "--no_feature_cache")
    run_launcher(*common, "-p", tmp_path / "cached", "-o", options, "--feature_folder", tmp_path / "means")
    assert (tmp_path / "plain" / "log.log").read_text() == (tmp_path / "cached" / "log.log").read_text()
    one, other = (read_checkpoint(tmp_path / name / "states-4.ckpt") for name in ("plain", "cached"))
    for name in ("Downstream", "Featurizer"):
        assert all(torch.allclose(one[name][key], other[name][key], atol=1e-5) for key in one[name])
    assert "random real points (3/3/3/3)" in (tmp_path / "cached" / "log.log").read_text()
    assert [path.name for path in (tmp_path / "means").iterdir()] == ["states.sqlite"]


@needs_moonshine
def test_moonshine_on_samples_alone(tmp_path):
    features = features_of("moonshine", 288, 384, layers=7, digest=checkpoint_digest(FeatureSpec("moonshine")))
    generator = make_generator(tmp_path / "x.safetensors", features)
    options = override({f"{DATARC}.generator": generator, "config.runner.eval_dataloaders": "['dev']"})
    run_launcher(*TRAIN, "-d", "distilled_emotion", "-u", "moonshine", "-p", tmp_path / "run", "-o", options)
    log = (tmp_path / "run" / "log.log").read_text()
    assert "no real data" in log and "dev uar at step 8" in log and "test at step" not in log


# elsewhere

ATTENTIVE_HEAD = {"config.downstream_expert.modelrc.UtteranceLevel.pooling": "AttentivePooling"}
FEW = {"config.runner.total_steps": 4, "config.optimizer.torch_optim_name": "SGD", "config.optimizer.lr": 0.1}
"""By SGD: Adam takes a whole step by the sign of a gradient that is nothing but rounding."""


def same_run(tmp_path, *words):
    """Run with what is kept and as S3PRL does it: the same log, weights equal but for rounding."""
    run_launcher(*words, "-p", tmp_path / "stock", "--no_feature_cache")
    run_launcher(*words, "-p", tmp_path / "kept")
    assert (tmp_path / "stock" / "log.log").read_text() == (tmp_path / "kept" / "log.log").read_text()
    stock, kept = (read_checkpoint(tmp_path / name / "states-4.ckpt") for name in ("stock", "kept"))
    for name in ("Downstream", "Featurizer"):
        assert stock[name].keys() == kept[name].keys()
        for key, value in stock[name].items():
            torch.testing.assert_close(value, kept[name][key], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("head", [{}, ATTENTIVE_HEAD])
def test_kept_states_train_as_audio_does(head, corpus, tmp_path, hubert_file):
    """Means, and whole states whose layer weights learn; batches of one, for HuBERT hears padding."""
    options = data_options(corpus, budget=1, train_batch_size=1, eval_batch_size=1)
    same_run(tmp_path, *TRAIN, "-d", "emotion", "-u", "hubert_local", "-k", hubert_file, "-o",
             override(options, FEW, head))


@pytest.mark.slow
def test_all_states_are_kept_for_a_second_head(corpus, tmp_path, hubert_file):
    """It hears frames, and its layer weights learn; from the folder come the same bits."""
    options = data_options(corpus, budget=1, train_batch_size=2, eval_batch_size=2)
    run = (*TRAIN, "-d", "emotion", "-u", "hubert_local", "-k", hubert_file, "--feature_folder", tmp_path / "kept",
           "-o", override(options, FEW, ATTENTIVE_HEAD))
    for name in ("one", "two"):
        run_launcher(*run, "-p", tmp_path / name)
    with contextlib.closing(sqlite3.connect(tmp_path / "kept" / "states.sqlite")) as database:
        shapes = database.execute("SELECT layers, frames FROM states").fetchall()
    assert len(shapes) > 4 and all(layers == 3 and frames > 1 for layers, frames in shapes)
    assert (tmp_path / "one" / "log.log").read_text() == (tmp_path / "two" / "log.log").read_text()


@pytest.mark.slow
def test_kept_frames_are_what_s3prl_hears(corpus, tmp_path, hubert_file):
    """A head that attends to frames, on layer weights of the generator: scores are those of S3PRL's own -d emotion.

    A second run takes the frames from the folder.
    """
    upstream = ("-u", "hubert_local", "-k", hubert_file)
    digest = checkpoint_digest(FeatureSpec("hubert_local", str(hubert_file)))
    features = features_of("hubert_local", 64, 320, layer_weights=[0.6, 0.3, 0.1], digest=digest)
    generator = make_generator(tmp_path / "x.safetensors", features)
    options = data_options(corpus, generator=generator, budget=4, eval_batch_size=1)
    run = (*TRAIN, "-d", "distilled_emotion", *upstream, "--feature_folder", tmp_path / "kept", "-o",
           override(options, FEW, ATTENTIVE_HEAD))
    for name in ("one", "two"):
        run_launcher(*run, "-p", tmp_path / name)
    checkpoint = tmp_path / "one" / "states-4.ckpt"
    plain = evaluate_plain(checkpoint, corpus, tmp_path / "plain", *upstream, head=ATTENTIVE_HEAD)
    for name in ("one", "two"):
        assert predictions(tmp_path / name) == plain[0] and last(tmp_path / name, "test at step") == plain[1]
    assert (tmp_path / "one" / "log.log").read_text() == (tmp_path / "two" / "log.log").read_text()


def write_speakers(corpus, root, video="video"):
    """A tree of voxceleb1 with two speakers and its list. returns: -o for S3PRL"""
    lines = []
    for speaker in range(2):
        wav, _ = soundfile.read(corpus / "audio" / f"speaker{speaker}" / "neu0.wav")
        for part in (1, 2, 3):
            name = f"id1000{speaker + 1}/{video}/0000{part}.wav"
            (root / "dev" / "wav" / name).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(root / "dev" / "wav" / name, wav[:len(wav) - 400 * part], 16000)
            lines.append(f"{part} {name}\n")
    (root / "list.txt").write_text("".join(lines))
    return {f"{DATARC}.file_path": root, f"{DATARC}.meta_data": root / "list.txt", f"{DATARC}.num_workers": 0}


@pytest.mark.parametrize("max_timestep", [None, 4000])
def test_voxceleb1_as_s3prl_runs_it(max_timestep, corpus, tmp_path, hubert_file):
    """Whole utterances are kept; cropped ones pass the upstream each time, beside dev and test that are kept."""
    options = {**write_speakers(corpus, tmp_path / "tree"), f"{DATARC}.max_timestep": max_timestep,
               f"{DATARC}.train_batch_size": 1}
    same_run(tmp_path, *TRAIN, "-d", "voxceleb1", "-u", "hubert_local", "-k", hubert_file, "-o",
             override(options, FEW))
    for name in ("stock", "kept"):
        assert len((tmp_path / name / "test_predict.txt").read_text().splitlines()) == 2
    truths = [(tmp_path / name / "test_truth.txt").read_text() for name in ("stock", "kept")]
    assert truths[0] == truths[1]


def test_voxceleb1_has_its_own_file_list(corpus, tmp_path):
    """Two roots, one after the other: the second does not get the first one's files."""
    run = (*TRAIN, "-d", "voxceleb1", "-u", "fbank", "-p", tmp_path / "run", "-o")
    for number, root in enumerate((tmp_path / "one", tmp_path / "two")):
        options = write_speakers(corpus, root, f"video{number}")
        done = run_launcher(*run, override(options, {"config.runner.total_steps": 4}))
        assert "there are 2 files found" in done.output and (tmp_path / "run" / "test_truth.txt").is_file()
    for changes, message in (({"file_path": tmp_path / "gone"}, f"{DATARC}.file_path: {tmp_path}/gone: not found"),
                             ({"eval_batch_size": 0}, "eval_batch_size: expected greater than or equal to 1")):
        changed = {f"{DATARC}.{key}": value for key, value in changes.items()}
        done = run_launcher(*run, override(options, changed), check=False)
        assert done.code == 2 and message in done.output.splitlines()[-1]


def test_errors_end_with_one_message(corpus, tmp_path):
    """Through the whole command, with a message that comes from a DataLoader's worker process."""
    folder = tmp_path / "corpus"
    shutil.copytree(corpus, folder)
    victim = folder / "audio" / "speaker1" / "neu1.wav"
    victim.write_bytes(victim.read_bytes()[:3000])
    options = override(data_options(folder, pre_load=False, num_workers=1))
    done = run_launcher(*TRAIN, "-d", "emotion", "-u", "fbank", "-p", tmp_path / "run", "-o", options, check=False)
    assert done.code == 2 and "Traceback" not in done.output
    error, = [line for line in done.output.splitlines() if line.startswith("error: ")]
    assert error.startswith(f"error: {victim}: ") and "truncated" in error

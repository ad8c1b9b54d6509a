"""A trained head without S3PRL's Runner: equal to S3PRL's evaluation; class names; windows; what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from support.heads import UTTERANCE_LEVEL, datarc_of, write_confusion, write_ser
from support.runs import LABELS, data_options, override, run_launcher, run_python, write_head

from s3prl_dd.corpora.audio import load_audio
from s3prl_dd.corpora.metadata import Metadata
from s3prl_dd.errors import UserError
from s3prl_dd.plugin.class_names import name_classes
from s3prl_dd.plugin.evaluate import evaluate
from s3prl_dd.plugin.featurizer import read_checkpoint
from s3prl_dd.plugin.head import SerModel, cut_windows
from s3prl_dd.plugin.ser_checkpoint import find_checkpoint, origin_of

NAMES = tuple(LABELS)
EVALUATE = """
import sys, torch
from s3prl_dd.plugin.compat import mend
mend()
import s3prl.downstream.emotion.model as of_emotion, s3prl.downstream.model as of_all, s3prl.run_downstream as s3prl
from s3prl_dd.plugin import launcher
kept = []
def keep(cls):
    original = cls.forward
    def forward(self, *inputs):
        given = original(self, *inputs)
        kept.append(given[0].detach())
        return given
    cls.forward = forward
keep(of_all.UtteranceLevel), keep(of_emotion.DeepModel)
def stock(words):
    sys.argv = ["run_downstream.py", *words]
    s3prl.main()
"""
"""A process in which S3PRL's Runner runs and the logits of its heads are kept."""


@pytest.fixture(scope="module")
def speech(corpus):
    return corpus / "audio" / "speaker0" / "hap1.wav"


@pytest.fixture(scope="module")
def expdir(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made_up")
    write_ser(folder / "dev-best.ckpt", datarc=datarc_of(corpus), scale=3.0)
    return folder


@pytest.fixture(scope="module")
def model(expdir):
    return SerModel.load(expdir)


# S3PRL's own evaluation

def test_utterances(corpus):
    return Metadata.read(corpus / "metadata" / "Session1" / "test_meta_data.json").utterances


test_utterances.__test__ = False


def logits_of(model, corpus):
    wavs = [load_audio(corpus / "audio" / utterance.path) for utterance in test_utterances(corpus)]
    return torch.cat([model.logits([wav]) for wav in wavs])


def agree(model, corpus, logits, expdir):
    """Logits, classes and scores are those of S3PRL's evaluation with batches of one."""
    ours = logits_of(model, corpus)
    assert len(logits) == len(test_utterances(corpus)) and (logits.max(dim=0).values > logits.min(dim=0).values).all()
    assert torch.allclose(ours, logits, atol=1e-5, rtol=0)
    evaluation = evaluate(model, corpus / "metadata", progress=False)
    told = dict(line.split() for line in (expdir / "test_fold1_predict.txt").read_text().splitlines())
    paths = [Path(path).stem for path in evaluation.paths]
    assert dict(zip(paths, evaluation.predicted, strict=True)) == told
    for utterance in test_utterances(corpus)[:3]:
        assert model.predict(corpus / "audio" / utterance.path).label == told[Path(utterance.path).stem]
    return evaluation


def evaluate_by_runner(corpus, expdir, checkpoint, *words):
    """Logits [N, C] of the test list by our launcher and S3PRL's Runner, in an expdir of its own."""
    arguments = ["-m", "evaluate", "-t", "test", "-e", checkpoint, "--device", "cpu", "-o",
                 f"args.expdir={expdir},,config.downstream_expert.datarc.eval_batch_size=1", *words]
    expdir.mkdir()
    code = f"launcher.main({list(map(str, arguments))!r})\ntorch.save(torch.cat(kept), {str(expdir / 'logits')!r})"
    run_python(EVALUATE + code)
    return torch.load(expdir / "logits")


@pytest.mark.slow
@pytest.mark.parametrize("upstream", ["hubert", "distilled"])
def test_equals_s3prls_evaluation(upstream, corpus, tmp_path, hubert_file, fbank_generator):
    """A small HuBERT with learnt layer weights and normalised states; a head trained on samples."""
    chosen = {"hubert": ("-d", "emotion", "-u", "hubert_local", "-k", hubert_file, "--upstream_feature_normalize"),
              "distilled": ("-d", "distilled_emotion", "-u", "fbank")}[upstream]
    more = {"generator": fbank_generator} if upstream == "distilled" else {}
    run_launcher("-m", "train", "--device", "cpu", *chosen, "-p", tmp_path / "run", "-o",
                 override(data_options(corpus, **more)))
    shutil.rmtree(tmp_path / "run" / "none", ignore_errors=True)
    checkpoint = find_checkpoint(tmp_path / "run")
    logits = evaluate_by_runner(corpus, tmp_path / "evaluated", checkpoint)
    evaluation = agree(SerModel.load(tmp_path / "run"), corpus, logits, tmp_path / "evaluated")
    theirs = json.loads((tmp_path / "evaluated" / "test_fold1_confusion.json").read_text())
    assert [list(row) for row in evaluation.confusion] == theirs["matrix"]
    assert list(evaluation.labels) == theirs["labels"]
    assert evaluation.uar == pytest.approx(theirs["uar"]) and evaluation.accuracy == pytest.approx(theirs["accuracy"])


@pytest.mark.slow
def test_equals_the_evaluation_of_plain_s3prl(corpus, tmp_path):
    """S3PRL's own expert, nothing of ours but mended libraries, with S3PRL's other head."""
    from s3prl_dd.config import CONFIGS

    changes = {**data_options(corpus, eval_batch_size=1), "config.downstream_expert.modelrc.select": "DeepModel"}
    train = ["-m", "train", "-d", "emotion", "-u", "fbank", "-c", CONFIGS / "emotion.yaml", "--device", "cpu",
             "-p", tmp_path / "run", "-o", override(changes)]
    rated = ["-m", "evaluate", "-e", tmp_path / "run" / "states-8.ckpt", "--device", "cpu"]
    code = (f"stock({list(map(str, train))!r})\nkept.clear()\nstock({list(map(str, rated))!r})\n"
            f"torch.save(torch.cat(kept), {str(tmp_path / 'logits')!r})")
    run_python(EVALUATE + code, cwd=tmp_path)
    model = SerModel.load(tmp_path / "run" / "states-8.ckpt")
    assert model.classes == NAMES and not list((tmp_path / "run").glob("*confusion*"))
    agree(model, corpus, torch.load(tmp_path / "logits"), tmp_path / "run")


# loading

def test_logits_by_hand(corpus, tmp_path, hubert_file, speech):
    """Featurizer's weights, projector, mean, linear layer; no random number is drawn; a batch is S3PRL's batch."""
    path = write_ser(tmp_path / "x.ckpt", 64, weights=[0.3, -1.0, 0.7], upstream="hubert_local",
                     upstream_ckpt=str(hubert_file), datarc=datarc_of(corpus))
    state = torch.random.get_rng_state()
    model = SerModel.load(path, device="cpu")
    assert torch.equal(torch.random.get_rng_state(), state)
    wav, head = torch.from_numpy(load_audio(speech)), read_checkpoint(path)["Downstream"]
    states = model.encoder.upstream([wav])["hidden_states"]
    weights = torch.tensor([0.3, -1.0, 0.7]).softmax(0)
    mean = sum(weight * item[0] for weight, item in zip(weights, states, strict=True)).mean(dim=0)
    projected = head["projector.weight"] @ mean + head["projector.bias"]
    expected = head["model.post_net.linear.weight"] @ projected + head["model.post_net.linear.bias"]
    logits = model.logits([wav.numpy()])
    assert logits.shape == (1, 4) and torch.allclose(logits[0], expected, atol=1e-5)
    assert model.logits([wav, wav[:9000]]).shape == (2, 4)
    assert not model.head.training and not any(item.requires_grad for item in model.head.parameters())


def test_a_fine_tuned_upstream_is_taken_along(tmp_path, hubert_file, speech):
    path = write_ser(tmp_path / "plain.ckpt", 64, weights=[0.0] * 3, upstream="hubert_local",
                     upstream_ckpt=str(hubert_file))
    plain = SerModel.load(path)
    checkpoint = read_checkpoint(path)
    tuned = plain.encoder.upstream.state_dict()
    checkpoint["Upstream"] = {key: 2 * value if "layers.1.fc2.weight" in key else value for key, value in tuned.items()}
    torch.save(checkpoint, tmp_path / "tuned.ckpt")
    wav = load_audio(speech)
    assert not torch.allclose(SerModel.load(tmp_path / "tuned.ckpt").logits([wav]), plain.logits([wav]), atol=1e-4)
    checkpoint["Upstream"].popitem()
    torch.save(checkpoint, tmp_path / "part.ckpt")
    with pytest.raises(UserError, match="part.ckpt: its fine-tuned weights do not fit upstream hubert_local"):
        SerModel.load(tmp_path / "part.ckpt")


def test_an_expdirs_checkpoint(tmp_path):
    """dev-best.ckpt; else the newest states that are whole."""
    for step in (8, 16, 124):
        write_ser(tmp_path / f"states-{step}.ckpt")
    assert find_checkpoint(tmp_path).name == "states-124.ckpt"
    broken = tmp_path / "states-124.ckpt"
    broken.write_bytes(broken.read_bytes()[:1000])
    assert find_checkpoint(tmp_path).name == "states-16.ckpt"
    write_ser(tmp_path / "dev-best.ckpt")
    assert find_checkpoint(tmp_path).name == "dev-best.ckpt"
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: neither dev-best.ckpt nor a whole states"):
        SerModel.load(tmp_path / "empty")


def test_names_of_the_classes(corpus, tmp_path):
    """Beside the checkpoint, in the metadata, as given; what is told differently is refused, not guessed."""
    def names(path, labels=None):
        checkpoint = read_checkpoint(path)
        return name_classes(path, origin_of(checkpoint), 4, labels)

    bare = write_ser(tmp_path / "bare" / "dev-best.ckpt")
    assert names(bare) is None and names(bare, ["a", "b", "c", "d"]) == ("a", "b", "c", "d")
    write_confusion(bare.parent, ("w", "x", "y"))  # of another head: three classes
    assert names(bare) is None
    write_confusion(bare.parent, ("w", "x", "y", "z"))
    assert names(bare) == ("w", "x", "y", "z")
    listed = write_ser(tmp_path / "listed" / "dev-best.ckpt", datarc=datarc_of(corpus))
    assert names(listed) == NAMES
    write_confusion(listed.parent, NAMES)
    assert names(listed) == NAMES
    write_confusion(listed.parent, NAMES[::-1])
    told = "sources disagree about its class names .*sad,ang,hap,neu.*neu,hap,ang,sad.*Choose with --labels"
    with pytest.raises(UserError, match=told):
        names(listed)
    assert names(listed, NAMES) == NAMES
    for wrong in (["a", "b"], ["a", "b", "c", "c"]):
        with pytest.raises(UserError, match="has 4 classes"):
            names(listed, wrong)


def test_names_from_the_generator(tmp_path, fbank_generator):
    path = write_ser(tmp_path / "x.ckpt", downstream="distilled_emotion", datarc={"generator": str(fbank_generator)})
    assert name_classes(path, origin_of(read_checkpoint(path)), 4, None) == NAMES


def test_without_names(tmp_path, speech):
    model = SerModel.load(write_ser(tmp_path / "x.ckpt", classes=7))
    assert not model.named and model.classes == tuple(f"class{index}" for index in range(7))
    assert model.predict(speech).label in model.classes


@pytest.mark.parametrize("modelrc", [
    {**UTTERANCE_LEVEL, "select": "DeepModel", "DeepModel": {
        "model_type": name, "hidden_dim": 8, "kernel_size": 5, "padding": 2, "pooling": 5, "dropout": 0.4}}
    for name in ("CNNSelfAttention", "FCN")] + [
    {**UTTERANCE_LEVEL, "UtteranceLevel": {"pooling": "AttentivePooling", "activation": "Tanh", "pre_net": {
        "select": "FrameLevel", "FrameLevel": {"hiddens": [8, 8], "activation": "ReLU"}}}}])
def test_every_head_of_s3prl(modelrc, tmp_path, speech):
    model = SerModel.load(write_ser(tmp_path / "x.ckpt", modelrc=modelrc))
    wav = np.tile(load_audio(speech), 4)
    assert model.logits([wav]).shape == (1, 4) and model.head.classes == 4
    if modelrc["select"] == "DeepModel" and modelrc["DeepModel"]["model_type"] == "FCN":
        with pytest.raises(UserError, match="0.3 s of audio through upstream fbank and its head: max_pool1d"):
            model.classify(wav[:4800])


@pytest.mark.parametrize("change", [
    {"select": "__import__('os').mkdir('{}')"},
    {"select": b"__import__('os').mkdir('{}')"},
    {"UtteranceLevel": {"pooling": "__import__('os').mkdir('{}') or MeanPooling"}},
    {"UtteranceLevel": {"pre_net": {"select": "__import__('os').mkdir('{}')"}}},
    {"UtteranceLevel": {"post_net": {"select": "FrameLevel", "x": {"y": ["__import__('os').mkdir('{}')"]}}}},
    {"UtteranceLevel": {"activation": "__import__('os').mkdir('{}')"}},
    {"UtteranceLevel": {"activation": "Module.__init__"}}, {"select": "Path"}, {"select": "math"}])
def test_no_text_of_a_checkpoint_is_run(change, tmp_path):
    """S3PRL evaluates the names of a modelrc as Python."""
    trap = tmp_path / "trap"
    plain = read_checkpoint(write_ser(tmp_path / "x.ckpt"))
    plain["Config"]["downstream_expert"]["modelrc"] = {**UTTERANCE_LEVEL, **set_trap(change, trap)}
    torch.save(plain, tmp_path / "evil.ckpt")
    with pytest.raises(UserError, match="evil.ckpt: .*(no class of S3PRL's heads|not a checkpoint of S3PRL)") as error:
        SerModel.load(tmp_path / "evil.ckpt")
    assert "\n" not in str(error.value) and not trap.exists()


def set_trap(value, trap):
    if isinstance(value, dict):
        return {key: set_trap(item, trap) for key, item in value.items()}
    if isinstance(value, list):
        return [set_trap(item, trap) for item in value]
    return value.replace(b"{}", bytes(trap)) if isinstance(value, bytes) else value.replace("{}", str(trap))


def test_an_upstream_that_is_code_must_be_named(tmp_path):
    path = write_ser(tmp_path / "x.ckpt", upstream="some.module:function")
    with pytest.raises(UserError, match="its upstream is code, some.module:function.*--upstream some.module:function"):
        SerModel.load(path)


def test_refused(tmp_path, hubert_file, monkeypatch):
    with pytest.raises(UserError, match="no such checkpoint"):
        SerModel.load(tmp_path / "no.ckpt")
    other, _ = write_head(tmp_path / "sid.ckpt", downstream="voxceleb1")
    with pytest.raises(UserError, match="sid.ckpt: not a SER checkpoint, found one of -d voxceleb1"):
        SerModel.load(other)
    other, _ = write_head(tmp_path / "no_config.ckpt")
    with pytest.raises(UserError, match="no_config.ckpt: has no configuration of a head"):
        SerModel.load(other)
    path = write_ser(tmp_path / "moved.ckpt", 64, weights=[0.0] * 3, upstream="hubert_local", upstream_ckpt="gone/x.pt")
    with pytest.raises(UserError, match="from gone/x.pt, which is not there.*'upstream_ckpt': PATH.*--upstream-ckpt"):
        SerModel.load(path)
    assert SerModel.load(path, changes={"upstream_ckpt": str(hubert_file)}).encoder.dim == 64
    with pytest.raises(UserError, match="unknown key 'upstream_chkpt'"):
        SerModel.load(path, changes={"upstream_chkpt": "x"})
    with pytest.raises(UserError, match="narrow.ckpt: its head takes 80 dimensions, upstream fbank gives 240"):
        SerModel.load(write_ser(tmp_path / "narrow.ckpt", dim=80))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="device cuda: .*no GPU"):
        SerModel.load(path, device="cuda")


def change(path, edit):
    checkpoint = read_checkpoint(path)
    edit(checkpoint)
    torch.save(checkpoint, path)
    return path


def test_weights_that_cannot_be(tmp_path):
    def spoil(checkpoint):
        checkpoint["Downstream"]["projector.bias"][3] = float("nan")

    with pytest.raises(UserError, match="projector.bias holds what is not a finite number: its training diverged"):
        SerModel.load(change(write_ser(tmp_path / "nan.ckpt"), spoil))
    for edit in (lambda item: item["Downstream"].pop("model.post_net.linear.weight"),
                 lambda item: item["Config"]["downstream_expert"]["modelrc"].update(projector_dim=17),
                 lambda item: item["Config"]["downstream_expert"]["modelrc"].update(UtteranceLevel={"pooling": 3})):
        with pytest.raises(UserError, match="x.ckpt: its weights are not those of its modelrc") as error:
            SerModel.load(change(write_ser(tmp_path / "x.ckpt"), edit))
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="its arguments lack 'upstream_ckpt'"):
        SerModel.load(change(write_ser(tmp_path / "old.ckpt"), lambda item: delattr(item["Args"], "upstream_ckpt")))


# windows

@pytest.mark.parametrize("seconds, window, expected", [
    (10, 30, [(0, 10)]), (30, 30, [(0, 30)]), (75, 30, [(0, 30), (30, 60), (60, 75)]),
    (60.5, 30, [(0, 30), (30, 60.5)]), (61, 30, [(0, 30), (30, 60), (60, 61)]), (75, None, [(0, 75)]),
    (1.2, 0.5, [(0, 0.5), (0.5, 1.2)])])
def test_windows(seconds, window, expected):
    """A rest of less than a second, or than a window, joins the window before it."""
    cuts = cut_windows(int(seconds * 16000), window)
    assert [(cut.start / 16000, cut.end / 16000) for cut in cuts] == expected


@pytest.mark.parametrize("window", [0, -1, 0.05, float("nan"), float("inf")])
def test_no_window(window):
    with pytest.raises(UserError, match="window .*: expected at least 0.1 seconds"):
        cut_windows(16000, window)


def test_long_recordings_are_averaged_by_length(model, tmp_path):
    draw = np.random.default_rng(0)
    wav = (0.1 * draw.standard_normal(16000 * 5)).astype(np.float32)
    wav[:32000] = np.sin(np.arange(32000) / 5)
    soundfile.write(tmp_path / "long.wav", wav, 16000, subtype="FLOAT")
    whole = model.predict(tmp_path / "long.wav", window=2.0, windows=True)
    assert [(part.start, part.end) for part in whole.windows] == [(0, 2), (2, 4), (4, 5)]
    logits = [model.logits([wav[start:end]])[0] for start, end in ((0, 32000), (32000, 64000), (64000, 80000))]
    shares = torch.stack([item.double().softmax(0) for item in logits])
    for part, share in zip(whole.windows, shares, strict=True):
        assert list(part.probabilities.values()) == pytest.approx(share.tolist())
    expected = (0.4 * shares[0] + 0.4 * shares[1] + 0.2 * shares[2]).tolist()
    assert list(whole.probabilities.values()) == pytest.approx(expected)
    assert list(whole.probabilities) == list(NAMES) and sum(expected) == pytest.approx(1)
    assert whole.label == max(whole.probabilities, key=whole.probabilities.get) and (whole.start, whole.end) == (0, 5)
    at_once = model.predict(tmp_path / "long.wav", window=None)
    assert list(at_once.probabilities.values()) == pytest.approx(model.logits([wav])[0].double().softmax(0).tolist())
    assert at_once.windows == () and model.predict(tmp_path / "long.wav").probabilities == at_once.probabilities

"""Trained heads at work: many recordings, lists of utterances, and S3PRL's `-m inference`."""

import io
import json
import os
import shutil
import sys

import numpy as np
import pytest
import soundfile
import torch
from sklearn.metrics import f1_score
from support.heads import datarc_of, write_ser
from support.runs import LABELS, override, run_python, write_metadata

from s3prl_dd.corpora.audio import load_audio
from s3prl_dd.corpora.metadata import Metadata
from s3prl_dd.errors import UserError
from s3prl_dd.plugin.evaluate import evaluate
from s3prl_dd.plugin.featurizer import read_checkpoint
from s3prl_dd.plugin.head import SerModel
from s3prl_dd.plugin.inference import Inference
from s3prl_dd.plugin.predict import list_files, predict, tell

NAMES = tuple(LABELS)


@pytest.fixture(scope="module")
def checkpoint(corpus, tmp_path_factory):
    """A head of random weights on fbank, of which the tones' logits are 0 in the mean: it tells several classes."""
    path = write_ser(tmp_path_factory.mktemp("made_up") / "dev-best.ckpt", datarc=datarc_of(corpus), scale=3.0)
    plain, files = SerModel.load(path), sorted((corpus / "audio").rglob("*.wav"))
    mean = torch.cat([plain.logits([load_audio(file)]) for file in files]).mean(dim=0)
    kept = read_checkpoint(path)
    kept["Downstream"]["model.post_net.linear.bias"] -= mean
    torch.save(kept, path)
    return path


@pytest.fixture(scope="module")
def model(checkpoint):
    return SerModel.load(checkpoint)


@pytest.fixture
def recordings(corpus, tmp_path):
    """A folder of three good files, a cut one, an empty one and a text."""
    folder = tmp_path / "speech"
    (folder / "deep").mkdir(parents=True)
    for number, name in enumerate(("a.wav", "b.wav", "deep/c.wav")):
        shutil.copy(corpus / "audio" / "speaker0" / f"ang{number}.wav", folder / name)
    (folder / "cut.wav").write_bytes((folder / "a.wav").read_bytes()[:3000])
    (folder / "empty.wav").touch()
    (folder / "notes.txt").write_text("none")
    return folder


def told(model, *files, **options):
    out = io.StringIO()
    return tell(model, files, out=out, **options), out.getvalue().splitlines()


# recordings

def test_a_folder_and_files(model, recordings):
    """In order; what cannot be used is told, and nothing else stops."""
    answers = list(predict(model, [recordings, recordings / "a.wav", recordings / "no.wav"]))
    names = [os.path.relpath(answer.file, recordings) for answer in answers]
    assert names == ["a.wav", "b.wav", "cut.wav", "deep/c.wav", "empty.wav", "a.wav", "no.wav"]
    problems = {name: answer.problem for name, answer in zip(names, answers, strict=True) if answer.problem}
    assert list(problems) == ["cut.wav", "empty.wav", "no.wav"]
    assert "truncated" in problems["cut.wav"] and "no such file" in problems["no.wav"]
    for answer in answers:
        assert (answer.prediction is None) == (answer.problem is not None)
        if answer.prediction:
            alone = model.logits([load_audio(answer.file)])[0].double().softmax(0)
            assert list(answer.prediction.probabilities.values()) == pytest.approx(alone.tolist())


def test_json_lines_and_the_exit_code(model, recordings, capsys):
    code, lines = told(model, recordings, as_json=True)
    rows = [json.loads(line) for line in lines]
    assert code == 1 and [os.path.basename(row["file"]) for row in rows] == ["a.wav", "b.wav", "c.wav"]
    for row in rows:
        assert set(row) == {"file", "label", "probabilities", "start", "end"}
        assert list(row["probabilities"]) == list(NAMES) and sum(row["probabilities"].values()) == pytest.approx(1)
    errors = capsys.readouterr().err
    assert "cut.wav: cannot be used as audio: truncated" in errors and "2 of 5 recordings could not be used" in errors
    code, lines = told(model, recordings / "a.wav", as_json=True, window=0.2, windows=True)
    windows = json.loads(lines[0])["windows"]
    assert code == 0 and [window["start"] for window in windows] == [0, 0.2] and "windows" not in windows[0]
    assert capsys.readouterr().err == ""


def test_a_table(model, recordings):
    code, lines = told(model, recordings / "a.wav", recordings / "b.wav")
    assert code == 0 and lines[0].split() == ["label", "from", "to", *NAMES, "file"]
    best = model.predict(recordings / "a.wav")
    label, start, end, *shares, file = lines[1].split()
    assert (label, start, file) == (best.label, "0.00", str(recordings / "a.wav"))
    assert shares == [f"{value:.3f}" for value in best.probabilities.values()]
    assert len({line.index("/") for line in lines[1:]}) == 1 and len(lines) == 3
    _, lines = told(model, recordings / "b.wav", window=0.2, windows=True)
    assert [line.split()[1:3] for line in lines[1:]] == [["0.00", "0.20"], ["0.20", "0.52"]]


@pytest.mark.parametrize("name", ["-dash.wav", "with space,,=*[x].wav", "line\nbreak.wav", "\u00fcber\U0001f600.wav",
                                  os.fsdecode(b"bytes\xff.wav")])
def test_any_name(name, model, recordings, monkeypatch):
    os.rename(recordings / "a.wav", recordings / name)
    monkeypatch.chdir(recordings)
    code, lines = told(model, name)
    assert code == 0 and len(lines) == 2
    "\n".join(lines).encode()  # what a terminal does
    _, lines = told(model, recordings / name, as_json=True)
    assert json.loads(lines[0])["file"] == str(recordings / name)


def test_standard_input(model, recordings, monkeypatch):
    """Also as a pipe leaves it: a header that does not know how much follows."""
    class Stdin:
        def __init__(self, data):
            self.buffer = io.BytesIO(data)

    data = (recordings / "a.wav").read_bytes()
    place = data.index(b"data") + 4
    expected = model.predict(recordings / "a.wav")
    for piped in (data, data[:4] + b"\xff" * 4 + data[8:place] + b"\xff" * 4 + data[place + 4:]):
        monkeypatch.setattr(sys, "stdin", Stdin(piped))
        (answer,) = predict(model, ["-"])
        assert answer.file == "-" and answer.prediction == expected
    for broken in (b"", b"no audio", data[:3000]):
        monkeypatch.setattr(sys, "stdin", Stdin(broken))
        (answer,) = predict(model, ["-"])
        assert answer.problem.startswith("standard input: cannot be used as audio: ")


def test_nothing_to_hear(model, tmp_path):
    (answer,) = predict(model, [tmp_path])
    assert answer.problem == f"{tmp_path}: a folder without audio files."
    for odd in ("x" * 5000, "a\0b", "a\nb"):
        (answer,) = predict(model, [odd])
        assert answer.problem and "\n" not in answer.problem
    with pytest.raises(UserError, match="no recording given"):
        list_files([])
    with pytest.raises(UserError, match="window 0.01"):
        next(predict(model, [tmp_path], window=0.01))


def test_an_upstreams_own_error_stops_nothing_else(model, recordings, monkeypatch):
    original = model.logits

    def short_ones_fail(wavs):
        if len(wavs[0]) < 8000:
            raise RuntimeError("kernel size is too large\nand more")
        return original(wavs)

    monkeypatch.setattr(model, "logits", short_ones_fail)
    answers = list(predict(model, [recordings / "a.wav", recordings / "b.wav"]))
    assert "a.wav: 0.4 s of audio through upstream fbank and its head: kernel size is too large." in answers[0].problem
    assert "\n" not in answers[0].problem and answers[1].prediction


def test_a_progress_bar_of_many(model, recordings, monkeypatch, capsys):
    """On a terminal; it does not run into the lines."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    told(model, *[recordings / "a.wav"] * 11)
    assert "predict: " in capsys.readouterr().err


# lists of utterances

def test_evaluation_by_hand(model, corpus):
    """On the head's own fold, unless another is named; every utterance alone."""
    evaluation = evaluate(model, corpus / "metadata", progress=False)
    utterances = Metadata.read(corpus / "metadata" / "Session1" / "test_meta_data.json").utterances
    predicted = [model.predict(corpus / "audio" / utterance.path).label for utterance in utterances]
    truth = [utterance.label for utterance in utterances]
    assert evaluation.predicted == tuple(predicted) and evaluation.truth == tuple(truth) and not evaluation.notes
    assert len(set(predicted)) > 1
    pairs = list(zip(truth, predicted, strict=True))
    recalls = {name: np.mean([said == name for true, said in pairs if true == name]) for name in NAMES}
    assert evaluation.recalls == pytest.approx(recalls)
    assert evaluation.uar == pytest.approx(np.mean(list(recalls.values())))
    assert evaluation.accuracy == pytest.approx(np.mean([true == said for true, said in pairs]))
    assert evaluation.macro_f1 == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert [list(row) for row in evaluation.confusion] == [
        [pairs.count((true, said)) for said in NAMES] for true in NAMES]
    table = evaluation.table()
    assert f"UAR {100 * evaluation.uar:.1f}  WA" in table and "test of fold1, 12 utterances" in table
    assert json.loads(json.dumps(evaluation.json()))["uar"] == evaluation.uar
    single = evaluate(model, corpus / "metadata" / "Session1" / "test_meta_data.json", progress=False)
    assert single.predicted == evaluation.predicted


def test_other_folds_and_splits(model, corpus):
    """What the head has heard in its training is said."""
    other = evaluate(model, corpus / "metadata", fold="fold2", progress=False)
    assert len(other.paths) == 12
    assert other.notes[0].startswith("12 of these utterances are of the head's own train and dev part")
    assert other.table().index("note: 12 of these") < other.table().index("UAR"), "before the score"
    alone = evaluate(model, corpus / "metadata/Session1/train_meta_data.json", root=corpus / "audio", progress=False)
    assert alone.notes[0].startswith("24 of these utterances are of the head's own train and dev part")
    dev = evaluate(model, corpus / "metadata", fold="fold1", split="dev", progress=False)
    assert len(dev.paths) == 5 and dev.notes
    for fold, split, message in (("fold9", "test", "Session9: no such fold. Found fold1, fold2, fold3"),
                                 (None, "trian", "split 'trian'")):
        with pytest.raises(UserError, match=message):
            evaluate(model, corpus / "metadata", fold=fold, split=split)


def other_corpus(corpus, folder, labels, rename=lambda name: name):
    """The same audio as another corpus; labels: name -> index in its own lists."""
    own = [Metadata.read(corpus / "metadata" / "Session1" / f"{part}_meta_data.json").utterances
           for part in ("train", "test")]
    utterances = [{"path": utterance.path, "label": rename(utterance.label), "speaker": f"other {utterance.speaker}"}
                  for utterance in own[0] + own[1] if rename(utterance.label) in labels]
    write_metadata(folder, utterances, labels, "other")
    return folder


def test_another_corpus_in_another_order_of_labels(model, corpus, tmp_path):
    """By name; classes that it lacks count neither in UAR nor in F1."""
    others = other_corpus(corpus, tmp_path, {"sad": 0, "neu": 1})
    with pytest.raises(UserError, match="nothing says where its audio is. Give the corpus' folder with --root"):
        evaluate(model, others)
    evaluation = evaluate(model, others, root=corpus / "audio", progress=False)
    assert evaluation.labels == NAMES and len(evaluation.paths) == 18 and set(evaluation.truth) == {"neu", "sad"}
    assert "every utterance" in evaluation.what and not evaluation.notes
    for path, said in zip(evaluation.paths, evaluation.predicted, strict=True):
        assert said == model.predict(corpus / "audio" / path).label
    assert evaluation.recalls["hap"] is None and evaluation.confusion[NAMES.index("hap")] == (0, 0, 0, 0)
    neu, sad = evaluation.recalls["neu"], evaluation.recalls["sad"]
    assert evaluation.uar == pytest.approx((neu + sad) / 2)
    expected = f1_score(evaluation.truth, evaluation.predicted, labels=["neu", "sad"], average="macro")
    assert evaluation.macro_f1 == pytest.approx(expected)
    described = json.loads((tmp_path / "corpus.json").read_text())
    (tmp_path / "corpus.json").write_text(json.dumps({**described, "root": str(corpus / "audio")}))
    fold = evaluate(model, others, fold="fold3", progress=False)
    assert len(fold.paths) == 6
    with pytest.raises(UserError, match="split dev of which fold"):
        evaluate(model, others, split="dev")
    with pytest.raises(UserError, match="a single list"):
        evaluate(model, others / "Session1" / "test_meta_data.json", fold="fold1")


def test_segments(model, corpus, tmp_path):
    """An utterance may be a part of its file."""
    path = "speaker0/ang2.wav"
    parts = [{"start": 0.1, "end": 0.4}, {"start": 0.3}, {}]
    listed = [{"path": path, "label": "ang", "speaker": "speaker0", **part} for part in parts]
    (tmp_path / "list.json").write_text(json.dumps({"labels": LABELS, "meta_data": listed}))
    evaluation = evaluate(model, tmp_path / "list.json", root=corpus / "audio", progress=False)
    wav = load_audio(corpus / "audio" / path)
    expected = [model.classify(wav[start:end]).label for start, end in ((1600, 6400), (4800, None), (0, None))]
    assert evaluation.predicted == tuple(expected)
    assert evaluation.paths == (f"{path}#0.1-0.4", f"{path}#0.3-", path)


def test_refused_lists(model, corpus, tmp_path):
    foreign = other_corpus(corpus, tmp_path, {"neu": 0, "calm": 1, "fear": 2},
                           lambda name: {"hap": "calm", "sad": "fear"}.get(name, name))
    with pytest.raises(UserError, match=r"label calm, fear is none of the head's \(neu, hap, ang, sad\)"):
        evaluate(model, foreign, root=corpus / "audio")
    with pytest.raises(UserError, match=r"no such audio file \(12 of 12 are missing\). Check --root"):
        evaluate(model, corpus / "metadata", root=tmp_path)
    unnamed = SerModel(model.encoder, model.head, ["class0", "class1", "class2", "class3"], named=False)
    with pytest.raises(UserError, match="names of the head's 4 classes are not known.*--labels"):
        evaluate(unnamed, corpus / "metadata", fold="fold1", root=corpus / "audio")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: no fold in it"):
        evaluate(model, tmp_path / "empty", root=corpus / "audio")
    with pytest.raises(UserError, match="no such S3PRL emotion metadata"):
        evaluate(model, tmp_path / "no.json")


# S3PRL's `-m inference`

def test_inference_of_an_expert(model, corpus, tmp_path, capsys):
    """The classes and probabilities of the head itself; audio of any rate and channel count."""
    class Expert(Inference, torch.nn.Module):
        pass

    expert = Expert()
    expert.projector, expert.model, expert.expdir = model.head.projector, model.head.model, str(tmp_path)
    expert.test_dataset = type("Dataset", (), {"idx2emotion": dict(enumerate(NAMES))})
    path = corpus / "audio" / "speaker0" / "ang1.wav"
    wav = expert.load_audio(path)
    frames = model.encoder.featurizer([wav], model.encoder.upstream([wav]))
    expected = model.predict(path)
    assert expert.inference(frames, ["ang1"]) == [expected.label]
    (kept,) = json.loads((tmp_path / "inference.json").read_text())
    assert kept["file"] == "ang1" and kept["label"] == expected.label
    assert kept["probabilities"] == pytest.approx(expected.probabilities)
    assert json.loads(capsys.readouterr().out) == kept
    soundfile.write(tmp_path / "stereo.wav", np.zeros((44100, 2)), 44100)
    assert expert.load_audio(tmp_path / "stereo.wav").shape == (16000,)


@pytest.mark.slow
def test_inference_through_s3prls_runner(checkpoint, model, corpus, tmp_path):
    path = corpus / "audio" / "speaker0" / "ang1.wav"
    datarc = {f"config.downstream_expert.datarc.{key}": value for key, value in datarc_of(corpus).items()}
    modelrc = {"config.downstream_expert.modelrc.projector_dim": 16}
    arguments = ["-m", "inference", "-t", path, "-d", "emotion", "-u", "fbank", "-i", checkpoint, "--device", "cpu",
                 "-p", tmp_path / "run", "-o", override(datarc, modelrc)]
    run_python(f"""
from s3prl_dd.plugin import emotion, launcher
from s3prl_dd.plugin.inference import Inference
if not issubclass(emotion.EmotionExpert, Inference):
    emotion.EmotionExpert = type("Expert", (emotion.EmotionExpert, Inference), {{}})
launcher.launch({list(map(str, arguments))!r})
""")
    (kept,) = json.loads((tmp_path / "run" / "inference.json").read_text())
    assert kept["file"] == "ang1" and kept["probabilities"] == pytest.approx(model.predict(path).probabilities)

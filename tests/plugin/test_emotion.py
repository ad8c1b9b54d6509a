"""The expert of -d emotion, made in this process: S3PRL's own split, head and log, our seeds, budgets and results."""

import json
import shutil
from collections import defaultdict

import numpy as np
import pytest
import soundfile
import torch
from support.experts import emotion
from support.runs import LABELS, write_metadata
from torch.nn.utils.rnn import pad_sequence

from s3prl_dd.config import CONFIGS, read_yaml
from s3prl_dd.corpora.metadata import read_fold
from s3prl_dd.errors import UserError
from s3prl_dd.plugin.emotion import pad_frames, s3prl_emotion
from s3prl_dd.plugin.memory import free_memory
from s3prl_dd.plugin.placeholder import Recordings, read_marks
from s3prl_dd.plugin.runs import best_on_dev
from s3prl_dd.rng import keyed


def write_corpus(folder, utterances):
    """utterances: (path, label, speaker, samples, rate)."""
    for path, _, _, samples, rate in utterances:
        (folder / "audio" / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / "audio" / path, samples, rate)
    write_metadata(folder / "metadata", [{"path": u[0], "label": u[1], "speaker": u[2]} for u in utterances])
    return folder


class Logger:
    def __init__(self):
        self.scalars = {}

    def add_scalar(self, name, value, global_step):
        self.scalars[name] = value


def plain_expert(corpus, expdir, valid_ratio=0.2):
    """S3PRL's own."""
    datarc = {
        "root": str(corpus / "audio"),
        "meta_data": str(corpus / "metadata"),
        "pre_load": False,
        "valid_ratio": valid_ratio,
    }
    modelrc = read_yaml(CONFIGS / "emotion.yaml")["downstream_expert"]["modelrc"]
    return s3prl_emotion.DownstreamExpert(240, {"datarc": datarc, "modelrc": modelrc}, str(expdir))


def paths(expert, part="train"):
    subset = getattr(expert, f"{part}_dataset")
    return [subset.dataset.meta_data[index]["path"] for index in subset.indices]


@pytest.mark.parametrize("valid_ratio", [0.2, 0.35])
def test_state_and_split_are_s3prls(corpus, tmp_path, valid_ratio):
    """Same keys and the same split as S3PRL's own expert, whatever the seed, and as the distiller's."""
    plain = plain_expert(corpus, tmp_path, valid_ratio)
    for seed in (1337, 1):
        expert = emotion(corpus, tmp_path, {"valid_ratio": valid_ratio}, seed=seed)
        assert list(expert.state_dict()) == list(plain.state_dict())
        assert paths(expert) == paths(plain) and paths(expert, "dev") == paths(plain, "dev")
    assert np.array_equal(expert.dev_dataset[0][0], plain.dev_dataset[0][0])
    fold = read_fold(corpus / "metadata", "fold1", valid_ratio)
    assert [utterance.path for utterance in fold.dev.utterances] == paths(plain, "dev")


def test_a_given_dev_list_is_dev(corpus, tmp_path):
    """And the whole train list is train, as for the distiller."""
    shutil.copytree(corpus / "metadata", tmp_path / "metadata")
    session = tmp_path / "metadata/Session1"
    whole = json.loads((session / "train_meta_data.json").read_text())
    parts = {
        "dev": whole["meta_data"][::3],
        "train": [item for item in whole["meta_data"] if item not in whole["meta_data"][::3]],
    }
    for part, items in parts.items():
        (session / f"{part}_meta_data.json").write_text(json.dumps({**whole, "meta_data": items}))
    expert = emotion(corpus, tmp_path, {"meta_data": str(tmp_path / "metadata")})
    fold = read_fold(tmp_path / "metadata", "fold1")
    train = [expert.train_dataset.dataset.meta_data[index]["path"] for index in expert.train_dataset.indices]
    dev = [item["path"] for item in expert.dev_dataset.meta_data]
    assert train == [item.path for item in fold.train.utterances] == [item["path"] for item in parts["train"]]
    assert dev == [item.path for item in fold.dev.utterances] == [item["path"] for item in parts["dev"]]


def test_frames_are_padded_as_torch_pads_them():
    """Bit by bit, their gradients too; S3PRL's forward takes it."""
    assert s3prl_emotion.pad_sequence is pad_frames
    results = []
    for padding in (pad_sequence, pad_frames):
        frames = [torch.randn(length, 3, generator=keyed(0, length)).requires_grad_() for length in (4, 1, 6)]
        batch = padding(frames, batch_first=True)
        batch.square().sum().backward()
        results.append([batch.detach(), *(utterance.grad for utterance in frames)])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_the_first_weights_follow_the_seed(corpus, tmp_path):
    one, again, other = (emotion(corpus, tmp_path, seed=seed) for seed in (1337, 1337, 1))
    for name, value in one.named_parameters():
        assert torch.equal(value, again.get_parameter(name)) and not torch.equal(value, other.get_parameter(name)), name


def test_the_test_fold_may_come_from_s3prls_variant(corpus, tmp_path):
    assert emotion(corpus, tmp_path).fold == "fold1"
    expert = emotion(corpus, tmp_path, downstream_variant="fold2")
    assert expert.fold == "fold2" and {item["speaker"] for item in expert.test_dataset.meta_data} == {"speaker1"}


def test_epochs_have_their_own_order_whatever_the_global_seed(corpus, tmp_path):
    expert, other = emotion(corpus, tmp_path), emotion(corpus, tmp_path, seed=2)

    def names(expert, epoch):
        torch.manual_seed(0)  # as S3PRL's evaluation does
        return [name for _, _, batch in expert.get_dataloader("train", epoch=epoch) for name in batch]

    assert names(expert, 0) == names(expert, 0) != names(expert, 1)
    assert sorted(names(expert, 0)) == sorted(names(expert, 1)) and names(expert, 0) != names(other, 0)


def test_audio_of_any_rate_and_channels(tmp_path):
    """Stereo and mixed rates come out as 16 kHz mono."""
    tone = {rate: 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate) for rate in (8000, 16000, 44100)}
    stereo = np.stack([tone[16000], np.zeros(16000)], axis=1)
    kinds = [(tone[8000], 8000), (tone[44100], 44100), (stereo, 16000)]
    corpus = write_corpus(
        tmp_path,
        [
            (f"{speaker}/{label}{i}.wav", label, speaker, *kinds[i % 3])
            for speaker in "ab"
            for label in LABELS
            for i in range(3)
        ],
    )
    expert = emotion(corpus, tmp_path)
    for dataset in (expert.train_dataset, expert.dev_dataset, expert.test_dataset):
        for wav, _, name in dataset:
            assert wav.dtype == np.float32 and wav.shape == (16000,)
            assert abs(np.abs(np.fft.rfft(wav)).argmax() - 440) <= 1
            assert abs(wav[4000:12000].max() - (0.25 if int(name[-1]) % 3 == 2 else 0.5)) < 0.02


def test_tickets_in_the_place_of_audio(corpus, tmp_path):
    """The same items in the same order; no file is opened, and none is kept."""
    recordings = Recordings()
    plain, ticketed = emotion(corpus, tmp_path), emotion(corpus, tmp_path, recordings=recordings)
    assert plain.test_dataset.pre_load and not ticketed.test_dataset.pre_load
    for split in ("train", "dev", "test"):
        batches = zip(plain.get_dataloader(split), ticketed.get_dataloader(split), strict=True)
        for (wavs, *others), (tickets, *same) in batches:
            assert same == others
            for wav, number in zip(wavs, read_marks([torch.FloatTensor(ticket) for ticket in tickets]), strict=True):
                assert np.array_equal(recordings.all[number].load(), wav)
    assert len(recordings.all) == 36


def test_audio_beyond_half_of_the_memory_is_not_kept(corpus, tmp_path, monkeypatch):
    seconds = 24 * 0.515  # of test, 12 files of 0.4 to 0.63 s, and of train and dev
    for free, kept in ((4 * 16000 * seconds * 4, True), (4 * 16000 * seconds, False)):
        monkeypatch.setattr("s3prl_dd.plugin.emotion.free_memory", lambda free=free: free)
        assert emotion(corpus, tmp_path).test_dataset.pre_load is kept
    assert "pre_load is switched off: 36 recordings are 0.0 GB" in (tmp_path / "log.log").read_text()
    assert free_memory() > 0


def test_bad_audio_and_paths(corpus, tmp_path):
    broken = tmp_path / "corpus"
    shutil.copytree(corpus, broken)
    victim = broken / "audio" / "speaker1" / "hap0.wav"
    victim.write_bytes(victim.read_bytes()[:2000])
    with pytest.raises(UserError, match="hap0.wav: .*truncated"):
        emotion(broken, tmp_path)
    victim.unlink()
    with pytest.raises(UserError, match=r"hap0.wav: no such audio file \(1 of"):
        emotion(broken, tmp_path)
    with pytest.raises(UserError, match="datarc.root: None: no such folder"):
        emotion(None, tmp_path)
    with pytest.raises(UserError, match="test_fold is fold9, found fold1, fold2, fold3"):
        emotion(corpus, tmp_path, {"test_fold": "fold9"})


def test_refused_configurations(corpus, tmp_path):
    with pytest.raises(UserError, match="unknown key 'selectby'.*Did you mean 'select_by'"):
        emotion(corpus, tmp_path, {"selectby": "uar"})
    for modelrc, message in (
        ({"projector": 3}, "modelrc: unknown key 'projector'"),
        ({"projector_dim": 256, "select": "UtteranceLvl"}, "modelrc.select: 'UtteranceLvl'"),
    ):
        with pytest.raises(UserError, match=message):
            emotion(corpus, tmp_path, downstream_expert={"datarc": {}, "modelrc": modelrc})
    for runner in ({"eval_dataloaders": ["dev", "tset"]}, {"eval_dataloaders": ["train"]}):
        with pytest.raises(UserError, match="split '(tset|train)': expected dev or test"):
            emotion(corpus, tmp_path, runner=runner)


def test_class_without_a_training_utterance(corpus, tmp_path):
    write_metadata(
        tmp_path / "metadata",
        [
            {"path": f"speaker{speaker}/{label}{take}.wav", "label": label, "speaker": f"speaker{speaker}"}
            for speaker in range(3)
            for label in ("neu", "hap", "ang")
            for take in range(3)
        ],
    )
    (tmp_path / "audio").symlink_to(corpus / "audio")
    with pytest.raises(UserError, match="class sad has no training utterance in fold1"):
        emotion(tmp_path, tmp_path)


def test_real_budget_is_a_random_subset_of_train(corpus, tmp_path):
    """Drawn within each class, by seed; dev and test untouched; too few of a class is said."""
    whole = emotion(corpus, tmp_path)
    draws = [emotion(corpus, tmp_path, {"budget": 2}, seed=seed) for seed in (1, 1, 2, 3)]
    for expert in draws:
        labels = [path.split("/")[1][:3] for path in paths(expert)]
        assert sorted(labels) == sorted(list(LABELS) * 2)
        assert set(paths(expert)) < set(paths(whole)) and paths(expert, "dev") == paths(whole, "dev")
    assert paths(draws[0]) == paths(draws[1])
    assert len({tuple(paths(expert)) for expert in draws}) > 1
    (tmp_path / "log.log").unlink()
    expert = emotion(corpus, tmp_path, {"budget": {"ppc": 99}})
    assert sorted(paths(expert)) == sorted(paths(whole))
    assert "the budget asked for 99/99/99/99, some classes have fewer" in (tmp_path / "log.log").read_text()
    with pytest.raises(UserError, match="budget 'half'"):
        emotion(corpus, tmp_path, {"budget": "half"})


@pytest.mark.parametrize("select_by, saved", [("acc", [True, True, False]), ("uar", [True, False, True])])
def test_uar_confusion_and_best_checkpoint(corpus, tmp_path, select_by, saved):
    expert = emotion(corpus, tmp_path, {"select_by": select_by})
    truth = ["neu", "neu", "neu", "hap", "sad"]  # no ang
    rounds = [
        ["neu", "neu", "hap", "hap", "neu"],  # acc .6, uar (2/3 + 1 + 0) / 3 = .556
        ["neu", "neu", "neu", "hap", "neu"][:3] + ["ang", "sad"],  # acc .8, uar (1 + 0 + 1) / 3 = .667
        ["neu", "hap", "hap", "hap", "sad"],
    ]  # acc .6, uar (1/3 + 1 + 1) / 3 = .778
    if select_by == "uar":
        rounds[1] = ["neu", "neu", "neu", "ang", "neu"]  # acc .6, uar .333
    for step, (predicted, save) in enumerate(zip(rounds, saved, strict=True), start=1):
        hits = [float(a == b) for a, b in zip(truth, predicted, strict=True)]
        records = defaultdict(list, truth=truth, predict=predicted, acc=hits, loss=[1.0], filename=list("abcde"))
        logger = Logger()
        names = expert.log_records("dev", records=records, logger=logger, global_step=step)
        assert names == (["dev-best.ckpt"] if save else [])
        expert.log_records("test", records={**records, "predict": predicted[::-1]}, logger=Logger(), global_step=step)
        pairs = list(zip(truth, predicted, strict=True))
        recalls = [np.mean([b == name for a, b in pairs if a == name]) for name in ("neu", "hap", "sad")]
        assert logger.scalars["emotion-fold1/dev-uar"] == pytest.approx(np.mean(recalls))
        assert logger.scalars["emotion-fold1/dev-acc"] == pytest.approx(np.mean(hits))
    result = json.loads((tmp_path / "dev_fold1_confusion.json").read_text())
    assert result["labels"] == ["neu", "hap", "ang", "sad"] and result["step"] == 3
    assert result["matrix"] == [[1, 2, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert result["uar"] == pytest.approx(np.mean(recalls)) and result["accuracy"] == pytest.approx(0.6)
    log = (tmp_path / "log.log").read_text()
    assert "dev at step 3: 0.6" in log and "dev uar at step 3: 0.777" in log
    assert expert.best_score.shape == (1,) and "best_score" in expert.state_dict()
    best = max(step for step, save in enumerate(saved, start=1) if save)  # the step of dev-best.ckpt
    names = result["labels"]
    assert json.loads((tmp_path / "test_at_dev_best.json").read_text()) == {
        "step": best,
        "labels": names,
        "truth": [names.index(name) for name in truth],
        "predicted": [names.index(name) for name in rounds[best - 1][::-1]],
    }


def test_of_equal_scores_the_first_is_best_and_none_is_too_low(corpus, tmp_path):
    """As plugin.runs.best_on_dev reads the log: else the predictions kept would be of another step than the score."""
    expert = emotion(corpus, tmp_path, {"select_by": "uar"})
    truth = ["neu"] * 5 + ["hap"]
    kept = {
        "nothing": ["sad"] * 6,
        "some": ["neu", "neu", "sad", "sad", "sad", "hap"],
    }  # uar 0, and .7: less in float32
    saved = []
    for step, name in enumerate(["nothing", "some", "some"], start=1):
        records = defaultdict(list, truth=truth, predict=kept[name], acc=[0.0] * 6, loss=[1.0], filename=list("abcdef"))
        saved.append(expert.log_records("dev", records=records, logger=Logger(), global_step=step))
        expert.log_records("test", records=records, logger=Logger(), global_step=step)
    assert saved == [["dev-best.ckpt"], ["dev-best.ckpt"], []]
    best = best_on_dev(tmp_path, {"dev_uar": "dev uar", "uar": "test uar"})
    assert best["step"] == json.loads((tmp_path / "test_at_dev_best.json").read_text())["step"] == 2


def test_evaluation_reads_its_own_split_alone(corpus, tmp_path):
    """The audio of train and dev may be gone where test is evaluated."""
    part = tmp_path / "corpus"
    shutil.copytree(corpus, part)
    shutil.rmtree(part / "audio" / "speaker1")
    assert len(emotion(part, tmp_path, mode="evaluate").get_dataloader("test").dataset) == 12
    with pytest.raises(UserError, match="no such audio file"):
        emotion(part, tmp_path, mode="evaluate", evaluate_split="dev")

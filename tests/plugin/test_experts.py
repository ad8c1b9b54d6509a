"""The two experts, made in this process as S3PRL's Runner makes them: data, seeds, budgets, results, refusals."""

import json
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from support.runs import LABELS, features_of, make_generator, write_metadata

from s3prl_dd.config import CONFIGS, read_yaml
from s3prl_dd.errors import UserError
from s3prl_dd.plugin.cache import PLACEHOLDER_SAMPLES, PROBE_SAMPLES
from s3prl_dd.plugin.featurizer import write_featurizer_checkpoint


def make(kind, corpus, expdir, datarc=None, upstream_dim=240, upstream_rate=160, **arguments):
    """An expert; `datarc` over the shipped configuration, `arguments` over S3PRL's defaults."""
    from s3prl_dd.plugin.registration import register

    register()
    if kind == "emotion":
        from s3prl_dd.plugin.emotion import EmotionExpert as Expert
    else:
        from s3prl.downstream.distilled_emotion.expert import DownstreamExpert as Expert
    config = read_yaml(CONFIGS / f"{kind}.yaml")
    config["downstream_expert"]["datarc"].update(num_workers=0, **(datarc or {}))
    if corpus:
        config["downstream_expert"]["datarc"].update(root=str(corpus / "audio"), meta_data=str(corpus / "metadata"))
    defaults = dict(mode="train", evaluate_split="test", downstream=kind, downstream_variant=None, upstream="fbank", upstream_ckpt=None,
                    upstream_model_config=None, upstream_trainable=False, upstream_feature_selection="hidden_states",
                    upstream_layer_selection=None, upstream_feature_normalize=False, init_ckpt=None, seed=1337, device="cpu")
    return Expert(upstream_dim=upstream_dim, upstream_rate=upstream_rate, expdir=str(expdir), **{**config, **defaults, **arguments})


def distilled(corpus, expdir, generator, datarc=None, **arguments):
    return make("distilled_emotion", corpus, expdir, {"generator": str(generator), **(datarc or {})}, **arguments)


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


# real audio

def test_state_and_split_are_s3prls(corpus, tmp_path):
    """Same keys and the same split as S3PRL's own expert; the first weights follow --seed."""
    from s3prl_dd.plugin.emotion import s3prl_emotion

    expert, other = make("emotion", corpus, tmp_path), make("emotion", corpus, tmp_path, seed=1)
    datarc = {"root": str(corpus / "audio"), "meta_data": str(corpus / "metadata"), "pre_load": False, "valid_ratio": 0.2}
    modelrc = read_yaml(CONFIGS / "emotion.yaml")["downstream_expert"]["modelrc"]
    plain = s3prl_emotion.DownstreamExpert(240, {"datarc": datarc, "modelrc": modelrc}, str(tmp_path))
    assert list(expert.state_dict()) == list(plain.state_dict())
    assert list(expert.train_dataset.indices) == list(plain.train_dataset.indices)
    assert list(expert.dev_dataset.indices) == list(other.dev_dataset.indices) == list(plain.dev_dataset.indices)
    assert np.array_equal(expert.dev_dataset[0][0], plain.dev_dataset[0][0])
    assert not torch.equal(expert.projector.weight, other.projector.weight)
    assert torch.equal(expert.projector.weight, make("emotion", corpus, tmp_path).projector.weight)


def test_epochs_have_their_own_order_whatever_the_global_seed(corpus, tmp_path):
    expert = make("emotion", corpus, tmp_path)

    def names(epoch):
        torch.manual_seed(0)  # as S3PRL's evaluation does
        return [name for _, _, batch in expert.get_dataloader("train", epoch=epoch) for name in batch]

    assert names(0) == names(0) != names(1) and sorted(names(0)) == sorted(names(1))


def test_audio_of_any_rate_and_channels(tmp_path):
    """Stereo and mixed rates come out as 16 kHz mono."""
    tone = {rate: 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate) for rate in (8000, 16000, 44100)}
    stereo = np.stack([tone[16000], np.zeros(16000)], axis=1)
    kinds = [(tone[8000], 8000), (tone[44100], 44100), (stereo, 16000)]
    corpus = write_corpus(tmp_path, [(f"{speaker}/{label}{i}.wav", label, speaker, *kinds[i % 3]) for speaker in "ab"
                                     for label in LABELS for i in range(3)])
    expert = make("emotion", corpus, tmp_path)
    for dataset in (expert.train_dataset, expert.dev_dataset, expert.test_dataset):
        for wav, _, name in dataset:
            assert wav.dtype == np.float32 and wav.shape == (16000,)
            assert abs(np.abs(np.fft.rfft(wav)).argmax() - 440) <= 1
            assert abs(wav[4000:12000].max() - (0.25 if int(name[-1]) % 3 == 2 else 0.5)) < 0.02


def test_bad_audio_and_paths(corpus, tmp_path):
    broken = tmp_path / "corpus"
    shutil.copytree(corpus, broken)
    victim = broken / "audio" / "speaker1" / "hap0.wav"
    victim.write_bytes(victim.read_bytes()[:2000])
    with pytest.raises(UserError, match="hap0.wav: .*truncated"):
        make("emotion", broken, tmp_path)
    victim.unlink()
    with pytest.raises(UserError, match=r"hap0.wav: no such audio file \(1 of"):
        make("emotion", broken, tmp_path)
    with pytest.raises(UserError, match="datarc.root: None: no such folder"):
        make("emotion", None, tmp_path)
    with pytest.raises(UserError, match="test_fold is fold9, found fold1, fold2, fold3"):
        make("emotion", corpus, tmp_path, {"test_fold": "fold9"})


def test_misspelt_keys(corpus, tmp_path):
    with pytest.raises(UserError, match="unknown key 'selectby'.*Did you mean 'select_by'"):
        make("emotion", corpus, tmp_path, {"selectby": "uar"})
    with pytest.raises(UserError, match="select_by must be acc or uar, found 'loss'"):
        make("emotion", corpus, tmp_path, {"select_by": "loss"})
    with pytest.raises(UserError, match="unknown key 'resampel'.*Did you mean 'resample'"):
        make("distilled_emotion", corpus, tmp_path, {"resampel": True})
    with pytest.raises(UserError, match="modelrc: unknown key 'projector'"):
        make("emotion", corpus, tmp_path, downstream_expert={"datarc": {}, "modelrc": {"projector": 3}})
    from s3prl_dd.plugin.launcher import check_blocks

    config = read_yaml(CONFIGS / "emotion.yaml")
    check_blocks(config)
    with pytest.raises(UserError, match="config: unknown key 'optimiser'. Did you mean 'optimizer'"):
        check_blocks({**config, "optimiser": {}})
    with pytest.raises(UserError, match="config.runner: unknown key 'eval_steps'. Did you mean 'eval_step'"):
        check_blocks({**config, "runner": {"eval_steps": 1}})


def test_class_without_a_training_utterance(corpus, tmp_path):
    write_metadata(tmp_path / "metadata", [{"path": f"speaker{s}/{label}{i}.wav", "label": label, "speaker": f"speaker{s}"}
                                           for s in range(3) for label in ("neu", "hap", "ang") for i in range(3)])
    (tmp_path / "audio").symlink_to(corpus / "audio")
    with pytest.raises(UserError, match="class sad has no training utterance in fold1"):
        make("emotion", tmp_path, tmp_path)


def test_real_budget_is_a_random_subset_of_train(corpus, tmp_path):
    """Drawn within each class, by seed; dev and test untouched; too few of a class is said."""
    def paths(expert, part="train"):
        dataset = getattr(expert, f"{part}_dataset")
        return [(dataset.dataset.meta_data[index]["path"]) for index in dataset.indices]

    whole = make("emotion", corpus, tmp_path)
    draws = [make("emotion", corpus, tmp_path, {"budget": 2}, seed=seed) for seed in (1, 1, 2, 3)]
    for expert in draws:
        labels = [path.split("/")[1][:3] for path in paths(expert)]
        assert sorted(labels) == sorted(list(LABELS) * 2)
        assert set(paths(expert)) < set(paths(whole)) and paths(expert, "dev") == paths(whole, "dev")
    assert paths(draws[0]) == paths(draws[1])
    assert len({tuple(paths(expert)) for expert in draws}) > 1
    (tmp_path / "log.log").unlink()
    expert = make("emotion", corpus, tmp_path, {"budget": {"ppc": 99}})
    assert sorted(paths(expert)) == sorted(paths(whole))
    assert "the budget asked for 99/99/99/99, some classes have fewer" in (tmp_path / "log.log").read_text()
    with pytest.raises(UserError, match="budget 'half'"):
        make("emotion", corpus, tmp_path, {"budget": "half"})


@pytest.mark.parametrize("select_by, saved", [("acc", [True, True, False]), ("uar", [True, False, True])])
def test_uar_confusion_and_best_checkpoint(corpus, tmp_path, select_by, saved):
    expert = make("emotion", corpus, tmp_path, {"select_by": select_by})
    truth = ["neu", "neu", "neu", "hap", "sad"]  # no ang
    rounds = [["neu", "neu", "hap", "hap", "neu"],  # acc .6, uar (2/3 + 1 + 0) / 3 = .556
              ["neu", "neu", "neu", "hap", "neu"][:3] + ["ang", "sad"],  # acc .8, uar (1 + 0 + 1) / 3 = .667
              ["neu", "hap", "hap", "hap", "sad"]]  # acc .6, uar (1/3 + 1 + 1) / 3 = .778
    if select_by == "uar":
        rounds[1] = ["neu", "neu", "neu", "ang", "neu"]  # acc .6, uar .333
    for step, (predicted, save) in enumerate(zip(rounds, saved), start=1):
        hits = [float(a == b) for a, b in zip(truth, predicted)]
        records = defaultdict(list, truth=truth, predict=predicted, acc=hits, loss=[1.0], filename=list("abcde"))
        logger = Logger()
        names = expert.log_records("dev", records=records, logger=logger, global_step=step)
        assert names == (["dev-best.ckpt"] if save else [])
        expert.log_records("test", records={**records, "predict": predicted[::-1]}, logger=Logger(), global_step=step)
        recalls = [np.mean([b == name for a, b in zip(truth, predicted) if a == name]) for name in ("neu", "hap", "sad")]
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
        "step": best, "labels": names, "truth": [names.index(name) for name in truth],
        "predicted": [names.index(name) for name in rounds[best - 1][::-1]]}


# generated features

def step(expert, batch):
    wavs, *others = batch
    records = defaultdict(list)
    loss = expert("train", [torch.zeros(100, expert.upstream_dim) for _ in wavs], *others, records=records)
    return loss, records


def test_training_sees_the_generator_and_nothing_else(corpus, tmp_path, fbank_generator):
    """Placeholders of zeros carry the generator's own samples; checkpoint keys stay plain emotion's."""
    from s3prl_dd.generator import Generator

    expert = distilled(corpus, tmp_path, fbank_generator, {"budget": 3, "train_batch_size": 5})
    assert list(expert.state_dict()) == list(make("emotion", corpus, tmp_path).state_dict())
    expected = Generator.load(fbank_generator).sample(3, seed=1337, epoch=2, center=True)
    seen = {}
    for batch in expert.get_dataloader("train", epoch=2):
        wavs, labels, names, generated, _ = batch
        assert all(wav.shape == (PROBE_SAMPLES,) and not wav.any() for wav in wavs)
        seen.update({name: (label, frames) for label, name, frames in zip(labels, names, generated)})
        loss, records = step(expert, batch)
        logits, _ = expert.model(expert.projector(torch.stack(generated)), torch.full((len(wavs),), generated[0].shape[0]))
        torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, torch.tensor(labels)))
        assert records["truth"] == [list(LABELS)[label] for label in labels]
    assert len(seen) == 12
    for index in range(12):
        label, frames = seen[f"generated-2-{index}"]
        assert label == expected.labels[index]
        torch.testing.assert_close(frames, expected.features[index], rtol=1e-4, atol=1e-4)
    assert "training on 12 generated points (3/3/3/3), resampled each epoch, centred, hard" in (tmp_path / "log.log").read_text()


def test_fixed_and_resampled_sets(corpus, tmp_path, fbank_generator):
    def epoch(expert, number):
        return {name.split("-")[-1]: frames for batch in expert.get_dataloader("train", epoch=number)
                for name, frames in zip(batch[2], batch[3])}

    fixed = distilled(corpus, tmp_path, fbank_generator, {"budget": 2, "resample": False})
    assert "one fixed set" in (tmp_path / "log.log").read_text()
    new = distilled(corpus, tmp_path, fbank_generator, {"budget": 2})
    seeded = distilled(corpus, tmp_path, fbank_generator, {"budget": 2, "sample_seed": 5}, seed=6)
    for index in map(str, range(8)):
        torch.testing.assert_close(epoch(fixed, 0)[index], epoch(fixed, 3)[index])
        assert not torch.allclose(epoch(new, 0)[index], epoch(new, 3)[index])
        assert not torch.allclose(epoch(new, 0)[index], epoch(seeded, 0)[index])


def test_placeholders_are_short_under_the_launcher(corpus, tmp_path, fbank_generator):
    expert = distilled(corpus, tmp_path, fbank_generator, {"budget": 2}, featurizer_weights=None)
    assert expert.train_dataset[0][0].shape == (PLACEHOLDER_SAMPLES,)


def test_soft_labels(corpus, tmp_path, fbank_generator):
    expert = distilled(corpus, tmp_path, fbank_generator, {"budget": 3, "labels": "soft", "lengths": "corpus"})
    batch = next(iter(expert.get_dataloader("train")))
    loss, _ = step(expert, batch)
    frames, soft = batch[3], torch.stack(batch[4])
    padded = torch.nn.utils.rnn.pad_sequence(frames, batch_first=True)
    logits, _ = expert.model(expert.projector(padded), torch.tensor([len(frame) for frame in frames]))
    torch.testing.assert_close(loss, -(soft * logits.log_softmax(1)).sum(1).mean())
    hardly = make_generator(tmp_path / "no_teacher.safetensors", features_of("fbank", 240, 160), teacher=False)
    with pytest.raises(UserError, match="has no teacher for soft labels"):
        distilled(corpus, tmp_path, hardly, {"labels": "soft"})


def test_featurizer_gets_no_gradient(corpus, tmp_path, fbank_generator):
    """Generated features leave the upstream's layer weights alone, weight decay or not."""
    expert = distilled(corpus, tmp_path, fbank_generator, {"budget": 3})
    weights = torch.nn.Parameter(torch.tensor([0.1, 0.2]))
    optimizer = torch.optim.AdamW([weights, *expert.parameters()], lr=0.1, weight_decay=0.1)
    wavs, *others = next(iter(expert.get_dataloader("train")))
    expert("train", [weights.sum() * torch.ones(9, 240) for _ in wavs], *others, records=defaultdict(list)).backward()
    before = expert.projector.weight.clone()
    optimizer.step()
    assert weights.tolist() == pytest.approx([0.1, 0.2]) and not torch.equal(before, expert.projector.weight)


def test_without_any_real_data(tmp_path, fbank_generator):
    runner = {"eval_dataloaders": ["dev"]}
    expert = distilled(None, tmp_path, fbank_generator, {"budget": 3}, runner=runner)
    train = [frames for batch in expert.get_dataloader("train") for frames in batch[3]]
    dev = [[frames for batch in expert.get_dataloader("dev") for frames in batch[3]] for _ in range(2)]
    assert len(dev[0]) == 12 and all(torch.equal(a, b) for a, b in zip(*dev))
    assert not any(torch.allclose(a, b) for a in train for b in dev[0])
    with pytest.raises(UserError, match=r"root: not set, and dev, test needs real audio.*eval_dataloaders=\['dev'\]"):
        distilled(None, tmp_path, fbank_generator)
    with pytest.raises(UserError, match="root: not set, and test needs real audio"):
        distilled(None, tmp_path, fbank_generator, mode="evaluate")


def test_evaluation_needs_no_generator(corpus, tmp_path):
    expert = distilled(corpus, tmp_path, "gone.safetensors", mode="evaluate")
    assert len(expert.get_dataloader("test").dataset) == 12
    with pytest.raises(UserError, match="gone.safetensors: no such generator file"):
        distilled(corpus, tmp_path, "gone.safetensors")


@pytest.mark.parametrize("changes, run, message", [
    ({"upstream": "mel"}, {}, "have upstream mel, this run has fbank. Run with -u mel"),
    ({"upstream_ckpt_digest": "abc"}, {}, "have upstream_ckpt_digest abc, this run has None"),
    ({"selection": "last_hidden_state"}, {}, "have selection last_hidden_state, this run has hidden_states. Run with -s"),
    ({}, {"upstream_layer_selection": 3}, "have layer None, this run has 3"),
    ({"normalize": True}, {}, "have normalize True, this run has False"),
    ({}, {"upstream_dim": 80}, "have dim 240, this run has 80"),
    ({}, {"upstream_rate": 320}, "have rate 160, this run has 320"),
    ({"layer_weights": [0.9, 0.1]}, {}, "weights .* -o weights.ckpt` and add -i weights.ckpt"),
    ({"layer_weights": [0.9, 0.1]}, {"featurizer_weights": [0.8, 0.2]}, r"layers \[0.900 0.100\], this run's Featurizer \[0.800 0.200\]"),
    ({}, {"upstream_trainable": True}, "-f: the generator holds features of a frozen upstream"),
    ({}, {"specaug": {"freq": 1}}, "config.specaug: would mask the placeholders"),
    ({}, {"seed": 1, "mode": "train", "datarc": {"generator": None}}, "generator: not set"),
    ({}, {"datarc": {"test_fold": "fold2"}}, r"distilled with 1 speaker\(s\) of this run's test fold fold2, for example speaker1"),
    ({}, {"mode": "evaluate", "datarc": {"test_fold": "fold3"}}, "test fold fold3, for example speaker2"),
    ({}, {"datarc": {"labels": "smooth"}}, "labels must be hard or soft"),
    ({}, {"mode": "evaluate", "evaluate_split": "tset"}, "split 'tset': expected dev or test"),
    ({}, {"datarc": {"budget": 0}}, "budget 0: expected a number of points"),
])
def test_refusals(corpus, tmp_path, changes, run, message):
    generator = make_generator(tmp_path / "x.safetensors", {**features_of("fbank", 240, 160), **changes})
    with pytest.raises(UserError, match=message):
        distilled(corpus, tmp_path, generator, **run)


def test_layer_weights_may_come_from_a_checkpoint(corpus, tmp_path):
    generator = make_generator(tmp_path / "x.safetensors", {**features_of("fbank", 240, 160), "layer_weights": [0.9, 0.1]})
    write_featurizer_checkpoint([0.9, 0.1], tmp_path / "weights.ckpt")
    distilled(corpus, tmp_path, generator, init_ckpt=str(tmp_path / "weights.ckpt"))
    distilled(corpus, tmp_path, generator, featurizer_weights=[0.9, 0.1])


def test_refuses_other_labels_and_takes_other_people_of_the_same_name(corpus, tmp_path):
    features = features_of("fbank", 240, 160)
    generator = make_generator(tmp_path / "labels.safetensors", features, labels={"neu": 0, "hap": 1, "ang": 3, "sad": 2})
    with pytest.raises(UserError, match="its labels are .* those of"):
        distilled(corpus, tmp_path, generator)
    other = make_generator(tmp_path / "other.safetensors", features, corpus="another corpus", train_speakers=["speaker0"])
    distilled(corpus, tmp_path, other)


def test_foreign_generator_files(corpus, tmp_path, fbank_generator):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(Path(fbank_generator).read_bytes()[:-100])
    with pytest.raises(UserError, match="cut.safetensors: not a whole safetensors file"):
        distilled(corpus, tmp_path, cut)

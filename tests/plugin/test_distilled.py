"""The expert of -d distilled_emotion, made in this process: what it trains on, its loss, and what it refuses."""

import dataclasses
import inspect
from collections import defaultdict

import pytest
import torch
from support.experts import distilled, emotion
from support.runs import LABELS, features_of, make_generator
from support.tiny_generator import rewrite, tiny_suppression

from s3prl_dd.errors import UserError
from s3prl_dd.generator import CorpusInfo, Generator
from s3prl_dd.plugin.checks import Launched
from s3prl_dd.plugin.emotion import s3prl_emotion
from s3prl_dd.plugin.featurizer import write_featurizer_checkpoint
from s3prl_dd.plugin.placeholder import GENERATED, PROBE_SAMPLES, Recordings, read_marks

FBANK = features_of("fbank", 240, 160)


def lose(expert, batch):
    """(loss, records) of a training batch, as S3PRL's Runner asks for it."""
    wavs, *others = batch
    records = defaultdict(list)
    loss = expert("train", [torch.zeros(100, expert.upstream_dim) for _ in wavs], *others, records=records)
    return loss, records


def drawn(expert, epoch=0, split="train"):
    """Number of a sample -> (label, frames, soft label), as the loader of an epoch gives them."""
    loader = expert.get_dataloader(split, epoch=epoch) if split == "train" else expert.get_dataloader(split)
    return {int(name.split("-")[-1]): (label, frames, soft) for _, *batch in loader
            for label, name, frames, soft in zip(*batch, strict=True)}


def same_sets(one, other):
    return all(torch.allclose(one[number][1], other[number][1]) for number in one)


# what it trains on

@pytest.mark.parametrize("hears_frames", [False, True])
@pytest.mark.parametrize("datarc, sampling", [
    ({}, {"center": "auto"}),
    ({"center": True}, {"center": True}),
    ({"center": "teaching"}, {"center": "teaching"}),
    ({"center": False}, {"center": False}),
    ({"center": False, "sample_seed": 5}, {"center": False, "seed": 5}),
    ({"lengths": "corpus"}, {"center": "auto", "lengths": "corpus"}),
])
def test_training_sees_the_generators_own_samples(corpus, tmp_path, fbank_generator, datarc, sampling, hears_frames):
    """And all of them: the whole budget, each number once, with its label and the teacher's opinion.

    A head that averages over time gets utterance means, which come to the same.
    """
    expert = distilled(corpus, tmp_path, fbank_generator, {"budget": 3, "train_batch_size": 5, **datarc},
                       hears_frames=hears_frames)
    plain = emotion(corpus, tmp_path, hears_frames=hears_frames)
    assert list(expert.state_dict()) == list(plain.state_dict())
    if sampling["center"] == "auto":
        sampling = {**sampling, "center": True if hears_frames else "teaching"}
    expected = Generator.load(fbank_generator).sample(3, **{"seed": 1337, **sampling})
    samples = drawn(expert)
    assert sorted(samples) == list(range(12))
    for number, (label, frames, soft) in samples.items():
        heard = expected.features[number, :expected.lengths[number]]  # [T, D]
        if not hears_frames:
            heard = heard.mean(dim=0, keepdim=True)
        assert label == expected.labels[number]
        torch.testing.assert_close(frames, heard, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(soft, expected.soft_labels[number], rtol=1e-4, atol=1e-4)


def test_small_sets_lie_at_the_files_learnt_points(corpus, tmp_path, fbank_generator):
    """For SUPERB's head, which reads utterance means; frames of other heads lie at class means."""
    points = torch.randn(4, 3, 240, generator=torch.Generator().manual_seed(1))
    file = tmp_path / "learnt.safetensors"
    file.write_bytes(fbank_generator.read_bytes())
    rewrite(file, tensors=lambda tensors: tensors.update(learnt_points=points))
    samples = drawn(distilled(corpus, tmp_path, file, {"budget": 3}))
    frames = drawn(distilled(corpus, tmp_path, file, {"budget": 3}, hears_frames=True))
    for number in range(12):
        torch.testing.assert_close(samples[number][1][0], points[number // 3, number % 3], rtol=1e-4, atol=1e-3)
        assert not torch.allclose(frames[number][1].mean(dim=0), samples[number][1][0], atol=0.1)


def test_who_sets_nothing_gets_what_the_recipe_measures(corpus, tmp_path, fbank_generator):
    expert = distilled(corpus, tmp_path, fbank_generator)
    said = (tmp_path / "log.log").read_text()
    assert "training on 20 generated points (5/5/5/5), 8 sets in turn, centred, soft labels, seed 1337" in said
    assert same_sets(drawn(expert, 0), drawn(expert, 8)) and not same_sets(drawn(expert, 0), drawn(expert, 3))
    assert len(expert.train_dataset) == 20


def test_fixed_and_resampled_sets(corpus, tmp_path, fbank_generator):
    fixed, new, seeded = (distilled(corpus, tmp_path, fbank_generator, {"budget": 2, **changes})
                          for changes in ({}, {"resample": True}, {"sample_seed": 5}))
    assert same_sets(drawn(fixed, 0), drawn(fixed, 3)) and same_sets(drawn(fixed, 0), drawn(new, 0))
    assert not same_sets(drawn(new, 0), drawn(new, 3)) and not same_sets(drawn(fixed, 0), drawn(seeded, 0))
    expected = Generator.load(fbank_generator).sample(2, seed=1337, epoch=3, center="teaching").means()[7:]
    torch.testing.assert_close(drawn(new, 3)[7][1], expected, rtol=1e-4, atol=1e-4)


def test_sets_in_turn(corpus, tmp_path, fbank_generator):
    expert = distilled(corpus, tmp_path, fbank_generator, {"budget": 2, "resample": 2})
    assert "2 sets in turn" in (tmp_path / "log.log").read_text()
    assert same_sets(drawn(expert, 0), drawn(expert, 2)) and not same_sets(drawn(expert, 0), drawn(expert, 1))


@pytest.mark.parametrize("hears_frames", [False, True])
def test_drawn_sets_are_kept_for_other_runs(corpus, tmp_path, fbank_generator, monkeypatch, hears_frames):
    options = {"budget": 2, "sample_folder": str(tmp_path / "samples")}
    first = drawn(distilled(corpus, tmp_path, fbank_generator, options, hears_frames=hears_frames))
    monkeypatch.setattr(Generator, "draw_set", None)  # a second run draws nothing
    second = drawn(distilled(corpus, tmp_path, fbank_generator, options, seed=1337, hears_frames=hears_frames))
    assert same_sets(first, second)


def test_placeholders(corpus, tmp_path, fbank_generator):
    """Under our launcher what no audio can be; in a linked clone silence, which any upstream takes."""
    launched = distilled(corpus, tmp_path, fbank_generator, {"budget": 2}, launched=Launched(None))
    assert read_marks([torch.from_numpy(launched.train_dataset[0].wav)]) == [GENERATED]
    wav = distilled(corpus, tmp_path, fbank_generator, {"budget": 2}).train_dataset[0].wav
    assert wav.shape == (PROBE_SAMPLES,) and not wav.any()


@pytest.mark.parametrize("center", ["auto", True, False])
def test_without_any_real_data(tmp_path, fbank_generator, center):
    asked = {"budget": 3, "center": center}
    expert = distilled(None, tmp_path, fbank_generator, asked, runner={"eval_dataloaders": ["dev"]})
    train, dev = drawn(expert), drawn(expert, split="dev")
    assert len(dev) == 12 and same_sets(dev, drawn(expert, split="dev"))
    assert not any(torch.allclose(one[1], other[1]) for one in train.values() for other in dev.values())
    with pytest.raises(UserError, match=r"root: not set, and dev, test needs real audio.*eval_dataloaders=\['dev'\]"):
        distilled(None, tmp_path, fbank_generator)
    with pytest.raises(UserError, match="root: not set, and test needs real audio"):
        distilled(None, tmp_path, fbank_generator, mode="evaluate")


def test_without_real_data_dev_is_not_the_learnt_points_again(tmp_path):
    """Which are the training set: their utterance means are the same in any set."""
    file = make_generator(tmp_path / "points.safetensors", FBANK)
    generator = Generator.load(file)
    generator.points = torch.randn(len(generator.header.labels), 3, generator.header.network.dim)
    generator.save(file)
    expert = distilled(None, tmp_path, file, {"budget": 3, "labels": "hard"}, runner={"eval_dataloaders": ["dev"]})
    assert expert.train_dataset.generated.center == "learnt" and expert.dev_dataset.generated.center is True


def test_real_audio_comes_as_tickets_beside_samples(corpus, tmp_path, fbank_generator):
    recordings = Recordings()
    expert = distilled(corpus, tmp_path, fbank_generator, launched=Launched(None), recordings=recordings)
    wavs, labels, names = next(iter(expert.get_dataloader("test")))
    numbers = read_marks([torch.FloatTensor(wav) for wav in wavs])
    assert [recordings.all[number].path.split("/")[-1] for number in numbers] == [f"{name}.wav" for name in names]
    assert all("speaker0" in recordings.all[number].path for number in numbers)


# its loss

def test_hard_labels_give_s3prls_own_loss_and_records(corpus, tmp_path, fbank_generator):
    """Bit for bit what S3PRL's forward says of the same frames; our records hold the same entries in the same order."""
    expert = distilled(corpus, tmp_path, fbank_generator, {"budget": 3, "labels": "hard", "lengths": "corpus"})
    for batch in expert.get_dataloader("train"):
        loss, records = lose(expert, batch)
        _, labels, names, generated, _ = batch
        expected = defaultdict(list)
        plain = s3prl_emotion.DownstreamExpert.forward(expert, "train", list(generated), labels, names, expected)
        assert torch.equal(loss, plain) and records == expected and list(records) == list(expected)
        assert records["truth"] == [list(LABELS)[label] for label in labels]


def test_soft_labels_are_the_targets(corpus, tmp_path, fbank_generator):
    expert = distilled(corpus, tmp_path, fbank_generator, {"budget": 3, "lengths": "corpus"})
    batch = next(iter(expert.get_dataloader("train")))
    loss, records = lose(expert, batch)
    frames, soft = batch[3], torch.stack(batch[4])
    padded = torch.nn.utils.rnn.pad_sequence(frames, batch_first=True)
    logits, _ = expert.model(expert.projector(padded), torch.tensor([len(frame) for frame in frames]))
    assert torch.equal(loss, torch.nn.functional.cross_entropy(logits, soft))
    torch.testing.assert_close(loss, -(soft * logits.log_softmax(1)).sum(1).mean())
    assert not torch.isclose(loss, torch.nn.functional.cross_entropy(logits, torch.tensor(batch[1])))
    assert records["truth"] == [list(LABELS)[label] for label in batch[1]]  # accuracy counts the classes


def test_real_audio_goes_s3prls_way(corpus, tmp_path, fbank_generator):
    """Without generated features the expert is S3PRL's, soft labels or not."""
    expert = distilled(corpus, tmp_path, fbank_generator)
    features, labels, names = [torch.randn(9, 240), torch.randn(5, 240)], (0, 2), ("a", "b")
    loss = expert("dev", features, labels, names, records=defaultdict(list), batch_id=0)
    plain = s3prl_emotion.DownstreamExpert.forward(expert, "dev", features, labels, names, defaultdict(list))
    assert torch.equal(loss, plain)


def test_heads_on_suppressed_samples_hear_all_speech_suppressed(corpus, tmp_path, fbank_generator):
    """Their checkpoints say the same as -d emotion, which knows no generator, and as this expert without its file."""
    generator = Generator.load(fbank_generator)
    generator.suppression = tiny_suppression(240)
    generator.save(tmp_path / "suppressed.safetensors")
    expert = distilled(corpus, tmp_path, tmp_path / "suppressed.safetensors")
    batch = [torch.randn(9, 240), torch.randn(5, 240)], (0, 2), ("a", "b")
    loss = expert("dev", *batch, records=defaultdict(list), batch_id=0)
    heard = [generator.suppression.of(frames) for frames in batch[0]]
    assert torch.isclose(loss, expert("dev", heard, *batch[1:], records=defaultdict(list), batch_id=0), rtol=1e-4)
    for other in (emotion(corpus, tmp_path), distilled(corpus, tmp_path, "gone.safetensors", mode="evaluate")):
        before = other("dev", *batch, records=defaultdict(list), batch_id=0)
        other.load_state_dict(expert.state_dict())
        assert torch.isclose(other("dev", *batch, records=defaultdict(list), batch_id=0), loss, rtol=1e-4)
        assert not torch.isclose(before, loss, rtol=1e-4)


def test_featurizer_gets_no_gradient(corpus, tmp_path, fbank_generator):
    """Generated features leave the upstream's layer weights alone, weight decay or not."""
    expert = distilled(corpus, tmp_path, fbank_generator, {"budget": 3})
    weights = torch.nn.Parameter(torch.tensor([0.1, 0.2]))
    optimizer = torch.optim.AdamW([weights, *expert.parameters()], lr=0.1, weight_decay=0.1)
    wavs, *others = next(iter(expert.get_dataloader("train")))
    features = [weights.sum() * torch.ones(9, 240) for _ in wavs]
    expert("train", features, *others, records=defaultdict(list)).backward()
    before = expert.projector.weight.clone()
    optimizer.step()
    assert weights.tolist() == pytest.approx([0.1, 0.2]) and not torch.equal(before, expert.projector.weight)


def test_nothing_travels_by_the_back_door(corpus, tmp_path, fbank_generator):
    """The module holds S3PRL's parts alone, its objective is S3PRL's, and the generator is no part of its state."""
    expert = distilled(corpus, tmp_path, fbank_generator, launched=Launched(None))
    assert {name for name, _ in expert.named_children()} == {"projector", "model", "objective"}
    assert type(expert.objective) is torch.nn.CrossEntropyLoss and isinstance(expert.generator, Generator)
    assert "soft" in inspect.signature(type(expert).forward).parameters


# what it refuses

def test_soft_labels_need_a_teacher(corpus, tmp_path):
    generator = make_generator(tmp_path / "x.safetensors", FBANK, teacher=False)
    with pytest.raises(UserError, match="has no teacher for soft labels. Set .*labels=hard"):
        distilled(corpus, tmp_path, generator)
    expert = distilled(corpus, tmp_path, generator, {"labels": "hard"})
    loss, _ = lose(expert, next(iter(expert.get_dataloader("train"))))
    assert loss.isfinite()


def test_evaluation_needs_no_generator(corpus, tmp_path):
    expert = distilled(corpus, tmp_path, "gone.safetensors", mode="evaluate")
    assert len(expert.get_dataloader("test").dataset) == 12
    with pytest.raises(UserError, match="gone.safetensors: no such generator file"):
        distilled(corpus, tmp_path, "gone.safetensors")


@pytest.mark.parametrize("features, run, message", [
    ({"upstream": "mel"}, {}, "have upstream mel, this run has fbank. Run with -u mel"),
    ({"upstream_ckpt_digest": "abc"}, {}, "have upstream_ckpt_digest abc, this run has None"),
    ({"selection": "last_hidden_state"}, {}, "have selection last_hidden_state, this run has hidden_states. .* -s"),
    ({}, {"upstream_layer_selection": 3}, "have layer None, this run has 3"),
    ({"normalize": True}, {}, "have normalize True, this run has False"),
    ({}, {"upstream_dim": 80}, "have dim 240, this run has 80"),
    ({}, {"upstream_rate": 320}, "have rate 160, this run has 320"),
    ({"layer_weights": [0.9, 0.1]}, {}, "weights .* -o weights.ckpt` and add -i weights.ckpt"),
    ({"layer_weights": [0.9, 0.1]}, {"launched": Launched([0.8, 0.2])},
     r"layers \[0.900 0.100\], this run's Featurizer \[0.800 0.200\].*add -i weights.ckpt"),
    ({"layer_weights": None}, {"launched": Launched([0.5, 0.5])}, r"layers none, this run's .*\[0.500 0.500\]. Distil"),
    ({"layer_weights": [0.9, 0.1]}, {"launched": Launched(None)}, "this run's Featurizer none. Distil"),
    ({}, {"upstream_trainable": True}, "-f: the generator holds features of a frozen upstream"),
    ({}, {"specaug": {"freq": 1}}, "config.specaug: would mask the placeholders"),
    ({}, {"datarc": {"generator": None}}, "generator: not set"),
    ({}, {"datarc": {"test_fold": "fold2"}},
     r"distilled with 1 speaker\(s\) of this run's test fold fold2, for example speaker1"),
    ({}, {"mode": "evaluate", "datarc": {"test_fold": "fold3"}}, "test fold fold3, for example speaker2"),
    ({}, {"mode": "evaluate", "downstream_variant": "fold3"}, "test fold fold3, for example speaker2"),
    ({}, {"mode": "evaluate", "evaluate_split": "tset"}, "split 'tset': expected dev or test"),
    ({}, {"datarc": {"budget": 0}}, "budget 0: expected a number of points"),
])
def test_refusals(corpus, tmp_path, features, run, message):
    generator = make_generator(tmp_path / "x.safetensors", dataclasses.replace(FBANK, **features))
    with pytest.raises(UserError, match=message):
        distilled(corpus, tmp_path, generator, **run)


def test_layer_weights_that_fit(corpus, tmp_path):
    """From a checkpoint, from the launcher, or uniform as S3PRL starts."""
    weighted = make_generator(tmp_path / "x.safetensors", features_of("fbank", 240, 160, layer_weights=[0.9, 0.1]))
    write_featurizer_checkpoint([0.9, 0.1], tmp_path / "weights.ckpt")
    distilled(corpus, tmp_path, weighted, init_ckpt=str(tmp_path / "weights.ckpt"))
    distilled(corpus, tmp_path, weighted, launched=Launched([0.9, 0.1]))
    distilled(corpus, tmp_path, make_generator(tmp_path / "y.safetensors", features_of("fbank", 240, 160, layers=2)))


def test_refuses_other_labels_and_takes_other_people_of_the_same_name(corpus, tmp_path, caplog):
    labels = {"neu": 0, "hap": 1, "ang": 3, "sad": 2}
    generator = make_generator(tmp_path / "labels.safetensors", FBANK, labels=labels)
    with pytest.raises(UserError, match="its labels are .* those of"):
        distilled(corpus, tmp_path, generator)
    speakers = ["speaker0"]
    other = make_generator(tmp_path / "other.safetensors", FBANK, corpus="another corpus", train_speakers=speakers)
    distilled(corpus, tmp_path, other)
    told, = caplog.messages
    assert "distilled of another corpus, with 1 speaker(s) called as some of tones's test fold" in told
    same = make_generator(tmp_path / "same.safetensors", FBANK, train_speakers=speakers)
    with pytest.raises(UserError, match="distilled with 1 speaker"):
        distilled(corpus, tmp_path, same)


@pytest.mark.parametrize("name", ["tones", "table"])  # what older versions called any corpus that came as a table
def test_a_test_speaker_among_names_or_digests_is_refused(corpus, tmp_path, name):
    generator = make_generator(tmp_path / "x.safetensors", FBANK, corpus=name, train_speakers=["speaker0", "speaker1"])
    message = "distilled with 1 speaker.* of this run's test fold fold1, for example speaker0"
    with pytest.raises(UserError, match=message):
        distilled(corpus, tmp_path, generator)
    rewrite(generator, header=hide_speakers)
    assert b"speaker0" not in generator.read_bytes()
    with pytest.raises(UserError, match=message):
        distilled(corpus, tmp_path, generator)


def hide_speakers(values):
    """The header's corpus as the distiller writes it."""
    values["corpus"] = dataclasses.asdict(CorpusInfo(**values["corpus"]).hiding_names())


def test_foreign_generator_files(corpus, tmp_path, fbank_generator):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(fbank_generator.read_bytes()[:-100])
    with pytest.raises(UserError, match="cut.safetensors: not a whole safetensors file"):
        distilled(corpus, tmp_path, cut)

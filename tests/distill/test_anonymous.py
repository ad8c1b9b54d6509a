"""The privacy setting: made-up speakers whose scatter is known, and its way into a generator file."""

import dataclasses

import pytest
import torch
from support.gauss import FEW_STEPS, tiny_data, tiny_pool, tiny_trainer, write_run

from s3prl_dd.corpora.metadata import read_fold
from s3prl_dd.distill.anonymous import pupils, ridge_teacher, speaker_scatter, speaker_suppression
from s3prl_dd.distill.data import TrainingData
from s3prl_dd.distill.points import Learning, learn_points
from s3prl_dd.errors import UserError
from s3prl_dd.features.store import FeatureStore
from s3prl_dd.generator import Generator, LinearHeads
from s3prl_dd.generator.calibrate import class_means, covariance, fit_calibration
from s3prl_dd.pool.pool import train_crossed

OFFSETS = torch.diag(torch.tensor([4.0, 1.0, 0.0]))
"""Covariance of speakers' offsets."""


def talk(speakers=400, takes=4, seed=0):
    """(means, labels, speakers): two classes far apart, offsets of the covariance above, a rest of unit covariance."""
    source = torch.Generator().manual_seed(seed)
    offsets = torch.randn(2, speakers, 1, 3, generator=source) @ OFFSETS.sqrt()
    rest = torch.randn(2, speakers, takes, 3, generator=source)
    means = offsets + rest + torch.tensor([[-9.0], [9.0]]).view(2, 1, 1, 1)
    labels, who = torch.arange(2).view(2, 1, 1), torch.arange(speakers).view(1, speakers, 1)
    shape = means.shape[:3]
    return means.flatten(0, 2), labels.expand(shape).flatten(), who.expand(shape).flatten()


def within(means, labels):
    return covariance(means - torch.stack([means[labels == label].mean(dim=0) for label in range(2)])[labels])


# closed forms


def test_known_scatter_is_found_without_bias():
    """Also of two utterances a speaker, whose means are far off by chance."""
    for takes in (2, 8):
        between, rest = speaker_scatter(*talk(2000, takes))
        assert (rest - torch.eye(3)).abs().max() < 0.1
        assert (between - OFFSETS).abs().max() < 0.3


def test_the_parts_are_the_covariance_and_the_setting_takes_one_of_them_out():
    means, labels, speakers = talk(30)
    scatter = speaker_scatter(means, labels, speakers)
    torch.testing.assert_close(scatter.kept(0), within(means, labels))
    torch.testing.assert_close(scatter.kept(1), scatter.rest)
    torch.testing.assert_close(scatter.kept(0.25), scatter.rest + 0.75 * scatter.between)


def test_nobody_differs_and_nothing_is_taken():
    """Speakers by lot: the covariance stays at any setting, but for chance."""
    means, labels, _ = talk(2000, 4)
    nobody = torch.randint(500, (len(means),), generator=torch.Generator().manual_seed(1))
    scatter = speaker_scatter(means, labels, nobody)
    assert scatter.between.abs().max() < 0.1 * scatter.rest.max()


def test_every_setting_gives_a_covariance():
    """Fewer utterances than dimensions, and speakers of one utterance: no direction falls below 0."""
    source = torch.Generator().manual_seed(0)
    means, labels = torch.randn(20, 30, generator=source), torch.arange(20) % 2
    speakers = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, *range(2, 14)])
    for privacy in (0, 0.5, 1):
        assert torch.linalg.eigvalsh(speaker_scatter(means, labels, speakers).kept(privacy).double()).min() > -1e-6


def test_one_utterance_of_each_speaker_is_refused():
    means, labels, _ = talk(10, 1)
    with pytest.raises(UserError, match="no speaker has two utterances of a class"):
        speaker_scatter(means, labels, torch.arange(len(means)))


def test_calibration_takes_the_covariance_that_is_wanted():
    means, labels, speakers = talk()
    wanted = speaker_scatter(means, labels, speakers).kept(1)
    drawn = torch.randn(4000, 3, generator=torch.Generator().manual_seed(2)) * torch.tensor([1.0, 2.0, 1.5])
    of_drawn = torch.arange(4000) % 2
    calibration = fit_calibration(means, labels, drawn, of_drawn, wanted)
    moved = (drawn - calibration.generated[of_drawn]) @ calibration.matrix
    assert (covariance(moved) - wanted).abs().max() < 0.1
    assert (within(means, labels) - wanted).abs().max() > 3


# speaker suppression


def matrix_of(suppression):
    """What is left of a point's way from the middle [D, D]."""
    return torch.eye(len(suppression.middle)) - suppression.away @ suppression.along


def spoken(speakers=6, takes=20, seed=3):
    """(means, labels, speakers): two classes, speakers whose voices are alike in both, 12 dimensions."""
    source = torch.Generator().manual_seed(seed)
    voices, classes = 2 * torch.randn(speakers, 12, generator=source), torch.randn(2, 12, generator=source)
    who = torch.arange(speakers).repeat_interleave(takes)
    labels = torch.arange(len(who)) % 2
    return voices[who] + classes[labels] + torch.randn(len(who), 12, generator=source), labels, who


def apart(means, speakers):
    """How far the speakers' means lie apart."""
    return torch.pdist(torch.stack([means[speakers == name].mean(dim=0) for name in speakers.unique()])).mean()


def test_the_setting_brings_speakers_means_together():
    means, labels, who = spoken()
    few = who < 3  # whose means span two directions, of three that a suppression may take
    means, labels, who = means[few], labels[few], who[few]
    suppressions = [speaker_suppression(means, labels, who, privacy) for privacy in (0, 0.25, 0.5, 1)]
    distances = [apart(suppression.of(means), who) for suppression in suppressions]
    expected = apart(means, who) * torch.tensor([1, 0.75, 0.5, 0])
    torch.testing.assert_close(torch.stack(distances), expected, rtol=1e-4, atol=1e-4)


def test_suppression_leaves_the_middle_and_what_lies_beside_speakers():
    means, labels, who = spoken(3)
    suppression = speaker_suppression(means, labels, who, 1)
    torch.testing.assert_close(suppression.of(suppression.middle[None]), suppression.middle[None])
    torch.testing.assert_close(suppression.of(suppression.of(means)), suppression.of(means), rtol=1e-4, atol=1e-4)
    assert torch.linalg.matrix_rank(matrix_of(suppression)) == 10


def test_more_speakers_than_dimensions_leave_most_directions():
    assert torch.linalg.matrix_rank(matrix_of(speaker_suppression(*spoken(40), 1))) == 9


def test_heads_hear_all_speech_suppressed():
    means, labels, who = spoken()
    suppression = speaker_suppression(means, labels, who, 0.7)
    heads = LinearHeads(torch.randn(2, 2, 12, generator=torch.Generator().manual_seed(1)), torch.tensor([[1.0, 2.0]]))
    torch.testing.assert_close(suppression.heard_by_heads(heads).of_means(means), heads.of_means(suppression.of(means)))


def test_the_ridge_teacher_knows_classes_and_hears_no_speaker():
    means, labels, who = spoken(3, 60)
    suppression = speaker_suppression(means, labels, who, 1)
    heard, dev = (torch.arange(len(means)) // 2 % 2 == side for side in (0, 1))
    heads = ridge_teacher((means[heard], labels[heard]), (means[dev], labels[dev]), suppression)
    assert (heads.soften(means).argmax(dim=1) == labels).float().mean() > 0.8
    torch.testing.assert_close(heads.soften(suppression.of(means)), heads.soften(means), rtol=1e-3, atol=1e-4)


def test_the_ridge_teacher_is_as_sure_as_dev_allows():
    """On dev whose labels are drawn by lot it is unsure, on its own training set it is surer."""
    means, labels, who = spoken(3, 60)
    suppression, lot = speaker_suppression(means, labels, who, 1), torch.arange(len(labels)) // 2 % 2
    sure, unsure = (ridge_teacher((means, labels), (means, of_dev), suppression) for of_dev in (labels, lot))
    assert sure.soften(means).amax(dim=1).mean() > unsure.soften(means).amax(dim=1).mean() + 0.1


# in training


def known(data):
    """Tiny data with three speakers, in turn."""
    return dataclasses.replace(data, speakers=torch.arange(len(data.labels)) % 3)


def test_a_file_has_the_covariance_of_its_setting(tmp_path):
    data = known(tiny_data())
    pool = tiny_pool(data)
    made = {}
    for privacy in (None, 0, 1):
        changes = {} if privacy is None else {"privacy": privacy}
        made[privacy] = tiny_trainer(tmp_path / str(privacy), data, pool, calibrate=True, **changes).current()
    matrices = {privacy: generator.calibration.matrix for privacy, generator in made.items()}
    assert torch.equal(matrices[None], matrices[0]) and not torch.equal(matrices[0], matrices[1])
    unsuppressed = tiny_trainer(tmp_path / "unsuppressed", data, pool, calibrate=True, privacy=1)
    unsuppressed.maker.suppression = None
    assert not torch.equal(unsuppressed.current().calibration.matrix, matrices[0])  # the offsets are not there either
    scatter = speaker_scatter(data.means, data.labels, data.speakers)
    whole = speaker_suppression(data.means, data.labels, data.speakers, 1)
    for privacy, generator in made.items():
        samples = generator.sample({"ppc": 1000}, seed=5, center=False)
        means = samples.features.mean(dim=1)
        centred = means - generator.class_means[samples.labels]
        suppression = speaker_suppression(data.means, data.labels, data.speakers, privacy or 0)
        wanted = matrix_of(suppression).T @ scatter.kept(privacy or 0) @ matrix_of(suppression)
        assert (covariance(centred) - wanted).norm() < 0.35 * wanted.norm()
        assert generator.header.training["privacy"] == (privacy or 0)
        assert torch.allclose(whole.of(means), means, atol=1e-4) == bool(privacy)
        torch.testing.assert_close(generator.class_means, suppression.of(class_means(data.means, data.labels)))


def test_learnt_points_are_suppressed(tmp_path, monkeypatch):
    """Learnt of suppressed speech, they lie nowhere in the speakers' span."""
    monkeypatch.setattr("s3prl_dd.distill.points.FILE_LEARNING", Learning(steps=40))
    heard = []

    def learn(generator, number, real, *others):
        heard.append(real)
        return learn_points(generator, number, real, *others)

    monkeypatch.setattr("s3prl_dd.distill.finish.learn_points", learn)
    data = known(tiny_data())
    suppression = speaker_suppression(data.means, data.labels, data.speakers, 1)
    changes = {"steps": 2, "eval_every": 2, "calibrate": True, "points": 5}
    points = {privacy: tiny_trainer(tmp_path / str(privacy), data, tiny_pool(data), privacy=privacy, **changes)
              .train(progress=False).points.flatten(0, 1) for privacy in (0, 1)}
    torch.testing.assert_close(heard[0][0], data.means)
    torch.testing.assert_close(heard[1][0], suppression.of(data.means))
    assert torch.allclose(suppression.of(points[1]), points[1], atol=1e-4)
    assert not torch.allclose(suppression.of(points[0]), points[0], atol=1e-2)


def test_generators_are_chosen_by_dev_as_heads_hear_it(tmp_path, monkeypatch):
    heard = []
    monkeypatch.setattr("s3prl_dd.distill.evaluator.quick_uar", lambda samples, dev, *_: heard.append(dev) or 0.5)
    monkeypatch.setattr("s3prl_dd.distill.evaluator.quick_frame_uar",
                        lambda kind, samples, dev, *_: heard.append(dev) or 0.5)
    data = known(tiny_data())
    data = dataclasses.replace(data, dev_utterances=[torch.randn(4 + number % 3, data.dim)
                                                     for number in range(len(data.dev[1]))])
    suppression = speaker_suppression(data.means, data.labels, data.speakers, 1)
    trainer = tiny_trainer(tmp_path, data, tiny_pool(data), calibrate=True, privacy=1,
                           eval_kinds=["superb", "attentive"], steps=2, eval_every=2)
    assert trainer.train(progress=False).suppression is not None
    (means, labels), (frames, of_frames) = heard
    torch.testing.assert_close(means, suppression.of(data.dev[0]))
    whole, lengths = data.dev_frames
    for number, length in enumerate(lengths):
        torch.testing.assert_close(frames.frames[number, :length], suppression.of(whole[number, :length]))
    assert torch.equal(labels, data.dev[1]) and torch.equal(of_frames, labels)


def test_the_ridge_teacher_takes_the_place_of_the_pools(tmp_path):
    """Cross-fitted heads hear suppressed speech too, and no pool is needed for either."""
    data = known(tiny_data())
    suppression = speaker_suppression(data.means, data.labels, data.speakers, 1)
    setting, no_matching = {"calibrate": True, "privacy": 1}, {"lambdas": {"softmax_matching": 0}}
    teacher = tiny_trainer(tmp_path / "ridge", data, tiny_pool(data), **setting).current().teacher
    expected = ridge_teacher((data.means, data.labels), data.dev, suppression)
    torch.testing.assert_close(teacher.weight, expected.weight)
    crossed = tiny_trainer(tmp_path / "crossed", data, None, teacher_folds=2, **setting, **no_matching).current()
    assert len(crossed.teacher.weight) == 10
    torch.testing.assert_close(crossed.soften(suppression.of(data.means)), crossed.soften(data.means))


def test_data_that_do_not_say_who_speaks_are_refused(tmp_path):
    data = tiny_data()
    with pytest.raises(UserError, match="do not say who speaks"):
        tiny_trainer(tmp_path, data, tiny_pool(data), calibrate=True, privacy=0.5)


def test_a_feature_store_says_who_speaks(tmp_path):
    run = write_run(tmp_path)
    fold = read_fold(run / "metadata", "fold1")
    data = TrainingData.from_store(FeatureStore(run / "features"), fold)
    names = fold.train.speakers
    assert [names[index] for index in data.speakers] == [item.speaker for item in fold.train.utterances]


def test_a_cross_fitted_teacher_takes_the_place_of_the_pools(tmp_path):
    data = known(tiny_data())
    pool = tiny_pool(data)
    trainer = tiny_trainer(tmp_path, data, pool, teacher_folds=2)
    expected = train_crossed((data.means, data.labels), data.dev, data.speakers, 2, steps=60, classes=3).linear()
    assert torch.equal(trainer.current().teacher.weight, expected.weight.detach()) and len(expected.weight) == 10
    assert len(tiny_trainer(tmp_path / "pool", data, pool).current().teacher.weight) == 3
    with pytest.raises(UserError, match="do not say who speaks"):
        tiny_trainer(tmp_path, tiny_data(), pool, teacher_folds=2)


def test_pupils_take_the_teachers_place_in_the_finished_file(tmp_path):
    """Once, though training is called again; they agree with it on samples and know nothing else."""
    data = tiny_data()
    changes = {"steps": 2, "eval_every": 2}
    taught = tiny_trainer(tmp_path / "samples", data, tiny_pool(data), teacher_hears="samples", **changes)
    plain = tiny_trainer(tmp_path / "speech", data, tiny_pool(data), **changes)
    made, former = taught.train(progress=False), plain.train(progress=False)
    assert made.teacher.weight.shape == former.teacher.weight.shape
    assert not torch.equal(made.teacher.weight, former.teacher.weight)
    expected = pupils(former, 3_000_000, FEW_STEPS.teacher)
    torch.testing.assert_close(made.teacher.weight, expected.weight)
    assert torch.equal(taught.train(progress=False).teacher.weight, made.teacher.weight)
    assert Generator.load(tmp_path / "samples/generator.safetensors").header.training["pupils"]


def test_killed_while_pupils_learn(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    data = tiny_data()
    changes = {"steps": 2, "eval_every": 2, "teacher_hears": "samples"}
    whole = tiny_trainer(tmp_path / "whole", data, tiny_pool(data), **changes).train(progress=False)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("s3prl_dd.distill.finish.pupils", killed)
        tiny_trainer(tmp_path / "killed", data, tiny_pool(data), **changes).train(progress=False)
    again = tiny_trainer(tmp_path / "killed", data, tiny_pool(data), **changes).train(progress=False)
    assert torch.equal(again.teacher.weight, whole.teacher.weight)


def test_pupils_hear_samples_and_have_the_teachers_opinion(tmp_path):
    data = tiny_data()
    generator = tiny_trainer(tmp_path, data, tiny_pool(data), calibrate=True).current()
    heads = pupils(generator, 0, 600)
    samples = generator.sample({"ppc": 100}, seed=1)
    former = samples.soft_labels.argmax(dim=1)
    generator.teacher = heads
    agreed = generator.soften(samples.features.mean(dim=1)).argmax(dim=1) == former
    assert agreed.float().mean() > 0.9

"""Attacks on generated features: copies are caught, independent data are not."""

from dataclasses import fields

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from s3prl_dd.errors import UserError
from s3prl_dd.privacy import attacks
from s3prl_dd.privacy.attacks import (
    Distances,
    Real,
    View,
    attack,
    controls,
    held_out,
    membership,
    nearest,
    standardise,
)
from s3prl_dd.privacy.results import PrivacyResults
from s3prl_dd.privacy.table import table


def voices(seed=0, speakers=8, train=30, dev=10, more=0, dim=24):
    """(Real, more utterances): utterances around a centre for each speaker; all parts have the same speakers.

    As in speech, utterances of one speaker differ most in directions that say little of him.
    """
    draw = np.random.default_rng(seed)
    centres, within = draw.standard_normal((speakers, dim)), np.geomspace(4, 0.5, dim)
    parts = []
    for number in (train, dev, more):
        values = np.repeat(centres, number, axis=0) + within * draw.standard_normal((speakers * number, dim))
        parts += [values, np.repeat(np.arange(speakers), number)]
    return Real(*parts[:4]), parts[4]


@pytest.fixture(scope="module")
def attacked():
    real, independent = voices(0, more=38)
    spread = real.train.std(axis=0)
    nobody = np.random.default_rng(5).standard_normal((300, 24)) * spread * 0.3  # near the middle: no voice
    return attack(real, {"independent": independent, "nobody": nobody}, 300)


# controls


def test_every_attack_runs_on_samples_and_on_controls(attacked):
    assert list(attacked) == ["independent", "nobody", "copied", "gaussian", "one_in_ten_copied", "noise",
                              "held_out"]
    for name, result in attacked.items():
        missing = {item.name for item in fields(result) if getattr(result, item.name) is None}
        assert missing == ({"speakers_from_real", "speakers_from_samples"} if name == "held_out" else set())


def test_copies_are_caught_by_every_attack(attacked):
    assert attacks.blind(attacked) == []
    copied = attacked["copied"]
    assert copied.membership.auc.low > 0.8 and copied.nearest.ratio.high < 0.8
    assert copied.speakers_from_real.more_than_unknown.low > 0.8


def test_a_blind_attack_is_told(attacked):
    swapped = {**attacked, "copied": attacked["independent"]}
    assert attacks.blind(swapped) == ["membership", "nearest"]


def test_controls_are_copies_of_train_and_a_gaussian_of_it():
    real, _ = voices(0)
    made = controls(real, 50)
    spread = real.train.std(axis=0)
    for name, copies in (("copied", 50), ("one_in_ten_copied", 5)):
        distances = np.abs((made[name][:, None] - real.train) / spread).max(axis=2).min(axis=1)  # to the nearest one
        assert len(made[name]) == 50 and (distances < 0.3).sum() == copies
    few = Real(real.train[:10], real.train_speakers[:10], real.dev[:8], real.dev_speakers[:8])
    assert list(controls(few, 50)) == ["copied", "noise"]  # on so many dimensions a Gaussian would copy too


def test_copies_of_dev_are_no_members():
    """Train and dev are not interchangeable: nearness to dev is the opposite of a memory of train."""
    real, _ = voices(0)
    noise = np.random.default_rng(1).standard_normal(real.dev.shape)
    copies = real.dev + 0.05 * noise * real.dev.std(axis=0)
    distances = Distances.of(copies, real)
    found, near = membership(distances), nearest(distances)
    assert found.auc.high < 0.2 and not found.caught and near.ratio.low > 1.2 and not near.caught


def test_independent_utterances_are_no_memory_but_their_speakers_are_heard(attacked):
    independent = attacked["independent"]
    assert not independent.membership.caught and not independent.nearest.caught
    assert independent.membership.auc.low < 0.5 < independent.membership.auc.high
    assert independent.speakers_from_real.caught and independent.speakers_from_real.speakers_heard > 7


def test_samples_without_a_voice(attacked):
    nobody = attacked["nobody"]
    assert not nobody.membership.caught and not nobody.nearest.caught and not nobody.speakers_from_real.caught
    confidence = nobody.speakers_from_real.confidence
    assert confidence.samples.value < confidence.unknown_speakers.value < confidence.known_speakers.value
    assert nobody.speakers_from_real.accuracy_on_dev.value > 0.9


def test_a_gaussian_is_the_floor_of_the_speaker_attacks(attacked):
    gaussian, copied = attacked["gaussian"], attacked["copied"]
    assert not gaussian.speakers_from_real.caught and not gaussian.speakers_from_samples.caught
    assert not gaussian.nearest.caught
    assert copied.speakers_from_real.floor == gaussian.speakers_from_real.more_than_unknown.value
    assert copied.speakers_from_samples.floor == gaussian.speakers_from_samples.accuracy.value


def test_noise_is_the_floor_where_there_is_no_gaussian():
    """Of fewer utterances than dimensions."""
    real = voices(0, train=8, dev=4, dim=160)[0]
    found = attack(real, {"noise again": controls(real, 400, seed=1)["noise"]}, 400)
    assert "gaussian" not in found and not found["noise again"].speakers_from_samples.caught
    assert found["noise again"].speakers_from_samples.floor == found["noise"].speakers_from_samples.accuracy.value > 0.5
    assert found["copied"].speakers_from_real.caught


def test_noise_knows_nobody_and_the_attacker_names_by_what_he_brings_along(attacked):
    """Each dimension's mean and spread, and none of how they go together."""
    real, _ = voices(0)
    noise = controls(real, 4000)["noise"]
    assert np.allclose(np.corrcoef(noise.T), np.eye(24), atol=0.1)
    assert np.allclose(noise.std(axis=0), real.train.std(axis=0), rtol=0.1)
    found = attacked["noise"]
    assert not found.membership.caught and not found.nearest.caught
    assert found.speakers_from_samples.accuracy.low > found.speakers_from_samples.chance


@pytest.mark.parametrize("names", [np.arange(240), np.arange(240) % 2])
def test_speakers_whom_nobody_can_learn_are_not_attacked(names):
    """Of one utterance each, or too few to leave one out; memory is attacked all the same."""
    real, more = voices(0, more=20)
    unknown = Real(real.train, names, real.dev, names[:len(real.dev)])
    results = attack(unknown, {"proposed": more}, 100)
    assert {result.speakers_from_real for result in results.values()} == {None}
    assert results["copied"].membership.caught
    text = table(PrivacyResults({}, {View.MEAN: results}))
    assert "Speakers were not attacked: it takes 3 of them" in text


def test_one_speaker_of_two_utterances_is_enough():
    """Where he is left out as a stranger, the others cannot be learnt."""
    real, more = voices(0, more=20)
    lonely = Real(real.train, np.arange(240).clip(min=1), real.dev[:40], np.arange(300, 340))
    results = attack(lonely, {"more": more}, 100)
    assert results["more"].speakers_from_real is not None


def test_a_tenth_of_copies_is_seen(attacked):
    few, none = attacked["one_in_ten_copied"], attacked["gaussian"]
    assert few.membership.auc.value > none.membership.auc.value + 0.03
    assert few.nearest.ratio.value < none.nearest.ratio.value


def test_only_memory_is_attacked_without_speakers():
    real, _ = voices(0, dim=8)
    results = attack(real, {}, 200, speakers=False)
    assert {result.speakers_from_real for result in results.values()} == {None}
    assert results["copied"].membership.caught


# false alarms


def test_false_alarms_on_independent_data_are_rare():
    """Twenty data sets where nothing was memorised: an interval of 95 % leaves about one in forty on this side."""
    alarms = {"membership": 0, "nearest": 0}
    for seed in range(20):
        real, independent = voices(seed, more=20, dim=8)
        for measure in (membership, nearest):
            alarms[measure.__name__] += measure(Distances.of(independent, real), seed).caught
    assert max(alarms.values()) <= 3


def test_the_larger_set_is_not_taken_for_a_memory():
    """Train has ten times as many utterances as dev: nearer by chance if it were not cut to size."""
    draw = np.random.default_rng(0)
    one, other, samples = (draw.standard_normal((number, 3)) for number in (500, 50, 200))

    def distance(part):
        return np.linalg.norm(samples[:, None] - part, axis=2).min(axis=1).mean()

    ratio = nearest(Distances.of(samples, Real(one, np.arange(500) % 5, other, np.arange(50) % 5))).ratio
    assert distance(one) / distance(other) < 0.7 and ratio.low < 1 < ratio.high


def test_held_out_is_not_caught_and_results_repeat():
    real, _ = voices(3)
    first = held_out(real)
    assert first == held_out(real)
    for result in (first.membership, first.nearest):
        assert not result.caught and result.caught_rounds[-2:] == "/5"


def test_distances_to_copies_are_exact():
    """They are a matrix product, in which small distances would drown in single precision."""
    draw = np.random.default_rng(0)
    one = 10 + draw.standard_normal((20, 300)).astype(np.float32)
    other = one + 1e-4 * draw.standard_normal((20, 300)).astype(np.float32)
    distances = Distances.of(one, Real(other, np.arange(20), one, np.arange(20)))
    assert np.allclose(distances.to_train, cdist(one, other), rtol=1e-4)
    assert distances.to_dev.diagonal().max() < 1e-4


# vectors


def test_frames_and_means():
    frames = np.random.default_rng(0).standard_normal((5, 4, 3)).astype(np.float32)
    assert np.allclose(attacks.vectors(frames), frames.mean(axis=1))
    whole = attacks.vectors(frames, View.FRAMES)
    assert whole.shape == (5, 12)  # distances are root mean squares over the frames
    between = np.sqrt(((frames[0] - frames[1]) ** 2).sum(axis=1).mean())
    assert np.isclose(np.linalg.norm(whole[0] - whole[1]), between)


def test_everything_is_measured_in_the_spread_of_train():
    real, more = voices(0, more=5)
    scaled, others = standardise(real, {"more": more})
    assert np.allclose(scaled.train.mean(axis=0), 0) and np.allclose(scaled.train.std(axis=0), 1)
    mean, spread = real.train.mean(axis=0), real.train.std(axis=0)
    assert np.allclose(scaled.dev * spread + mean, real.dev) and np.allclose(others["more"] * spread + mean, more)


def test_too_few_utterances_are_refused():
    with pytest.raises(UserError, match="3 training and 2 dev utterances"):
        Real(np.zeros((3, 2)), np.zeros(3), np.zeros((2, 2)), np.zeros(2))
    with pytest.raises(UserError, match="8 training and 9 dev utterances"):
        attacks.check_sizes(8, 9)


def test_figures_of_earlier_versions(attacked):
    """What revision 2991ac6 found on the same vectors; the README's figures were drawn so."""
    copied = attacked["copied"]
    assert copied.membership.auc == pytest.approx([0.88348958, 0.84432371, 0.91450071], abs=1e-6)
    assert copied.nearest.ratio == pytest.approx([0.67326988, 0.64271016, 0.70528265], abs=1e-6)
    assert copied.speakers_from_real.more_than_unknown == pytest.approx([0.91260417, 0.88889984, 0.93643782], abs=1e-6)
    assert copied.speakers_from_samples.accuracy == pytest.approx([0.95, 0.878375, 0.980387], abs=1e-5)
    assert attacked["held_out"].nearest.ratio == pytest.approx([1.01877493, 0.98599438, 1.05264530], abs=1e-6)

"""Attacks on generated features: copies are caught, independent data are not."""

import numpy as np
import pytest

from s3prl_dd.errors import UserError
from s3prl_dd.privacy import attacks
from s3prl_dd.privacy.attacks import Real, attack, held_out, membership, nearest, wilson


def voices(seed=0, speakers=8, train=30, dev=10, more=0, dim=24):
    """(Real, more utterances): utterances around a centre for each speaker; all parts have the same speakers.

    As in speech, utterances of one speaker differ most in directions that say little of him.
    """
    draw = np.random.default_rng(seed)
    centres, within = draw.standard_normal((speakers, dim)), np.geomspace(4, 0.5, dim)
    parts = []
    for number in (train, dev, more):
        parts += [np.repeat(centres, number, axis=0) + within * draw.standard_normal((speakers * number, dim)), np.repeat(np.arange(speakers), number)]
    return Real(*parts[:4]), parts[4]


@pytest.fixture(scope="module")
def found():
    real, independent = voices(0, more=38)
    nobody = np.random.default_rng(5).standard_normal((300, 24)) * real.train.std(axis=0) * 0.3  # near the middle: no voice
    return attack(real, {"independent": independent, "nobody": nobody}, 300)


def test_copies_are_caught_by_every_attack(found):
    assert attacks.blind(found) == []
    copied = found["copied"]
    assert copied["membership"]["auc"][1] > 0.8 and copied["nearest"]["ratio"][2] < 0.8
    assert copied["speakers_from_real"]["more_than_unknown"][1] > 0.8


def test_independent_utterances_are_no_memory_but_their_speakers_are_heard(found):
    independent = found["independent"]
    assert not independent["membership"]["caught"] and not independent["nearest"]["caught"]
    low, high = independent["membership"]["auc"][1:]
    assert low < 0.5 < high
    assert independent["speakers_from_real"]["caught"] and independent["speakers_from_real"]["speakers_heard"] > 7


def test_samples_without_a_voice(found):
    nobody = found["nobody"]
    assert not any(result["caught"] for name, result in nobody.items() if name != "speakers_from_samples")
    known, unknown, samples = (nobody["speakers_from_real"]["confidence"][key][0] for key in ("known_speakers", "unknown_speakers", "samples"))
    assert samples < unknown < known
    assert nobody["speakers_from_real"]["accuracy_on_dev"][0] > 0.9


def test_a_gaussian_is_the_floor_of_the_speaker_attacks(found):
    gaussian = found["gaussian"]
    assert not any(gaussian[name]["caught"] for name in ("speakers_from_real", "speakers_from_samples", "nearest"))
    assert found["copied"]["speakers_from_real"]["floor"] == gaussian["speakers_from_real"]["more_than_unknown"][0]
    assert found["copied"]["speakers_from_samples"]["floor"] == gaussian["speakers_from_samples"]["accuracy"][0]


def test_a_tenth_of_copies_is_seen(found):
    assert found["one_in_ten_copied"]["membership"]["auc"][0] > found["gaussian"]["membership"]["auc"][0] + 0.03
    assert found["one_in_ten_copied"]["nearest"]["ratio"][0] < found["gaussian"]["nearest"]["ratio"][0]


def test_false_alarms_on_independent_data_are_rare():
    """Twenty data sets where nothing was memorised: an interval of 95 % leaves about one in forty on this side."""
    alarms = {"membership": 0, "nearest": 0}
    for seed in range(20):
        real, independent = voices(seed, more=20, dim=8)
        for measure in (membership, nearest):
            alarms[measure.__name__] += measure(real, independent, seed)["caught"]
    assert max(alarms.values()) <= 3


def test_the_larger_set_is_not_taken_for_a_memory():
    """Train has ten times as many utterances as dev: nearer by chance if it were not cut to size."""
    draw = np.random.default_rng(0)
    one, other, samples = (draw.standard_normal((number, 3)) for number in (500, 50, 200))
    real = Real(one, np.arange(500) % 5, other, np.arange(50) % 5)
    naive = np.linalg.norm(samples[:, None] - one, axis=2).min(axis=1).mean() / np.linalg.norm(samples[:, None] - other, axis=2).min(axis=1).mean()
    ratio, low, high = nearest(real, samples)["ratio"]
    assert naive < 0.7 and low < 1 < high


def test_held_out_is_not_caught_and_results_repeat():
    real, _ = voices(3)
    for measure in (membership, nearest):
        first, again = held_out(real, measure), held_out(real, measure)
        assert first == again and not first["caught"]


def test_frames_and_means():
    frames = np.random.default_rng(0).standard_normal((5, 4, 3)).astype(np.float32)
    assert np.allclose(attacks.vectors(frames), frames.mean(axis=1))
    whole = attacks.vectors(frames, "frames")
    assert whole.shape == (5, 12)  # distances are root mean squares over the frames
    assert np.isclose(np.linalg.norm(whole[0] - whole[1]), np.sqrt(((frames[0] - frames[1]) ** 2).sum(axis=1).mean()))
    with pytest.raises(UserError, match="view 'median'"):
        attacks.vectors(frames, "median")
    with pytest.raises(UserError, match="3 training and 2 dev utterances"):
        Real(np.zeros((3, 2)), np.zeros(3), np.zeros((2, 2)), np.zeros(2))


def test_wilson_against_statistics_books():
    assert wilson(0.5, 20) == pytest.approx([0.5, 0.2993, 0.7007], abs=1e-4)
    assert wilson(1.0, 20) == pytest.approx([1.0, 0.8389, 1.0], abs=1e-4)

"""The attack on heads in a file: one that knows train by heart is caught, one that never heard it is not."""

import numpy as np
import pytest

from s3prl_dd.privacy import teacher
from s3prl_dd.privacy.attacks import attacker
from s3prl_dd.privacy.teacher import Labelled, attack_teachers, difficulty, log_odds, tell_apart


def emotions(seed=0, train=200, dev=60, dim=12):
    """Utterances of four classes that overlap, some far harder than others."""
    draw = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((4, dim))
    labels = np.arange(train + dev) % 4
    spread = draw.uniform(0.5, 3, (train + dev, 1))
    points = centres[labels] + spread * draw.standard_normal((train + dev, dim))
    return Labelled(points[:train], labels[:train], points[train:], labels[train:])


def opinion_of(points, labels):
    model = attacker(points, labels)
    return lambda hears: model.predict_proba(hears)[None]


@pytest.fixture(scope="module")
def found():
    data, others = emotions(0), emotions(1)
    return attack_teachers(data, {"stranger": opinion_of(others.points, others.labels)})


def test_controls(found):
    assert list(found) == ["stranger", "memorised", "held_out"]
    assert found["memorised"].caught and found["memorised"].auc.low > 0.8
    assert found["memorised"].found_at_1_percent_false.value > 0.3
    assert not found["held_out"].caught and found["held_out"].caught_rounds[-2:] == "/5"
    assert not found["stranger"].caught and found["stranger"].found_at_1_percent_false.value < 0.1


def test_dev_is_no_member():
    data = emotions()
    swapped = attack_teachers(data, {"of dev": opinion_of(data.dev, data.dev_labels)})["of dev"]
    assert swapped.auc.high < 0.5 and not swapped.caught


def test_difficulty_is_taken_out():
    """Members by chance harder than others: the loss alone takes the others for members, the attack does not."""
    draw = np.random.default_rng(0)
    hardness = np.concatenate([draw.normal(-1, 1, 200), draw.normal(1, 1, 100)])
    odds = 2 * hardness + 0.1 * draw.standard_normal(300)
    odds[:200] += 0.3
    result = tell_apart(odds, hardness, 200)
    assert result.auc.low > 0.5 > result.auc_of_loss.high


def test_shadow_models_judge_what_they_have_not_heard():
    """An utterance whose label is wrong is hard for all of them, though one that heard it would know."""
    data = emotions(dim=100)
    labels = data.labels.copy()
    labels[0] = (labels[0] + 1) % 4
    right, wrong = difficulty(data.points, data.labels), difficulty(data.points, labels)
    assert wrong[0] < right[0] and np.isfinite(wrong).all()


def test_log_odds_are_means_over_heads_and_finite():
    probabilities = np.array([[[0.8, 0.2], [1.0, 0.0]], [[0.5, 0.5], [0.5, 0.5]]])  # [heads, utterances, classes]
    odds = log_odds(probabilities, np.array([0, 1]))
    assert odds[0] == pytest.approx(np.log(4) / 2) and np.isfinite(odds[1]) and odds[1] < -5


def test_too_few_utterances_are_not_attacked():
    assert attack_teachers(emotions(train=16, dev=8), {}) == {}
    assert teacher.FEWEST * 4 > 24


def test_false_alarms_are_rare():
    """Ten heads that heard nothing of either side."""
    others = emotions(50)
    alarms = [attack_teachers(emotions(seed), {"stranger": opinion_of(others.points, others.labels)})["stranger"].caught
              for seed in range(1, 11)]
    assert sum(alarms) <= 2

"""An attacker on speakers who knows the class and what a file leaves of speech."""

import numpy as np
import pytest

from s3prl_dd.privacy.results import PrivacyResults
from s3prl_dd.privacy.table import table
from s3prl_dd.privacy.within import Offsets, Sampled, Spoken, attack_within, named_rightly

SPEAKERS, CLASSES, DIM = 6, 3, 12


def spoken(seed, number, offset=1.0):
    """`number` utterances of each speaker and class: a class mean, an offset of the speaker in this class, and a rest.

    As in speech, utterances of one speaker differ most in directions that say little of him.
    """
    fixed = np.random.default_rng(0)
    of_class = 3 * fixed.standard_normal((CLASSES, 1, 1, DIM))
    of_speaker = offset * fixed.standard_normal((CLASSES, SPEAKERS, 1, DIM))
    rest = np.random.default_rng(seed).standard_normal((CLASSES, SPEAKERS, number, DIM)) * np.geomspace(4, 0.5, DIM)
    means = (of_class + of_speaker + rest).reshape(-1, DIM)
    labels = np.repeat(np.arange(CLASSES), SPEAKERS * number)
    speakers = np.tile(np.repeat([f"speaker{place}" for place in range(SPEAKERS)], number), CLASSES)
    return Spoken(means, labels, speakers)


def as_it_is(means):
    return means


def without_speakers(samples):
    return Spoken(samples.means, samples.labels)


@pytest.fixture(scope="module")
def found():
    files = {"tells": Sampled(without_speakers(spoken(3, 40)), as_it_is),
             "tells nothing": Sampled(without_speakers(spoken(4, 40, offset=0.0)), as_it_is)}
    return attack_within(spoken(1, 10), spoken(2, 10), files, 600)


def test_copies_are_caught_and_noise_is_the_floor(found):
    assert list(found) == ["tells", "tells nothing", "copied", "noise"]
    assert found["copied"].caught and not found["noise"].caught
    for result in found.values():
        assert result.floor == pytest.approx(found["noise"].accuracy.value) and result.chance == 1 / SPEAKERS


def test_other_utterances_of_the_speakers_tell_them_and_samples_without_offsets_less(found):
    assert found["tells"].caught and found["tells"].accuracy.value > 0.85
    assert found["tells nothing"].accuracy.value < found["tells"].accuracy.value - 0.1


def opposite(number=20):
    """Two speakers on either side of the class mean, and in the other class the other way round."""
    side = np.array([-1.0, 1, 1, -1])[:, None, None]
    means = side * [1.0, 0.0] + 0.1 * np.random.default_rng(number).standard_normal((4, number, 2))
    labels, speakers = np.repeat([0, 0, 1, 1], number), np.repeat(["a", "b", "a", "b"], number)
    return Spoken(means.reshape(-1, 2), labels, speakers)


def test_in_each_class_by_itself():
    train, dev, samples = opposite(10), opposite(11), without_speakers(opposite(12))
    assert named_rightly(train, dev, Sampled(samples, as_it_is)).all()
    other_way = dev._replace(labels=1 - dev.labels)
    assert not named_rightly(train, other_way, Sampled(samples, as_it_is)).any()


def test_train_and_dev_are_heard_as_the_file_leaves_them():
    """Speakers differ in the first dimension; in the file's samples, and in speech as it leaves it, in the second."""
    train, dev, samples = opposite(10), opposite(11), without_speakers(opposite(12))

    def swapped(means):
        return means[:, ::-1]

    moved = samples._replace(means=swapped(samples.means))
    assert named_rightly(train, dev, Sampled(moved, swapped)).all()
    assert not named_rightly(train, dev, Sampled(moved, as_it_is)).all()


def test_the_nearest_offset_names_a_sample_and_one_sample_alone_teaches_nothing():
    offsets = Offsets.of(np.array([[0.0, 0], [0, 2], [10, 0], [10, 2]]), np.array(["a", "a", "b", "b"]))
    assert offsets.names.tolist() == ["a", "b"] and offsets.middle.tolist() == [5, 1]
    assert offsets.centres.tolist() == [[-5, 0], [5, 0]]
    around = np.array([[-4, 0.1], [-6, -0.1], [4, 0.2], [6, 0.1]])
    assert offsets.guess(around, np.array([[-3.0, 0], [3, 0]])).tolist() == ["a", "b"]
    assert offsets.guess(np.array([[-1.0, 0], [-1, 0], [5, 0]]), np.zeros((2, 2))).tolist() == ["a", "a"]


def test_speakers_who_cannot_be_learnt_are_not_attacked():
    train = spoken(1, 10)
    nobody = train._replace(speakers=np.array([f"speaker{place}" for place in range(len(train.means))]))
    assert attack_within(nobody, spoken(2, 10), {}, 60) == {}


def test_the_table_and_files_without_it(found, tmp_path):
    results = PrivacyResults({}, {}, within=found)
    text = table(results)
    assert "attack on speakers by who knows the file and the class; chance 17 %; * = caught" in text
    assert "copied" in text and "to be caught" in text and "WARNING" not in text
    results.write(tmp_path / "results.json")
    assert PrivacyResults.read(tmp_path / "results.json") == results
    assert "WARNING" in table(PrivacyResults({}, {}, within={**found, "copied": found["noise"]}))

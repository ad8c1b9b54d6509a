"""datarc: the shipped configurations say what the dataclasses say, and what a user gets who sets nothing."""

import dataclasses

import pytest

from s3prl_dd.config import CONFIGS, read_yaml
from s3prl_dd.errors import UserError
from s3prl_dd.generator.sampling import DEFAULTS
from s3prl_dd.plugin.datarc import DistilledData, EmotionData, SpeakerData, read_datarc

SHIPPED = {"emotion": EmotionData, "distilled_emotion": DistilledData, "voxceleb1": SpeakerData}


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_yaml_states_the_defaults(name):
    """Each key of the dataclass and no other, each at its default."""
    datarc = read_yaml(CONFIGS / f"{name}.yaml")["downstream_expert"]["datarc"]
    assert datarc == dataclasses.asdict(SHIPPED[name]())


def test_samples_have_one_set_of_defaults():
    data = DistilledData()
    for item in dataclasses.fields(DEFAULTS):
        assert getattr(data, item.name) == getattr(DEFAULTS, item.name)
    assert (data.labels, data.center, data.resample, data.lengths) == ("soft", "auto", "auto", "generator")


def test_the_test_fold():
    """The configuration's, else S3PRL's -v, else fold1; the settings stay as they are otherwise."""
    assert read_datarc(EmotionData, {"test_fold": "fold2"}, "fold3").test_fold == "fold2"
    assert read_datarc(EmotionData, {}, "fold3").test_fold == "fold3"
    data = read_datarc(DistilledData, {"labels": "hard"}, None)
    assert data == DistilledData(test_fold="fold1", labels="hard")
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.test_fold = "fold2"


@pytest.mark.parametrize("cls, datarc, message", [
    (EmotionData, {"selectby": "uar"}, "unknown key 'selectby'.*Did you mean 'select_by'"),
    (DistilledData, {"resampel": True}, "unknown key 'resampel'.*Did you mean 'resample'"),
    (EmotionData, {"resample": True}, "unknown key 'resample'"),
    (EmotionData, {"select_by": "loss"}, "select_by: expected 'acc' or 'uar', found 'loss'"),
    (DistilledData, {"labels": "smooth"}, "labels: expected 'soft' or 'hard', found 'smooth'"),
    (DistilledData, {"lengths": "long"}, "lengths: expected 'generator' or 'corpus'"),
    (DistilledData, {"sample_seed": -1}, "sample_seed: expected greater than or equal to 0"),
    (EmotionData, {"train_batch_size": 0}, "train_batch_size: expected greater than or equal to 1"),
    (EmotionData, {"eval_batch_size": True}, "eval_batch_size: expected a number, found true"),
    (EmotionData, {"num_workers": -1}, "num_workers: expected greater"),
    (EmotionData, {"valid_ratio": 1.0}, "valid_ratio: expected less than 1"),
    (EmotionData, {"valid_ratio": float("nan")}, "valid_ratio: expected a finite number"),
    (SpeakerData, {"max_timestep": 0}, "max_timestep: expected greater"),
])
def test_refused(cls, datarc, message):
    with pytest.raises(UserError, match=f"config.downstream_expert.datarc: {message}") as told:
        read_datarc(cls, datarc, None) if cls is not SpeakerData else _build_speaker_data(datarc)
    assert "\n" not in str(told.value)


def _build_speaker_data(datarc):
    from s3prl_dd.plugin.speakers import read_speaker_data

    read_speaker_data({"downstream_expert": {"datarc": datarc}})

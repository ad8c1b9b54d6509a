"""What `s3prl-dd inspect` prints."""

import json

import pytest
import torch
from support.tiny_generator import rewrite, tiny_generator

from s3prl_dd.errors import UserError
from s3prl_dd.generator import NetworkConfig, inspect, read_header


@pytest.fixture
def path(tmp_path):
    tiny_generator().save(tmp_path / "generator.safetensors")
    return tmp_path / "generator.safetensors"


def test_text(path, capsys):
    inspect(path)
    told = capsys.readouterr().out
    for text in ("gan_1d", "samples of [8, 10]", "60 utterances of gauss (neu 20, ang 16, sad 24)",
                 "fold1; 2 speakers were heard, the 1 of the test fold never",
                 "made -s hidden_states", "layer weights 0.25 0.75", "320 samples a frame",
                 "4 linear heads", "step 100", "diversity 0.3", "dev_uar 0.750", "float32", "format 1"):
        assert text in told, text
    assert "mmd" not in told  # of weight 0
    assert f"{sum(weight.numel() for weight in tiny_generator().network.parameters()):,} parameters" in told
    assert [line.split()[1] for line in told.splitlines() if line.startswith("calibrated")] == ["no"]
    assert "frame deviations" not in told


def test_text_of_frame_deviations_of_any_class(tmp_path, capsys):
    tiny_generator(NetworkConfig(frames=8, noise=6, channels=8, movement="any")).save(tmp_path / "file")
    inspect(tmp_path / "file")
    assert "samples of [8, 10], frame deviations of any class" in capsys.readouterr().out


def test_tables_of_numbers_are_for_json(tmp_path, capsys):
    tiny_generator(metrics={"dev_uar": 0.75, "frames": {"spread": 1.0}}).save(tmp_path / "file")
    inspect(tmp_path / "file")
    told = capsys.readouterr().out
    assert "dev_uar 0.750" in told and "frames {" not in told and "spread" not in told


def test_json(path, capsys):
    inspect(path, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["bytes"] == path.stat().st_size and told["class_counts"] == [20, 16, 24]
    assert told["features"]["layer_weights"] == [0.25, 0.75] and told["network"]["dim"] == 10


def test_no_names_of_speakers_even_of_a_file_that_has_them(path, capsys):
    rewrite(path, header=lambda values: values["corpus"].update(train_speakers=["Ann", "Bob"], test_speakers=["Eve"]))
    for as_json in (False, True):
        inspect(path, as_json)
        told = capsys.readouterr().out
        assert not any(name in told for name in ("Ann", "Bob", "Eve"))


def test_other_files(tmp_path, capsys):
    tiny_generator(teacher=False, calibration=True, training={}, metrics={}).save(tmp_path / "file", half=True)
    inspect(tmp_path / "file")
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line[12:].strip())
    assert "float16" in lines["file"] and "soft" in lines and lines["calibrated"].startswith("to the real class means")


@pytest.mark.parametrize("training", [{"lambdas": 5}, {"lambdas": {"mmd": "much"}, "step": [1]}, {}])
def test_what_a_trainer_of_another_day_wrote_is_no_error(path, capsys, training):
    rewrite(path, header=lambda values: values.update(training=training))
    inspect(path)
    assert "gan_1d" in capsys.readouterr().out


def test_names_cannot_move_the_cursor(path, capsys):
    rewrite(path, header=lambda values: values["corpus"].update(name="a\nb\x1b[2J"))
    inspect(path)
    told = capsys.readouterr().out
    assert "a b [2J" in told and "\x1b" not in told and read_header(path).corpus.name == "a\nb\x1b[2J"


def test_inspect_reads_no_values_but_checks_all_else(path, capsys):
    rewrite(path, tensors=lambda tensors: tensors["mean"].fill_(torch.nan))
    inspect(path)
    rewrite(path, tensors=lambda tensors: tensors.pop("mean"))
    with pytest.raises(UserError, match="lacks the tensor mean"):
        inspect(path)
    for as_json in (False, True):
        with pytest.raises(UserError, match="no such generator file"):
            inspect(path.parent / "none", as_json)

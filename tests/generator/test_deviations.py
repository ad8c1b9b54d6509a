"""Frame deviations: a sample's frames about its mean, of its own class or of any."""

import dataclasses

import numpy as np
import pytest
import torch
from support.tiny_generator import CLASSES, loaded, tiny_generator

from s3prl_dd.config import load_config
from s3prl_dd.distill.config import DistillConfig
from s3prl_dd.errors import UserError
from s3prl_dd.generator import NetworkConfig
from s3prl_dd.generator.deviations import any_class, with_deviations
from s3prl_dd.generator.noise import draw_noise

CONFIG = NetworkConfig(frames=8, noise=6, channels=8)
ANY = dataclasses.replace(CONFIG, movement="any")


def about(frames):
    return frames - frames.mean(dim=1, keepdim=True)


def test_the_mean_is_of_one_and_the_deviations_of_the_other():
    frames, others = torch.randn(2, 5, 7, 3, generator=torch.Generator().manual_seed(0))
    found = with_deviations(frames, others)
    torch.testing.assert_close(found.mean(dim=1), frames.mean(dim=1))
    torch.testing.assert_close(about(found), about(others))
    torch.testing.assert_close(with_deviations(frames, frames), frames)


def test_any_class_is_each_as_often():
    chances = np.arange(3000) / 3000
    assert np.bincount(any_class(chances, 3)).tolist() == [1000] * 3
    assert any_class([0.0, 1 - 1e-16], 4).tolist() == [0, 3]


def test_the_chance_is_the_samples_own():
    """As its noise is: by seed, epoch and number; behind what was drawn before deviations had a class of their own."""
    one, other = draw_noise(0, 0, [4, 9], 6), draw_noise(0, 1, [4, 9], 6)
    stream = np.random.Generator(np.random.Philox(key=0, counter=[0, 0, 9, 0]))
    assert stream.standard_normal(6, dtype=np.float32).tolist() == one.vectors[1].tolist()
    assert (stream.uniform(0, 100), stream.uniform()) == (one.quantiles[1], one.chances[1])
    assert one.chances != other.chances and all(0 <= chance < 1 for chance in one.chances)


def test_ways_of_a_set_are_streams_of_their_own():
    """Counted in the counter's upper half: way 3 of epoch 2 is where epoch 2 + 3 * 2^32 was."""
    first, other = (draw_noise(0, 2, [9], 6, apart=True, way=way) for way in (0, 3))
    assert torch.equal(first.vectors, other.vectors) and first.quantiles == other.quantiles
    stream = np.random.Generator(np.random.Philox(key=0, counter=[0, 0, 9, 2 + 3 * 2**32]))
    assert other.chances == [stream.uniform()] != first.chances
    assert other.of_deviations[0].tolist() == stream.standard_normal(6, dtype=np.float32).tolist()


@pytest.mark.parametrize("calibration", [False, True])
def test_a_sample_has_its_own_mean_and_the_deviations_of_a_class_without_regard_to_its_own(calibration, tmp_path):
    own = loaded(tiny_generator(CONFIG, calibration=calibration), tmp_path / "own")
    of_any = loaded(tiny_generator(ANY, calibration=calibration), tmp_path / "any")
    before, after = (generator.sample(60, seed=2, center=False) for generator in (own, of_any))
    torch.testing.assert_close(after.means(), before.means(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(after.soft_labels, before.soft_labels, atol=1e-4, rtol=1e-4)
    noise = draw_noise(2, 0, range(60 * CLASSES), 6, apart=True)
    other_labels = any_class(noise.chances, CLASSES)
    expected = own.network(noise.of_deviations, other_labels) * own.std
    torch.testing.assert_close(about(after.features), about(expected), atol=1e-5, rtol=1e-5)
    seen = np.histogram2d(before.labels, other_labels, bins=CLASSES)[0]
    assert seen.min() > 10, "each class with the deviations of each"
    assert torch.corrcoef(torch.stack([noise.vectors.flatten(), noise.of_deviations.flatten()]))[0, 1].abs() < 0.1


def test_a_part_of_a_set_deviates_as_in_the_whole():
    generator = tiny_generator(ANY)
    whole = generator.sample(20, seed=3, epoch=2, center=False)
    picked = generator.generate(whole.labels[[41, 5]], [41, 5], seed=3, epoch=2)
    torch.testing.assert_close(picked.features, whole.features[[41, 5]], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["gaussian", "points"])
def test_fixed_frames_have_no_deviations_to_draw(architecture):
    with pytest.raises(UserError, match="movement: any is for networks that draw frame deviations"):
        NetworkConfig(architecture=architecture, movement="any")


def test_ours_take_any_and_the_papers_their_own():
    configs = {name: load_config(DistillConfig, name).network.movement
               for name in ("gan_1d", "gan_1d_frames", "gan_att", "gan_cnn", "gan_att_small", "gaussian_frames",
                            "ablation_baseline", "ablation_sml", "ablation_div", "ablation_both")}
    assert [name for name, movement in configs.items() if movement == "any"] == ["gan_1d", "gan_1d_frames"]

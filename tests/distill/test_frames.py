"""Frame deviations: measures and losses against closed forms, and in training."""

import math

import pytest
import torch
from support.gauss import tiny_data, tiny_pool, tiny_trainer

from s3prl_dd.distill import losses
from s3prl_dd.distill.data import TrainingData
from s3prl_dd.distill.frames import lagged_covariance, measure, modulation_power
from s3prl_dd.errors import UserError
from s3prl_dd.pool.pool import Pool, train_frame_pool
from s3prl_dd.pool.training import Utterances


def autoregressive(number: int, frames: int, dim: int, lag_one: float, seed: int = 0) -> torch.Tensor:
    """[number, frames, dim] of unit variance and correlation lag_one ** lag."""
    draws = torch.randn(number, frames, dim, generator=torch.Generator().manual_seed(seed))
    steps = [draws[:, 0]]
    for t in range(1, frames):
        steps.append(lag_one * steps[-1] + math.sqrt(1 - lag_one**2) * draws[:, t])
    return torch.stack(steps, dim=1)


# measures


def test_power_of_sines_lies_in_their_octave():
    time = torch.arange(16) / 16
    for cycles, band, power in ((1, 0, 0.5), (3, 1, 0.5), (5, 2, 0.5), (7, 2, 0.5), (8, 2, 1.0)):
        frames = 7 + torch.cos(2 * math.pi * cycles * time)[None, :, None]
        found = modulation_power(frames)
        assert found.shape == (1, 3, 1)
        expected = torch.zeros(3)
        expected[band] = power
        torch.testing.assert_close(found[0, :, 0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("count", [2, 3, 6, 7, 16, 25])
def test_bands_add_up_to_the_variance(count):
    frames = torch.randn(5, count, 3)
    torch.testing.assert_close(modulation_power(frames).sum(dim=1), frames.var(dim=1, correction=0))


def test_measures_of_an_autoregression():
    found = measure(autoregressive(500, 64, 8, 0.8))
    assert found.spread == pytest.approx(math.sqrt(sum(found.bands)), rel=1e-4)
    white = measure(torch.randn(500, 64, 8))
    assert white.lag_one == pytest.approx(-1 / 64, abs=0.01)  # the utterance's mean is taken off
    assert 0.7 < found.lag_one < 0.8 and found.bands[0] > 2 * white.bands[0] and found.bands[-1] < white.bands[-1] / 2
    still = measure(torch.ones(3, 8, 2))
    assert (still.spread, still.lag_one, still.bands) == (0, 0, [0, 0])
    assert set(still.named("real")) == {"spread_real", "lag_one_real", "band1_real", "band2_real"}


def test_lagged_covariance_by_loops():
    frames = torch.randn(4, 6, 3, dtype=torch.float64)
    about = frames - frames.mean(dim=1, keepdim=True)
    for lag in (0, 1, 2):
        expected = sum(torch.outer(about[n, t], about[n, t + lag]) for n in range(4) for t in range(6 - lag))
        torch.testing.assert_close(lagged_covariance(frames, lag), expected / (4 * (6 - lag)))


# losses


def test_frame_covariance_of_two_autoregressions():
    """Against (1 - s)^2, where samples are real ones times sqrt(s); still samples are 1 apart."""
    real, other = (autoregressive(4000, 8, 3, 0.5, seed) for seed in (0, 1))
    assert losses.frame_covariance(real, other, 2).item() == pytest.approx(0, abs=0.02)
    assert losses.frame_covariance(real, math.sqrt(0.5) * other, 2).item() == pytest.approx(0.25, abs=0.03)
    assert losses.frame_covariance(real, 0 * other, 2).item() == pytest.approx(1, abs=1e-5)
    assert losses.frame_covariance(real, autoregressive(4000, 8, 3, 0, 2), 2) > 0.2  # other correlation, same spread


def test_frame_covariance_is_unbiased_in_the_batch():
    """Batches of two samples of a class, where the noise is far greater than what is compared."""
    real, fake = autoregressive(4000, 6, 3, 0.5), autoregressive(4000, 6, 3, 0.5, seed=1)
    small = [losses.frame_covariance(real[at:at + 4], fake[at:at + 4], 2).item() * norm_of(real[at:at + 4])
             for at in range(0, 4000, 4)]
    spread = torch.tensor(small).std().item() / math.sqrt(len(small))
    assert abs(sum(small) / len(small)) < 4 * spread


def norm_of(real: torch.Tensor) -> float:
    """What frame_covariance divides by, for two classes of two."""
    one, other = real.unflatten(0, (2, 2)).split(1)
    products = [(lagged_covariance(one, lag) * lagged_covariance(other, lag)).sum() for lag in (0, 1)]
    return max(1e-6, sum(products).item())


def test_classes_are_compared_with_themselves():
    """Two classes of other spread, swapped."""
    real = autoregressive(2000, 8, 3, 0.5) * (1 + torch.arange(2000) % 2)[:, None, None]
    swapped = real.roll(1, 0)
    assert losses.frame_covariance(real, swapped, 2) > 0.5 and losses.modulation(real, swapped, 2) > 1


def test_modulation_is_of_log_power():
    real = autoregressive(100, 16, 3, 0.5)
    assert losses.modulation(real, real, 2) == 0
    assert losses.modulation(real, math.e * real + 5, 2).item() == pytest.approx(4, rel=1e-2)


# in training


@pytest.fixture(scope="module")
def data() -> TrainingData:
    """With frames of dev."""
    from dataclasses import replace

    from support.gauss import utterances

    plain = tiny_data()
    return replace(plain, dev_utterances=utterances(plain.dev[1].tolist(), "dev"))


@pytest.fixture(scope="module")
def pool(data) -> Pool:
    pool = tiny_pool(data)
    train = Utterances.of(data.utterances), data.labels
    for kind in ("attentive", "cnn"):
        pool.others[kind] = train_frame_pool(kind, train, (data.dev_frames, data.dev[1]), 2, 6, 2, classes=3,
                                             progress=False)
    return pool


def test_terms_of_frames_are_the_losses(tmp_path, data, pool):
    trainer = tiny_trainer(tmp_path, data, pool, lambdas={"frame_covariance": 1, "modulation": 1})
    terms = trainer.generator_terms(3).terms
    real, noise = trainer.batches.real("real", 3), trainer.batches.noise("noise", 3)
    fake = trainer.generator(noise, trainer.batches.labels)
    assert terms["frame_covariance"].item() == pytest.approx(losses.frame_covariance(real, fake, 3).item(), rel=1e-3)
    assert terms["modulation"].item() == pytest.approx(losses.modulation(real, fake, 3).item(), rel=1e-3)


def test_softmax_matching_draws_from_each_kind(tmp_path, data, pool):
    """Eq. 6 as the mean over the kinds' own, each kind hearing frames in the upstream's units."""
    def term(*kinds):
        trainer = tiny_trainer(tmp_path, data, pool, softmax_kinds=kinds, softmax_pairing="label")
        return trainer.generator_terms(3).terms["softmax_matching"].item()

    apart = [term(kind) for kind in ("superb", "attentive", "cnn")]
    assert len(set(apart)) == 3
    assert term("superb", "attentive", "cnn") == pytest.approx(sum(apart) / 3, rel=1e-4)
    trainer = tiny_trainer(tmp_path, data, pool, softmax_kinds=("attentive",), softmax_pairing="label")
    heads = pool.others["attentive"].draw(4, torch.Generator().manual_seed(0))
    frames = trainer.batches.real("real", 3)
    torch.testing.assert_close(heads(trainer._heard(heads, frames)), heads(frames * data.std + data.mean))


def test_selection_hears_with_each_kind(tmp_path, data, pool):
    trainer = tiny_trainer(tmp_path, data, pool, steps=1, eval_kinds=("superb", "attentive", "cnn"),
                           eval_labels="soft", eval_heads=1)
    trainer.train(progress=False)
    entry, = trainer.history
    assert set(entry.dev_by_kind) == {"superb", "attentive", "cnn"}
    assert entry.dev_uar == pytest.approx(sum(entry.dev_by_kind.values()) / 3)
    real = measure(data.some_frames(500))
    assert entry.frames["spread_real"] == pytest.approx(real.spread) and "band2_generated" in entry.frames
    assert entry.frames["spread_generated"] != entry.frames["spread_real"]
    assert (tmp_path / "metrics.json").is_file() and "dev_cnn" in (tmp_path / "log.log").read_text()


def test_frames_of_dev_are_asked_for(tmp_path, pool):
    trainer = tiny_trainer(tmp_path, tiny_data(), pool, steps=1, eval_kinds=("cnn",))
    with pytest.raises(UserError, match="no frames of dev utterances"):
        trainer.train(progress=False)

"""Distilling on a GPU: as on a CPU, recorded as CUDA graphs, in bfloat16, and going on on another device."""

import warnings
from pathlib import Path

import pytest
import torch
from support.gauss import PARTS, TinyTrainer, tiny_config, tiny_data, tiny_pool
from support.gpu import exact, needs_gpu

from s3prl_dd.config import load_config
from s3prl_dd.distill.bench import bench_step
from s3prl_dd.distill.config import DistillConfig

pytestmark = [pytest.mark.gpu, needs_gpu]

SMALL = ["network.frames=16", "network.channels=16", "network.critic_channels=16", "batch=32", "critic_steps=2"]


def trainer_on(device: str, out: Path, **changes: object) -> TinyTrainer:
    data = tiny_data()
    return TinyTrainer(tiny_config(**changes), data, out, PARTS, tiny_pool(data), device)


@pytest.mark.parametrize("architecture", ["gan_1d", "gan_att"])
def test_twenty_steps_as_on_a_cpu(architecture, tmp_path):
    """Losses within 1e-3 and weights near, while updates are replayed from the third step on; nothing is told."""
    with exact(), warnings.catch_warnings():
        warnings.simplefilter("error")
        changes = {"network": {"architecture": architecture}, "generator_lr": 1e-4, "critic_lr": 1e-4}
        trainers = [trainer_on(device, tmp_path / device, **changes) for device in ("cpu", "cuda")]
        for _ in range(20):
            expected, values = (trainer.train_step().values() for trainer in trainers)
            assert values == pytest.approx(expected, rel=1e-3, abs=1e-3)
        assert trainers[1].replayed.recorded and trainers[1].replayed.records
        for one, other in zip(trainers[0].average.parameters(), trainers[1].average.parameters(), strict=True):
            torch.testing.assert_close(other.cpu(), one, rtol=1e-2, atol=1e-3)


def test_a_lazy_penalty_has_two_recordings(tmp_path):
    trainer, plain = (trainer_on("cuda", tmp_path / name, penalty_every=2, critic_steps=3) for name in "ab")
    plain.replayed = None
    for _ in range(8):
        assert trainer.train_step().values() == pytest.approx(plain.train_step().values(), rel=1e-3, abs=1e-3)
    assert set(trainer.replayed.recorded) == {True, False}


def test_nothing_waits_inside_a_step(tmp_path):
    """torch tells of each wait; an optimal assignment has to have one."""
    trainer = trainer_on("cuda", tmp_path, softmax_pairing="label", log_every=100, eval_every=100, save_every=100)
    for _ in range(4):
        trainer.train_step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(2):
            trainer.train_step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("architecture", ["gan_1d", "gan_att"])
def test_bfloat16_trains(architecture, tmp_path):
    trainer = trainer_on("cuda", tmp_path, network={"architecture": architecture}, precision="bfloat16")
    plain = trainer_on("cuda", tmp_path, network={"architecture": architecture})
    for number in range(12):
        values, expected = trainer.train_step().values(), plain.train_step().values()
        if not number:
            assert values == pytest.approx(expected, rel=0.1, abs=0.1)
        assert all(abs(value) < 1e4 for value in values.values())


def test_a_run_goes_on_on_another_device(tmp_path):
    """A checkpoint of a GPU on a CPU, and back, evaluations and the file included."""
    with exact():
        for steps, device in ((6, "cuda"), (9, "cpu"), (12, "cuda")):
            generator = trainer_on(device, tmp_path / "run", steps=steps).train(progress=False)
            assert generator is not None
        whole = trainer_on("cpu", tmp_path / "cpu", steps=12)
        whole.train(progress=False)
        again = trainer_on("cuda", tmp_path / "run", steps=12)
        again.load()
    assert again.step == 12
    for one, other in zip(whole.average.parameters(), again.average.parameters(), strict=True):
        torch.testing.assert_close(other.cpu(), one, rtol=2e-2, atol=2e-3)


def test_a_loss_that_is_not_finite_is_told(tmp_path):
    from s3prl_dd.errors import UserError

    trainer = trainer_on("cuda", tmp_path, save_every=6, eval_every=6, log_every=6)
    for _ in range(5):
        trainer.train_step()
    with torch.no_grad():
        next(trainer.critic.parameters()).fill_(float("nan"))
    with pytest.raises(UserError, match="critic_score is nan at step 6"):
        trainer.train_step()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_bench_runs(precision):
    configs = {name: load_config(DistillConfig, name, [*SMALL, f"precision={precision}"])
               for name in ("gan_1d", "gan_att")}
    rows = bench_step(configs, dim=24, rounds=2, device="cuda")
    assert len(rows) == 4 and all(row.seconds > 0 and row.peak > 0 for row in rows)
    assert precision == "bfloat16" or max(row.apart for row in rows) < 1e-2

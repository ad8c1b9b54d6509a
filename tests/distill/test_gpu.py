"""Distilling on a GPU: as on a CPU, recorded as CUDA graphs, in bfloat16, and going on on another device."""

import warnings
from pathlib import Path

import pytest
import torch
from support.gauss import FEW_STEPS, PARTS, tiny_config, tiny_data, tiny_pool
from support.gpu import exact, needs_gpu

from s3prl_dd.config import load_config
from s3prl_dd.distill.bench import bench_step
from s3prl_dd.distill.config import DistillConfig
from s3prl_dd.distill.fast import norms
from s3prl_dd.distill.trainer import Trainer

pytestmark = [pytest.mark.gpu, needs_gpu]

SMALL = ["network.frames=16", "network.channels=16", "network.critic_channels=16", "batch=32", "critic_steps=2"]


def trainer_on(device: str, out: Path, **changes: object) -> Trainer:
    data = tiny_data()
    return Trainer(tiny_config(**changes), data, out, PARTS, tiny_pool(data), device, FEW_STEPS)


def losses(trainer: Trainer) -> dict[str, float]:
    """A step's loss terms, and the norms of its gradients."""
    return trainer.train_step().values()


def gradients(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Of the first critic update and the first generator update, all weights behind one another."""
    found = {"critic": trainer._gradients_of(trainer.critic, trainer.critic_terms(1, 0)),
             "generator": trainer._gradients_of(trainer.generator, trainer.generator_terms(1).terms)}
    return {name: torch.cat([gradient.flatten().cpu() for gradient in parts]) for name, parts in found.items()}


@pytest.mark.parametrize("precision, most", [("float32", 1e-4), ("bfloat16", 0.4)])
@pytest.mark.parametrize("large", [False, True], ids=["small", "compiled"])
@pytest.mark.parametrize("architecture", ["gan_1d", "gan_att"])
def test_gradients_are_those_of_a_cpu(architecture, large, precision, most, tmp_path, monkeypatch):
    """Losses alone are not enough: a penalty that lost half of its second derivatives has the same ones."""
    if large:
        monkeypatch.setattr(norms, "LARGE", 1)
    with exact(), warnings.catch_warnings():
        warnings.filterwarnings("error", message="torch.compile does not work")
        network = {"architecture": architecture}
        cpu = gradients(trainer_on("cpu", tmp_path / "cpu", network=network))
        gpu = gradients(trainer_on("cuda", tmp_path / "gpu", network=network, precision=precision))
    for name, expected in cpu.items():
        assert (gpu[name] - expected).norm() < most * expected.norm(), name


@pytest.mark.parametrize("architecture", ["gan_1d", "gan_att"])
def test_first_steps_as_on_a_cpu(architecture, tmp_path):
    """Adam makes a whole step of the rounding of a gradient that is near 0, so two devices part after some steps."""
    with exact():
        changes = {"network": {"architecture": architecture}, "generator_lr": 1e-5, "critic_lr": 1e-5}
        cpu, gpu = (trainer_on(device, tmp_path / device, **changes) for device in ("cpu", "cuda"))
        for _ in range(3):
            assert losses(gpu) == pytest.approx(losses(cpu), rel=1e-2, abs=1e-2)


@pytest.mark.parametrize("large", [False, True], ids=["small", "compiled"])
@pytest.mark.parametrize("architecture", ["gan_1d", "gan_att"])
def test_twenty_recorded_steps_as_unrecorded_ones(architecture, large, tmp_path, monkeypatch):
    """Updates are replayed from the third step on, compiled passes too, and nothing is told."""
    if large:
        monkeypatch.setattr(norms, "LARGE", 1)
    with exact(), warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch itself, when it is compiled first
        changes = {"network": {"architecture": architecture}, "generator_lr": 1e-5, "critic_lr": 1e-5}
        trainer, plain = (trainer_on("cuda", tmp_path / name, **changes) for name in "ab")
        plain.replayed = None
        for _ in range(20):
            assert losses(trainer) == pytest.approx(losses(plain), rel=1e-2, abs=1e-2)
        assert trainer.replayed.recorded and trainer.replayed.records


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
        values, expected = losses(trainer), losses(plain)
        if not number:
            assert values == pytest.approx(expected, rel=0.1, abs=0.15)
        assert all(abs(value) < 1e4 for value in values.values())


def test_a_run_goes_on_on_another_device(tmp_path):
    """A checkpoint of a GPU on a CPU, and back, evaluations and the file included."""
    with exact():
        for steps, device in ((6, "cuda"), (9, "cpu"), (12, "cuda")):
            generator = trainer_on(device, tmp_path / "run", steps=steps).train(progress=False)
            assert generator is not None
        cpu, gpu = (trainer_on(device, tmp_path / "run", steps=12) for device in ("cpu", "cuda"))
        for trainer in (cpu, gpu):
            trainer.load()
    assert cpu.step == gpu.step == 12
    assert losses(gpu) == pytest.approx(losses(cpu), rel=1e-2, abs=1e-2)


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
    with exact():
        rows = bench_step(configs, dim=24, rounds=2, device="cuda")
    assert len(rows) == 4 and all(row.seconds > 0 and row.peak > 0 for row in rows)
    assert precision == "bfloat16" or max(row.apart for row in rows) < 1e-2

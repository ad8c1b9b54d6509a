"""The distiller on two gloo processes: the same mathematics as on one, and only rank 0 writes."""

import contextlib
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from support.gauss import ALL_TERMS, ROOT, on_two_ranks, write_run

from s3prl_dd.cli import parser
from s3prl_dd.distill.__main__ import main
from s3prl_dd.distill.trainer import average_gradients, gather
from s3prl_dd.generator import Generator
from s3prl_dd.generator.networks import BatchNorm, TimeConv, build_generator

TINY = ["network.frames=8", "network.noise=6", "network.channels=12", "network.critic_channels=12", "batch=24", "critic_steps=2",
        "steps=6", "eval_every=6", "save_every=3", "log_every=1", "eval_heads=1", "softmax_pairing=assignment",
        "feature_matching=class", "generator_lr=1e-3", "critic_lr=1e-3", "ema=0.9",
        *(f"lambdas.{name}={weight}" for name, weight in ALL_TERMS.items())]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run") / "made")


@pytest.fixture(scope="module")
def two_runs(folder):
    """The same distillation by `python -m s3prl_dd.distill` and by torchrun on two ranks: folders by number of ranks."""
    runs = {ranks: folder.parent / f"ranks{ranks}" for ranks in (1, 2)}
    for ranks, run in runs.items():
        shutil.copytree(folder, run)
        flags = ["--out", str(run), "--device", "cpu", "--experts", "3", "--overrides", *TINY]
        if ranks == 1:
            assert main(flags) == 0
            continue
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "s3prl_dd.distill"]
        done = subprocess.run([*command, *flags], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True,
                              capture_output=True, timeout=240)
        assert done.returncode == 0, done.stderr[-3000:]
        (run / "stdout").write_text(done.stdout)
    return runs


def test_two_ranks_give_the_parameters_of_one(two_runs):
    """Every term on. After 6 steps of lr 1e-3 all parameters agree to 2e-6, but the biases that batch norm cancels:
    their gradient is zero up to rounding, which Adam blows up to whole steps."""
    one, two = (torch.load(two_runs[ranks] / "gan/checkpoint.pt", weights_only=True) for ranks in (1, 2))
    assert one["step"] == two["step"] == 6
    config = Generator.load(two_runs[1] / "generator.safetensors").network.config
    body = build_generator(config).body
    cancelled = {f"body.{index}.linear.bias" for index, module in enumerate(body) if isinstance(module, TimeConv)}
    assert len(cancelled) == 4 and sum(isinstance(module, BatchNorm) for module in body) == 4
    compared = 0
    for part in ("generator", "critic", "average"):
        assert one[part].keys() == two[part].keys()
        for name, value in one[part].items():
            if part == "critic" or not (name in cancelled or "running" in name):
                torch.testing.assert_close(two[part][name], value, rtol=0, atol=2e-6, msg=lambda text: f"{part} {name}: {text}")
                compared += 1
    assert compared > 40
    moved = (one["generator"]["start.weight"] - one["average"]["start.weight"]).abs().max()
    assert moved > 4e-4  # so the tolerance says something
    noise, labels, samples = torch.randn(24, 6), torch.arange(24) % 3, []
    for state in (one, two):
        network = build_generator(config)
        network.load_state_dict(state["generator"])
        samples.append(network.train()(noise, labels))  # where those biases cancel
    torch.testing.assert_close(samples[1], samples[0], rtol=0, atol=1e-5)


def terms_at(run, step):
    lines = (run / "gan/log.log").read_text().splitlines()
    words = next(line for line in lines if line.startswith(f"step {step}: ")).split()[2:]
    return dict(zip(words[::2], map(float, words[1::2])))


def test_terms_of_sets_are_of_the_whole_batch(two_runs):
    """What compares samples with one another has the value of one rank on rank 0 too."""
    one, two = (terms_at(two_runs[ranks], 1) for ranks in (1, 2))
    assert one.keys() == two.keys()
    for name in ("softmax_matching", "diversity", "mmd", "feature_matching", "critic_norm", "generator_norm", "clamped"):
        assert two[name] == pytest.approx(one[name], rel=2e-3), name
    assert two["generator_score"] != pytest.approx(one["generator_score"], rel=1e-3)  # of rank 0's half


def test_only_rank_0_writes(two_runs):
    gan = two_runs[2] / "gan"
    lines = [line.split(":")[0] for line in (gan / "log.log").read_text().splitlines() if line.startswith("step")]
    assert lines == [f"step {number}" for number in range(1, 7)]
    assert len(list(gan.glob("events.out.tfevents.*"))) == 1
    files = [sorted(path.name for path in (two_runs[ranks] / "gan").iterdir() if "tfevents" not in path.name) for ranks in (1, 2)]
    assert files[0] == files[1]
    assert (two_runs[2] / "stdout").read_text().count("best UAR on dev") == 1
    assert json.loads((gan / "seconds.json").read_text())["ranks"] == 2
    assert json.loads((two_runs[2] / "run.json").read_text()) == json.loads((two_runs[1] / "run.json").read_text())


def test_a_finished_run_is_left_alone(two_runs, capsys):
    assert main(["--out", str(two_runs[1])]) == 0
    assert "generator is there" in capsys.readouterr().out


def test_early_stop_on_two_ranks(folder):
    """The dev UAR is rank 0's to know; all ranks stop at the same step, and a resumed run stays stopped."""
    run = folder.parent / "early"
    shutil.copytree(folder, run)
    flags = ["--out", str(run), "--device", "cpu", "--overrides", *TINY, "steps=400", "eval_every=2", "patience=1",
             "lambdas.mmd=0"]
    assert on_two_ranks(main, flags) == [0, 0]
    metrics = json.loads((run / "gan/metrics.json").read_text())
    last, best = metrics["history"][-1], metrics["best"]
    assert last["step"] == best["step"] + 2 and last["step"] < 400 and last["dev_uar"] <= best["dev_uar"]
    assert torch.load(run / "gan/checkpoint.pt", weights_only=True)["step"] == last["step"]


def tell(flags, file):
    with open(file, "a") as told, contextlib.redirect_stderr(told):
        return main(flags)


def test_errors_end_every_rank(folder):
    run = folder.parent / "wrong"
    shutil.copytree(folder, run)
    assert on_two_ranks(tell, ["--out", str(run), "--device", "cpu", "--overrides", "batch=8"], folder.parent / "told") == [2, 2]
    told = (folder.parent / "told").read_text()
    assert "s3prl-dd: error: rank 0: batch 8: too small for two samples of each of 3 classes on each of 2 rank" in told and "Traceback" not in told


def compare_batch_norm():
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(0)
    ours, theirs = BatchNorm(3).double(), torch.nn.BatchNorm2d(3).double()
    x, weight = torch.randn(6, 3, 2, 4).double() + 5, torch.randn(6, 3, 2, 4).double()
    whole = x.clone().requires_grad_()
    expected = theirs(whole)
    (expected.sin() * weight).sum().backward()
    here = slice(3 * rank, 3 * rank + 3)
    part = x[here].clone().requires_grad_()
    found = ours(part)
    (found.sin() * weight[here]).sum().backward()
    torch.testing.assert_close(found, expected[here])
    torch.testing.assert_close(part.grad, whole.grad[here])
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    average_gradients(ours, 2)
    torch.testing.assert_close(2 * ours.weight.grad, theirs.weight.grad)


def test_batch_norm_statistics_are_of_all_ranks():
    """Against torch's batch norm on the whole batch: outputs, gradients, running statistics."""
    assert on_two_ranks(compare_batch_norm) == [0, 0]


def gather_ranks():
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    mine = torch.full((2,), float(rank), requires_grad=True)
    together = gather(mine, 2)
    assert together.tolist() == [0, 0, 1, 1]
    (together * torch.arange(4.0)).sum().backward()
    assert mine.grad.tolist() == [2 * (2 * rank), 2 * (2 * rank + 1)]


def test_gather_is_in_rank_order_and_its_gradient_the_sum_over_ranks():
    assert on_two_ranks(gather_ranks) == [0, 0]


def test_flags_are_those_of_the_command(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    told = capsys.readouterr().out
    command = next(action for action in parser()._actions if action.dest == "verb").choices["distill"]
    assert all(flag in told for action in command._actions for flag in action.option_strings)

"""The distiller on two gloo processes: the same mathematics as on one, and only rank 0 writes."""

import contextlib
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from support.gauss import ALL_TERMS, on_two_ranks, tiny_data, tiny_pool, tiny_trainer, train_tiny

from s3prl_dd.distill import losses
from s3prl_dd.distill.distributed import (
    Ranks,
    average_gradients,
    end_group,
    gather,
    joined_ranks,
    mean_over_ranks,
    start_group,
    torchrun_ranks,
)
from s3prl_dd.errors import UserError
from s3prl_dd.generator import Generator, build_generator
from s3prl_dd.generator.networks import BatchNorm, TimeConv
from s3prl_dd.pool.heads import SUPERB_KEYS
from s3prl_dd.rng import keyed

CHANGES = {"steps": 6, "eval_every": 6, "eval_heads": 1, "feature_matching": "class", "ema": 0.9}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """The same distillation by one process and by two ranks: folders by number of ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    train_tiny(folder / "1", CHANGES)
    assert on_two_ranks(train_tiny, folder / "2", CHANGES) == [0, 0]
    return {ranks: folder / str(ranks) for ranks in (1, 2)}


def test_two_ranks_give_the_parameters_of_one(two_runs):
    """Every term on. After 6 steps of lr 1e-3 all parameters agree to 2e-6, but the biases that batch norm cancels:
    their gradient is zero up to rounding, which Adam blows up to whole steps."""
    one, two = (torch.load(two_runs[ranks] / "checkpoint.pt", weights_only=True) for ranks in (1, 2))
    assert one["step"] == two["step"] == 6
    network = Generator.load(two_runs[1] / "generator.safetensors").header.network
    body = build_generator(network).body
    cancelled = {f"body.{index}.linear.bias" for index, module in enumerate(body) if isinstance(module, TimeConv)}
    assert len(cancelled) == 4 and sum(isinstance(module, BatchNorm) for module in body) == 4
    compared = 0
    for part in ("generator", "critic", "average"):
        assert one[part].keys() == two[part].keys()
        for name, value in one[part].items():
            if part == "critic" or not (name in cancelled or "running" in name):
                torch.testing.assert_close(two[part][name], value, rtol=0, atol=2e-6)
                compared += 1
    assert compared > 40
    moved = (one["generator"]["start.weight"] - one["average"]["start.weight"]).abs().max()
    assert moved > 4e-4  # so the tolerance says something
    noise, labels, samples = torch.randn(24, 6), torch.arange(24) % 3, []
    for state in (one, two):
        made = build_generator(network)
        made.load_state_dict(state["generator"])
        samples.append(made.train()(noise, labels))  # where those biases cancel
    torch.testing.assert_close(samples[1], samples[0], rtol=0, atol=1e-5)


def terms_at(run: Path, step: int) -> dict[str, float]:
    lines = (run / "log.log").read_text().splitlines()
    words = next(line for line in lines if line.startswith(f"step {step}: ")).split()[2:]
    return dict(zip(words[::2], map(float, words[1::2]), strict=True))


def first_terms_by_hand(folder: Path) -> dict[str, float]:
    """What compares samples with one another at step 1, of the whole batch, from the paper's formulas: the generator
    is the initial one, noise and real utterances are of the batch of 24."""
    data = tiny_data()
    pool, trainer = tiny_pool(data), tiny_trainer(folder, data, **CHANGES)
    labels = torch.arange(24) % 3
    noise = torch.randn(24, 6, generator=keyed(0, "noise", 1))
    fake = trainer.generator.train()(noise, labels).detach()
    real = data.frames_of(*data.draw(labels, 0, "real", 1))
    raw, real_raw = ((x * data.std + data.mean).mean(dim=1) for x in (fake, real))
    partner = [(index + 3) % 24 for index in range(24)]
    ratios = [((fake[a] - fake[b]).square().sum(dim=1).mean().sqrt() / (noise[a] - noise[b]).norm()).item()
              for a, b in enumerate(partner)]
    state, softmaxes = pool.heads.state(), []
    for m in torch.randint(len(pool), (trainer.config.softmax_heads,), generator=keyed(0, "heads", 1)):
        head = [state[key][m] for key in SUPERB_KEYS]
        softmaxes.append([F.linear(F.linear(x, *head[:2]), *head[2:]).softmax(-1) for x in (real_raw, raw)])
    sides = (torch.cat([pair[side].log() for pair in softmaxes], dim=1) for side in (0, 1))
    order = losses.assign_within_class(*sides, labels)
    matching = [(p[order] * (p[order] / q).log()).sum(-1).mean().item() for p, q in softmaxes]
    center, spread = data.means.mean(dim=0), data.means.std(dim=0)
    mmd = [losses.maximum_mean_discrepancy((data.means[data.labels == label] - center) / spread,
                                           (raw[labels == label] - center) / spread).item() for label in range(3)]
    return {"diversity": -sum(ratios) / 24, "softmax_matching": sum(matching) / len(matching), "mmd": sum(mmd) / 3}


def test_terms_of_sets_are_of_the_whole_batch(two_runs, tmp_path):
    """On rank 0 of two as the paper's formulas give them for all samples; as of one process where critics count."""
    expected, two, one = first_terms_by_hand(tmp_path), terms_at(two_runs[2], 1), terms_at(two_runs[1], 1)
    assert {name: two[name] for name in expected} == pytest.approx(expected, rel=2e-3)
    for name in ("feature_matching", "critic_norm", "generator_norm"):
        assert two[name] == pytest.approx(one[name], rel=2e-3), name
    assert two["generator_score"] != pytest.approx(one["generator_score"], rel=1e-3)  # of rank 0's half
    assert set(one) == set(two) > set(ALL_TERMS)


def test_only_rank_0_writes(two_runs):
    lines = (two_runs[2] / "log.log").read_text().splitlines()
    steps = [line.split(":")[0] for line in lines if line.startswith("step")]
    assert steps == [f"step {number}" for number in range(1, 7)]
    assert len(list(two_runs[2].glob("events.out.tfevents.*"))) == 1
    files = [sorted(path.name for path in two_runs[ranks].iterdir() if "tfevents" not in path.name) for ranks in (1, 2)]
    assert files[0] == files[1]


def test_two_ranks_resume(two_runs, tmp_path):
    """Both read the checkpoint and go on from its step."""
    (tmp_path / "more").mkdir()
    for name in ("checkpoint.pt", "generator.safetensors"):
        (tmp_path / "more" / name).write_bytes((two_runs[2] / name).read_bytes())
    assert on_two_ranks(train_tiny, tmp_path / "more", {**CHANGES, "steps": 7}) == [0, 0]
    assert torch.load(tmp_path / "more/checkpoint.pt", weights_only=True)["step"] == 7
    assert "step 7: " in (tmp_path / "more/log.log").read_text()


def tell(folder: Path, told: Path) -> int:
    try:
        train_tiny(folder, {"batch": 8})
    except UserError as error:
        with open(told, "a") as file, contextlib.redirect_stderr(file):
            print(f"rank {dist.get_rank()}: {error}", file=file)
        return 2
    return 0


def test_errors_end_every_rank(tmp_path):
    assert on_two_ranks(tell, tmp_path, tmp_path / "told") == [2, 2]
    told = (tmp_path / "told").read_text()
    for rank in (0, 1):
        assert f"rank {rank}: batch 8: too small for two samples of each of 3 classes on each of 2 rank" in told


def compare_batch_norm() -> None:
    rank = dist.get_rank()
    torch.manual_seed(0)
    ours, theirs = BatchNorm(3).double(), torch.nn.BatchNorm2d(3).double()
    x, weight = torch.randn(6, 3, 2, 4).double() + 5, torch.randn(6, 3, 2, 4).double()
    whole = x.clone().requires_grad_()
    expected = theirs(whole)
    (expected.sin() * weight).sum().backward()
    here = slice(3 * rank, 3 * rank + 3)
    part = x[here].clone().requires_grad_()
    made = ours(part)
    (made.sin() * weight[here]).sum().backward()
    torch.testing.assert_close(made, expected[here])
    torch.testing.assert_close(part.grad, whole.grad[here])
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    average_gradients(ours, 2)
    torch.testing.assert_close(2 * ours.weight.grad, theirs.weight.grad)


def test_batch_norm_statistics_are_of_all_ranks():
    """Against torch's batch norm on the whole batch: outputs, gradients, running statistics."""
    assert on_two_ranks(compare_batch_norm) == [0, 0]


def gather_ranks() -> None:
    ranks = joined_ranks()
    assert ranks == torchrun_ranks() == Ranks(dist.get_rank(), 2)
    mine = torch.full((2,), float(ranks.rank), requires_grad=True)
    together = gather(mine, 2)
    assert together.tolist() == [0, 0, 1, 1]
    (together * torch.arange(4.0)).sum().backward()
    assert mine.grad.tolist() == [2 * (2 * ranks.rank), 2 * (2 * ranks.rank + 1)]
    assert mean_over_ranks(torch.tensor([1.0 + ranks.rank]), 2).tolist() == [1.5]


def test_gather_is_in_rank_order_and_its_gradient_the_sum_over_ranks():
    assert on_two_ranks(gather_ranks) == [0, 0]


def test_alone_there_is_no_group(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert start_group("cpu") == joined_ranks() == torchrun_ranks() == Ranks(0, 1)
    assert not dist.is_initialized()
    end_group()
    tensor = torch.arange(3.0)
    assert gather(tensor, 1) is tensor and mean_over_ranks(tensor, 1) is tensor
    assert torch.equal(Ranks().share(tensor), tensor)

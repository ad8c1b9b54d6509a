"""Frame-level heads against S3PRL's own modules."""

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load_file, save_file

from s3prl_dd.errors import UserError
from s3prl_dd.pool.frame_heads import STACKS, AttentiveHeads, CnnHeads, Kind
from s3prl_dd.pool.heads import Heads
from s3prl_dd.pool.kinds import HEADS
from s3prl_dd.pool.pool import Pool, Snapshots, train_frame_pool
from s3prl_dd.pool.training import Recipe, Utterances, score_frames, train_frame_heads


def s3prl_modules(kind: str, dim: int = 6, classes: int = 4, seed: int = 0) -> nn.ModuleDict:
    """Projector and model as S3PRL's emotion expert builds them."""
    from s3prl.downstream.emotion.model import DeepModel
    from s3prl.downstream.model import UtteranceLevel

    torch.manual_seed(seed)
    if kind == "cnn":
        model: nn.Module = DeepModel(256, classes, "CNNSelfAttention", 5, hidden_dim=80, kernel_size=5, padding=2,
                                     dropout=0.4)
    else:
        pooling = "AttentivePooling" if kind == "attentive" else "MeanPooling"
        model = UtteranceLevel(256, classes, pooling=pooling)
    return nn.ModuleDict({"projector": nn.Linear(dim, 256), "model": model})


def stack_of(modules: list[nn.ModuleDict], kind: str) -> Heads | AttentiveHeads | CnnHeads:
    states = [module.state_dict() for module in modules]
    return STACKS[kind]({key: torch.stack([state[key] for state in states]) for key in STACKS[kind].keys()})


def test_kinds_are_those_that_runs_train():
    assert set(STACKS) <= set(HEADS)


def test_a_kind_without_a_stack_is_refused(monkeypatch):
    monkeypatch.delitem(STACKS, "cnn")
    assert TypeAdapter(Kind).validate_python("attentive") == "attentive"
    with pytest.raises(ValidationError, match="the pool has no cnn heads; expected superb or attentive"):
        TypeAdapter(Kind).validate_python("cnn")


@pytest.mark.parametrize("kind", STACKS)
def test_heads_are_s3prl_heads(kind):
    """S3PRL's state dicts as they are, on utterances of different lengths, padded as its expert pads them."""
    modules = [s3prl_modules(kind, seed=seed).eval() for seed in range(3)]
    assert set(STACKS[kind].keys()) == set(modules[0].state_dict())
    heads, lengths = stack_of(modules, kind), torch.tensor([23, 11, 1, 17])
    frames = 3 * torch.randn(4, 23, 6) * (torch.arange(23) < lengths[:, None])[..., None]
    assert heads(frames, lengths).shape == (3, 4, 4)
    for index, module in enumerate(modules):
        expected, _ = module["model"](module["projector"](frames), lengths)
        torch.testing.assert_close(heads(frames, lengths)[index], expected, atol=2e-5, rtol=1e-4)
        full, _ = module["model"](module["projector"](frames), torch.full((4,), 23))
        torch.testing.assert_close(heads(frames)[index], full, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", STACKS)
def test_a_batch_for_each_head(kind):
    heads = STACKS[kind].create(range(3), 6, 4)
    frames, lengths = torch.randn(3, 2, 12, 6), torch.tensor([[12, 5], [12, 12], [3, 12]])
    frames = frames * (torch.arange(12) < lengths[..., None])[..., None]
    logits = heads(frames, lengths)
    for m in range(3):
        torch.testing.assert_close(logits[m], heads(frames[m], lengths[m])[m])


@pytest.mark.parametrize("kind", STACKS)
def test_gradients_are_s3prls(kind):
    module = s3prl_modules(kind).eval()
    heads, lengths = stack_of([module], kind), torch.tensor([9, 14])
    frames = torch.randn(2, 14, 6) * (torch.arange(14) < lengths[:, None])[..., None]
    heads(frames, lengths).square().sum().backward()
    module["model"](module["projector"](frames), lengths)[0].square().sum().backward()
    for key, value in module.named_parameters():
        torch.testing.assert_close(heads.get(key).grad[0], value.grad, atol=1e-4, rtol=1e-3)


def test_dropout_is_of_each_heads_own_noise():
    heads, frames = CnnHeads.create([0, 0], 6, 4), torch.randn(5, 20, 6)

    def drop(*seeds):
        return heads(frames, dropout=[torch.Generator().manual_seed(seed) for seed in seeds])

    same, other = drop(1, 1), drop(1, 2)
    torch.testing.assert_close(same[0], same[1])
    torch.testing.assert_close(other[0], same[0])
    assert not torch.allclose(other[1], same[1]) and not torch.allclose(heads(frames)[0], same[0])


def test_fresh_heads_have_torchs_bounds():
    heads = CnnHeads.create([3], 40, 4)
    for name, weight in CnnHeads.layers(40, 4).items():
        bound = 1 / math.sqrt(math.prod(weight[1:]))
        for tensor in heads.layer(name):
            assert 0.8 * bound < tensor.abs().max() <= bound or tensor.numel() < 10


# training


def moving(number: int, seed: int = 0) -> tuple[Utterances, torch.Tensor]:
    """Utterances of three classes that differ in the frames between noise, of 6 to 20 frames."""
    source = torch.Generator().manual_seed(seed)
    labels = torch.arange(number) % 3
    lengths = torch.randint(6, 21, (number,), generator=source).tolist()
    return Utterances.of(torch.randn(length, 5, generator=source) + 2 * F.one_hot(label, 5)
                         for length, label in zip(lengths, labels, strict=True)), labels


@pytest.mark.parametrize("kind", ["attentive", "cnn"])
def test_frame_heads_learn_and_train_as_alone(kind):
    (train, labels), (dev, truth) = moving(60), moving(30, seed=1)
    together = train_frame_heads(kind, train, labels, [4, 7], Recipe(60, batch=12), classes=3)[-1].heads
    assert min(score_frames(together, dev, truth)) > 0.8
    few = [train_frame_heads(kind, train, labels, seeds, Recipe(2, batch=60), classes=3)[-1].heads
           for seeds in ([4, 7], [7])]  # the whole set a batch: padded to the same length
    for key in STACKS[kind].keys():
        torch.testing.assert_close(few[0].get(key)[1], few[1].get(key)[0], atol=1e-4, rtol=1e-3)


def test_soft_labels_of_one_hot_are_hard_labels():
    train, labels = moving(30)
    heads = [train_frame_heads("attentive", train, targets, [0], Recipe(3), classes=3)[0].heads
             for targets in (labels, F.one_hot(labels, 3).float())]
    assert torch.equal(heads[0].get("projector.weight"), heads[1].get("projector.weight"))


# the pool's file


@pytest.fixture
def file(tmp_path) -> Path:
    """A pool file of two SUPERB heads and three CNNs."""
    path = tmp_path / "pool.safetensors"
    others = {"cnn": Snapshots(CnnHeads.create(range(3), 5, 3), [1, 2, 3], [0, 0, 0], [0.5, 0.25, 0.75])}
    Pool(Heads.create(range(2), 5, 3), [1, 2], [0, 0], [0.25, 0.5], others).save(path)
    return path


def test_a_pool_of_two_kinds(file):
    pool, frames = Pool.load(file), torch.randn(2, 9, 5)
    assert pool.kinds == ["superb", "cnn"] and len(pool) == 2 and len(pool.of_kind("cnn")) == 3
    assert torch.equal(pool.of_kind("cnn").heads(frames), CnnHeads.create(range(3), 5, 3)(frames))
    assert torch.equal(pool.heads(frames), Heads.create(range(2), 5, 3)(frames))
    assert pool.of_kind("cnn").dev_uar == [0.5, 0.25, 0.75] and len(pool.of_kind("cnn").best()) == 1


@pytest.mark.parametrize("change, told", [
    (lambda about, tensors: about["others"].update(fcn=about["others"]["cnn"]), "a pool of fcn heads"),
    (lambda about, tensors: about["others"]["cnn"].update(steps=[1]), "a score for each of 3 heads"),
    (lambda about, tensors: tensors.pop("cnn/model.model.pooling.W.bias"), "expected the tensors projector.weight"),
    (lambda about, tensors: tensors.update({"cnn/projector.bias": torch.zeros(3, 4)}), "do not fit together: proj"),
    (lambda about, tensors: about.update(others=[1]), "not a pool of heads"),
])
def test_damage_of_other_kinds_is_told(file, change, told):
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        about = json.loads(opened.metadata()["s3prl_dd_pool"])
    tensors = load_file(file)
    change(about, tensors)
    save_file(tensors, file, metadata={"s3prl_dd_pool": json.dumps(about)})
    with pytest.raises(UserError, match=f"pool.safetensors: .*{told}"):
        Pool.load(file)


def test_pool_of_s3prls_runs_of_all_kinds():
    modules = {kind: s3prl_modules(kind, dim=5, classes=3) for kind in STACKS}
    heads = {kind: {**module.state_dict(), "best_score": torch.zeros(1)} for kind, module in modules.items()}
    states = [(Path(f"{kind}/states-7.ckpt"), {"Downstream": head, "Step": 7}) for kind, head in heads.items()]
    dev, truth = moving(9)
    means = dev.frames.sum(dim=1) / dev.lengths[:, None]
    pool = Pool.from_s3prl(states, (means, truth), lambda: dev)
    assert set(pool.kinds) == set(STACKS) and pool.of_kind("cnn").seeds == ["cnn"] and pool.steps == [7]
    for kind in ("attentive", "cnn"):
        assert pool.of_kind(kind).dev_uar == score_frames(stack_of([modules[kind]], kind), dev, truth)
    with pytest.raises(UserError, match="attentive/states-7.ckpt: no head of SUPERB among these runs"):
        Pool.from_s3prl(states[1:], (means, truth), lambda: dev)


def test_pool_of_frame_heads():
    pool = train_frame_pool("cnn", moving(30), moving(12, seed=1), seeds=2, steps=8, snapshots=2, classes=3,
                            progress=False)
    assert (pool.steps, pool.seeds) == ([2, 2, 8, 8], [0, 1, 0, 1])
    assert pool.dev_uar == score_frames(pool.heads, *moving(12, seed=1))

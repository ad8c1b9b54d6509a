"""Heads against S3PRL's own modules, stacks against single heads, and the pool."""

import argparse
import math

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from s3prl_dd.errors import UserError
from s3prl_dd.pool.heads import ATTENTION_KEYS, SUPERB_KEYS, Heads, pool_mean
from s3prl_dd.pool.pool import Pool, clip_each, score_heads, train_heads, train_pool
from s3prl_dd.recipe.stages import states_of


def s3prl_head(kind, dim=6, classes=4, seed=0):
    """projector and model as S3PRL's emotion expert builds them, of S3PRL's own classes."""
    from s3prl.downstream.model import UtteranceLevel

    torch.manual_seed(seed)
    pooling = {"superb": "MeanPooling", "attentive": "AttentivePooling"}[kind]
    return nn.ModuleDict({"projector": nn.Linear(dim, 256),
                          "model": UtteranceLevel(input_dim=256, output_dim=classes, pooling=pooling)})


@pytest.mark.parametrize("kind", ["superb", "attentive"])
def test_heads_are_s3prl_heads(kind):
    """S3PRL's state dicts as they are, on frames of different lengths."""
    modules = [s3prl_head(kind, seed=seed) for seed in range(3)]
    keys = SUPERB_KEYS + (ATTENTION_KEYS if kind == "attentive" else ())
    assert set(keys) == set(modules[0].state_dict())
    heads = Heads({key: torch.stack([module.state_dict()[key] for module in modules]) for key in keys}, kind)
    lengths = torch.tensor([7, 4, 1, 6])
    mask = torch.arange(7) < lengths[:, None]
    frames = torch.randn(4, 7, 6) * mask[..., None]
    for index, module in enumerate(modules):
        expected, _ = module["model"](module["projector"](frames), lengths)
        torch.testing.assert_close(heads(frames, mask)[index], expected)
        full, _ = module["model"](module["projector"](frames), torch.full((4,), 7))
        # S3PRL adds a mask of ones to all energies where no frame is padded, which softmax does not see
        torch.testing.assert_close(heads(frames)[index], full)


def test_superb_heads_are_linear_in_the_utterance_mean():
    heads, frames = Heads.create(range(3), 5, 4), torch.randn(6, 9, 5)
    weight, bias = heads.linear()
    torch.testing.assert_close(heads(frames), torch.stack([frames.mean(dim=1) @ weight[m].T + bias[m] for m in range(3)]))
    with pytest.raises(UserError, match="not linear"):
        Heads.create([0], 5, 4, "attentive").linear()


def test_fresh_heads_have_torch_bounds_and_their_own_seeds():
    heads = Heads.create([3, 7, 3], 400, 4)
    assert torch.equal(heads.get("projector.weight")[0], heads.get("projector.weight")[2])
    assert not torch.equal(heads.get("projector.weight")[0], heads.get("projector.weight")[1])
    weight = heads.get("projector.weight")[0].detach()
    assert weight.abs().max() <= 1 / 20 and weight.std().item() == pytest.approx(1 / 20 / math.sqrt(3), rel=0.02)
    state = torch.get_rng_state()
    Heads.create([0], 5, 4)
    assert torch.equal(state, torch.get_rng_state())
    with pytest.raises(UserError, match="superb, attentive"):
        Heads.create([0], 5, 4, "deep")


def test_pick_and_state_are_copies():
    heads = Heads.create(range(4), 5, 3)
    picked = heads.pick(torch.tensor([2, 0, 2]))
    assert len(picked) == 3 and len(heads) == 4
    assert torch.equal(picked(torch.ones(1, 1, 5)), heads(torch.ones(1, 1, 5))[[2, 0, 2]])
    heads.state()["projector.bias"].zero_()
    assert heads.get("projector.bias").abs().sum() > 0


def test_pool_mean():
    frames = torch.randn(2, 4, 3)
    torch.testing.assert_close(pool_mean(frames)[1], frames[1].mean(dim=0))
    mask = torch.tensor([[True, True, False, False], [True] * 4])
    torch.testing.assert_close(pool_mean(frames, mask)[0], frames[0, :2].mean(dim=0))


# training


def classes_of(number, dim=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(number) % 3
    return torch.randn(number, dim, generator=generator) + 1.5 * F.one_hot(labels, dim), labels


def test_stack_trains_like_each_head_alone():
    means, labels = classes_of(40)
    together = train_heads(means, labels, [4, 5, 9], steps=25, batch=8, snapshots=(10,), classes=3)
    assert [step for step, _ in together] == [10, 25]
    for index, seed in enumerate((4, 5, 9)):
        alone = train_heads(means, labels, [seed], steps=25, batch=8, snapshots=(10,), classes=3)
        for (_, stack), (_, head) in zip(together, alone):
            for key in SUPERB_KEYS:
                torch.testing.assert_close(stack.state()[key][index], head.state()[key][0], atol=1e-6, rtol=1e-5)


def test_training_is_s3prl_recipe_on_one_head():
    """Adam, cross-entropy, gradient norm clipped to 1, epochs without replacement: a plain loop over one nn.Module."""
    from s3prl_dd.rng import keyed

    means, labels = classes_of(20)
    means = means * 30  # gradients beyond the clip
    start = Heads.create([4], 5, 3).state()
    modules = nn.Sequential(nn.Linear(5, 256), nn.Linear(256, 3))
    modules.load_state_dict(dict(zip(("0.weight", "0.bias", "1.weight", "1.bias"), (start[key][0] for key in SUPERB_KEYS))))
    optimizer, generator, clipped = torch.optim.Adam(modules.parameters(), lr=1e-3), keyed(4, "order"), 0
    order = torch.cat([torch.randperm(20, generator=generator) for _ in range(4)])
    for batch in order.split(8):
        optimizer.zero_grad()
        F.cross_entropy(modules(means[batch]), labels[batch]).backward()
        clipped += nn.utils.clip_grad_norm_(modules.parameters(), 1.0) > 1
        optimizer.step()
    assert clipped > 2
    (_, heads), = train_heads(means, labels, [4], steps=10, batch=8, lr=1e-3, classes=3)
    for key, value in zip(SUPERB_KEYS, modules.state_dict().values()):
        torch.testing.assert_close(heads.state()[key][0], value, atol=2e-6, rtol=1e-4)


def test_soft_labels_are_learnt():
    means, labels = classes_of(30)
    soft = torch.tensor([0.2, 0.5, 0.3]).expand(30, 3)
    (_, heads), = train_heads(means, labels, [0], steps=400, lr=3e-3, soft_labels=soft, classes=3)
    torch.testing.assert_close(heads.of_means(means)[0].softmax(-1).mean(dim=0), soft[0], atol=0.02, rtol=0)


def test_clip_each_head_by_itself():
    heads = Heads.create(range(3), 4, 2)
    for parameter in heads.parameters():
        parameter.grad = torch.randn_like(parameter)
        parameter.grad[1] *= 1e-4
    before = [parameter.grad.clone() for parameter in heads.parameters()]
    clip_each(heads, 1.0)
    norms = sum(parameter.grad.flatten(1).square().sum(dim=1) for parameter in heads.parameters()).sqrt()
    assert norms[0].item() == pytest.approx(1) and norms[2].item() == pytest.approx(1) and norms[1] < 0.1
    assert all(torch.equal(parameter.grad[1], old[1]) for parameter, old in zip(heads.parameters(), before))


def test_score_is_uar_by_head():
    heads = Heads.create(range(2), 3, 3)
    with torch.no_grad():
        for key in ("projector.weight", "projector.bias", "model.post_net.linear.weight", "model.post_net.linear.bias"):
            heads.get(key).zero_()
        heads.get("projector.weight")[1, :3] = torch.eye(3)
        heads.get("model.post_net.linear.weight")[1, :, :3] = torch.eye(3)
    means, labels = torch.eye(3)[[0, 0, 0, 1, 2]], torch.tensor([0, 0, 0, 1, 2])
    assert score_heads(heads, means, labels) == [pytest.approx(1 / 3), 1.0]


# pool


def test_pool_of_snapshots():
    train, dev = classes_of(60), classes_of(30, seed=1)
    pool = train_pool(train, dev, seeds=3, steps=64, snapshots=4, classes=3, progress=False)
    assert pool.steps == [step for step in (4, 16, 36, 64) for _ in range(3)] and pool.seeds == [0, 1, 2] * 4
    assert len(pool) == len(pool.heads) == 12
    (_, fourth), *_ = train_heads(*train, range(3), steps=64, snapshots=(4, 16, 36), classes=3)
    torch.testing.assert_close(pool.heads.pick(torch.tensor([1])).state()["projector.weight"], fourth.state()["projector.weight"][1:2])
    assert pool.dev_uar[7] == score_heads(pool.heads, *dev)[7]
    assert sum(pool.dev_uar[-3:]) > sum(pool.dev_uar[:3]) - 0.1


def test_teacher_is_the_best_of_each_seed():
    heads = Heads.create(range(5), 4, 2)
    pool = Pool(heads, [1, 1, 2, 2, 3], [0, 1, 0, 1, 0], [0.5, 0.9, 0.7, 0.6, 0.7])
    assert torch.equal(pool.teacher().get("projector.bias"), heads.get("projector.bias")[[4, 1]])


def test_draw_is_of_the_generator():
    pool = Pool(Heads.create(range(50), 4, 2), range(50), range(50), [0.0] * 50)
    draw = lambda seed: pool.draw(6, torch.Generator().manual_seed(seed)).get("projector.bias")
    assert draw(0).shape[0] == 6 and torch.equal(draw(0), draw(0)) and not torch.equal(draw(0), draw(1))


@pytest.mark.parametrize("kind", ["superb", "attentive"])
def test_pool_file(tmp_path, kind):
    pool = Pool(Heads.create(range(3), 4, 2, kind), [1, 2, 3], [0, 0, 1], [0.25, 0.5, 0.75])
    pool.save(tmp_path / "pool.safetensors")
    loaded = Pool.load(tmp_path / "pool.safetensors")
    frames = torch.randn(2, 5, 4)
    assert torch.equal(loaded.heads(frames), pool.heads(frames)) and loaded.heads.kind == kind
    assert (loaded.steps, loaded.seeds, loaded.dev_uar) == (pool.steps, pool.seeds, pool.dev_uar)


def test_files_that_are_no_pool(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(UserError, match="no such pool"):
        Pool.load(tmp_path / "none")
    save_file({"a": torch.zeros(1)}, tmp_path / "other")
    (tmp_path / "text").write_text("text")
    for name in ("other", "text"):
        with pytest.raises(UserError, match=f"{name}: not a pool"):
            Pool.load(tmp_path / name)


def write_checkpoint(path, head, step, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"Downstream": {**head.state_dict(), "best_score": torch.zeros(1)}, "Optimizer": {"state": {}}, "Step": step, "Epoch": 1,
                "Args": argparse.Namespace(upstream="hubert"), "Config": {"runner": {}}, **more}, path)
    return path


def test_pool_from_s3prl_runs(tmp_path):
    heads = [s3prl_head("superb", seed=seed) for seed in range(3)]
    for seed, steps in enumerate([(1000, 200), (200,)]):
        for step in steps:
            write_checkpoint(tmp_path / f"run{seed}" / f"states-{step}.ckpt", heads[seed + (step == 1000)], step)
    checkpoints = states_of([tmp_path / "run0", tmp_path / "run1"])
    assert [path.name for path, _ in checkpoints] == ["states-200.ckpt", "states-1000.ckpt", "states-200.ckpt"]
    dev = torch.randn(8, 6), torch.tensor([0, 1, 2, 3] * 2)
    pool = Pool.from_s3prl(checkpoints, dev)
    frames = torch.randn(2, 5, 6)
    for index, head in enumerate((heads[0], heads[1], heads[1])):
        torch.testing.assert_close(pool.heads(frames)[index], head["model"](head["projector"](frames), torch.tensor([5, 5]))[0])
    assert pool.steps == [200, 1000, 200] and len(pool.teacher()) == 2 and pool.dev_uar == score_heads(pool.heads, *dev)


def test_other_checkpoints_are_refused(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    dev = torch.randn(8, 5), torch.tensor([0, 1, 2, 3] * 2)
    with pytest.raises(UserError, match="no states-.*ckpt in it"):
        states_of([tmp_path])
    other = write_checkpoint(tmp_path / "other/states-1.ckpt", nn.Linear(2, 2), 1)
    with pytest.raises(UserError, match="states-1.ckpt: not a checkpoint of S3PRL's emotion head"):
        Pool.from_s3prl(states_of([other.parent]), dev)
    fits = write_checkpoint(tmp_path / "fits/states-1.ckpt", s3prl_head("superb"), 1)
    with pytest.raises(UserError, match="takes 6 dimensions, these features have 5"):
        Pool.from_s3prl(states_of([fits.parent]), dev)
    for name, content in (("cut", other.read_bytes()[:200]), ("bomb", None)):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "states-1.ckpt"
        torch.save({"Downstream": Bomb(), "Step": 1}, path) if content is None else path.write_bytes(content)
        with pytest.raises(UserError, match="states-1.ckpt: not a checkpoint of S3PRL, or cut off"):
            states_of([path.parent])
    assert not (tmp_path / "exploded").exists()


def test_pool_from_s3prl_in_the_recipe(tmp_path):
    from support.gauss import write_run

    from s3prl_dd.recipe.stages import Run, Settings, experts

    out = write_run(tmp_path / "run")
    dim, classes = (Pool.load(out / "pool.safetensors").heads.get(key).shape[-1] for key in ("projector.weight", "model.post_net.linear.bias"))
    (out / "pool.safetensors").unlink()
    head = nn.ModuleDict({"projector": nn.Linear(dim, 256), "model": nn.ModuleDict({"post_net": nn.ModuleDict({"linear": nn.Linear(256, classes)})})})
    write_checkpoint(tmp_path / "exp/states-7.ckpt", head, 7)
    experts(Run(out, Settings.of(out, {"pool_from": [str(tmp_path / "exp")]})))
    assert Pool.load(out / "pool.safetensors").steps == [7]


def test_utterance_means_that_say_nothing_are_told(tmp_path, capsys, monkeypatch):
    """As after cepstral mean normalisation of each utterance."""
    from support.gauss import write_run

    from s3prl_dd.features.store import FeatureStore
    from s3prl_dd.recipe.stages import Run, Settings, experts

    out = write_run(tmp_path / "run")
    run = Run(out, Settings.of(out, {"experts": 1}))
    (out / "pool.safetensors").unlink()
    experts(run)
    assert "warning" not in capsys.readouterr().out
    (out / "pool.safetensors").unlink()
    means = FeatureStore.means
    monkeypatch.setattr(FeatureStore, "means", lambda self, indices: means(self, indices) * 1e-6)
    experts(run)
    assert "utterance means of" in capsys.readouterr().out

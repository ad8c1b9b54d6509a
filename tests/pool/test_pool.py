"""Training of heads against plain loops, the pool's snapshots, its file, and pools of S3PRL's own runs."""

import argparse
import json
import logging
from pathlib import Path

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from support.gauss import write_run
from support.recipe import start

from s3prl_dd.errors import UserError
from s3prl_dd.features.store import FeatureStore
from s3prl_dd.pool.heads import SUPERB_KEYS, Heads
from s3prl_dd.pool.pool import Pool, deal_speakers, score_heads, train_crossed, train_heads, train_pool
from s3prl_dd.pool.training import clip_each
from s3prl_dd.recipe import stages
from s3prl_dd.recipe.stages import states_of
from s3prl_dd.rng import keyed


def classes_of(number: int, dim: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of three classes in their own directions."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(number) % 3
    return torch.randn(number, dim, generator=generator) + 1.5 * F.one_hot(labels, dim), labels


# training


def test_stack_trains_like_each_head_alone():
    means, labels = classes_of(40)
    together = train_heads(means * 30, labels, [4, 5, 9], steps=25, batch=8, snapshots=(10,), classes=3)
    assert [snapshot.step for snapshot in together] == [10, 25]
    for index, seed in enumerate((4, 5, 9)):
        alone = train_heads(means * 30, labels, [seed], steps=25, batch=8, snapshots=(10,), classes=3)
        for stack, head in zip(together, alone, strict=True):
            for key in SUPERB_KEYS:
                ours, theirs = stack.heads.state()[key][index], head.heads.state()[key][0]
                torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_training_is_s3prl_recipe_on_one_head():
    """Adam, cross-entropy, gradient norm clipped to 1, epochs without replacement: a plain loop over one nn.Module."""
    means, labels = classes_of(20)
    means = means * 30  # gradients beyond the clip
    start_of = Heads.create([4], 5, 3).state()
    modules = nn.Sequential(nn.Linear(5, 256), nn.Linear(256, 3))
    names = ("0.weight", "0.bias", "1.weight", "1.bias")
    modules.load_state_dict({name: start_of[key][0] for name, key in zip(names, SUPERB_KEYS, strict=True)})
    optimizer, generator, clipped = torch.optim.Adam(modules.parameters(), lr=1e-3), keyed(4, "order"), 0
    order = torch.cat([torch.randperm(20, generator=generator) for _ in range(4)])
    for batch in order.split(8):
        optimizer.zero_grad()
        F.cross_entropy(modules(means[batch]), labels[batch]).backward()
        clipped += nn.utils.clip_grad_norm_(modules.parameters(), 1.0) > 1
        optimizer.step()
    assert clipped > 2
    trained, = train_heads(means, labels, [4], steps=10, batch=8, lr=1e-3, classes=3)
    for key, value in zip(SUPERB_KEYS, modules.state_dict().values(), strict=True):
        torch.testing.assert_close(trained.heads.state()[key][0], value, atol=2e-6, rtol=1e-4)


def test_clip_each_head_by_itself():
    heads = Heads.create(range(3), 4, 2)
    for parameter in heads.parameters():
        parameter.grad = torch.randn_like(parameter)
        parameter.grad[1] *= 1e-4
    before = [parameter.grad.clone() for parameter in heads.parameters()]
    clip_each(heads, 1.0)
    norms = sum(parameter.grad.flatten(1).square().sum(dim=1) for parameter in heads.parameters()).sqrt()
    assert norms[0].item() == pytest.approx(1) and norms[2].item() == pytest.approx(1) and norms[1] < 0.1
    after = [parameter.grad for parameter in heads.parameters()]
    assert all(torch.equal(new[1], old[1]) for new, old in zip(after, before, strict=True))


def test_score_is_uar_by_head():
    heads = Heads({key: torch.zeros_like(value) for key, value in Heads.create(range(2), 3, 3).state().items()})
    with torch.no_grad():
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
    fourth, *_ = train_heads(*train, range(3), steps=64, snapshots=(4, 16, 36), classes=3)
    weight = pool.heads.pick(torch.tensor([1])).state()[SUPERB_KEYS[0]]
    torch.testing.assert_close(weight, fourth.heads.state()[SUPERB_KEYS[0]][1:2])


def test_each_snapshot_has_its_own_score_on_dev():
    train, dev = classes_of(60), classes_of(30, seed=1)
    dev = dev[0] + torch.randn(30, 5, generator=torch.Generator().manual_seed(3)), dev[1]
    pool = train_pool(train, dev, seeds=3, steps=64, snapshots=4, classes=3, progress=False)
    expected = score_heads(pool.heads, *dev)
    assert len(set(expected)) > 3 and expected != expected[::-1] and expected != score_heads(pool.heads, *train)
    assert pool.dev_uar == expected


def test_teacher_is_the_best_of_each_seed_the_latest_of_equals():
    heads = Heads.create(range(5), 4, 2)
    pool = Pool(heads, [1, 1, 2, 2, 3], [0, 1, 0, 1, 0], [0.5, 0.9, 0.7, 0.6, 0.7])
    assert torch.equal(pool.teacher().get("projector.bias"), heads.get("projector.bias")[[4, 1]])


def test_draw_is_of_the_generator():
    pool = Pool(Heads.create(range(50), 4, 2), range(50), range(50), [0.0] * 50)

    def draw(seed):
        return pool.draw(6, torch.Generator().manual_seed(seed)).get("projector.bias")

    assert draw(0).shape[0] == 6 and torch.equal(draw(0), draw(0)) and not torch.equal(draw(0), draw(1))
    drawn = torch.cat([draw(seed)[:, 0] for seed in range(100)])
    assert len(drawn.unique()) == 50  # every snapshot is drawn at some time


# the file


@pytest.fixture
def file(tmp_path) -> Path:
    """A pool file of three heads."""
    path = tmp_path / "pool.safetensors"
    Pool(Heads.create(range(3), 4, 2), [1, 2, 3], [0, 0, 1], [0.25, 0.5, 0.75]).save(path)
    return path


def test_pool_file(file):
    loaded, frames = Pool.load(file), torch.randn(2, 5, 4)
    assert torch.equal(loaded.heads(frames), Heads.create(range(3), 4, 2)(frames))
    assert (loaded.steps, loaded.seeds, loaded.dev_uar) == ([1, 2, 3], [0, 0, 1], [0.25, 0.5, 0.75])


ABOUT = {"kind": "superb", "steps": [1, 2, 3], "seeds": [0, 0, 1], "dev_uar": [0.25, 0.5, 0.75]}


def spoil(path: Path, about: object = ABOUT, **tensors: torch.Tensor | None) -> None:
    """Write the pool anew with another description, and other tensors ('/' stands for '.'; None removes one)."""
    stack = {**load_file(path), **{key.replace("/", "."): value for key, value in tensors.items()}}
    text = about if isinstance(about, str) else json.dumps(about)
    save_file({key: value for key, value in stack.items() if value is not None}, path, metadata={"s3prl_dd_pool": text})


@pytest.mark.parametrize("about, tensors, told", [
    ("{", {}, "not a pool of heads"),
    ([1, 2], {}, "not a pool of heads"),
    ({"kind": "superb"}, {}, "not a pool of heads"),
    ({**ABOUT, "kind": "attentive"}, {}, "a pool of attentive heads"),
    ({**ABOUT, "steps": [1, 2]}, {}, "a step, a seed and a score for each of 3 heads"),
    ({**ABOUT, "seeds": 3}, {}, "a step, a seed and a score for each of 3 heads"),
    (ABOUT, {"projector/bias": None}, "expected the tensors projector.weight"),
    (ABOUT, {"more": torch.zeros(1)}, "expected the tensors projector.weight"),
    (ABOUT, {"projector/bias": torch.full((3, 256), torch.nan)}, "not finite"),
    (ABOUT, {"projector/weight": torch.zeros(3, 256)}, "expected weights"),
    (ABOUT, {"projector/bias": torch.zeros(2, 256)}, "do not fit together"),
])
def test_a_damaged_pool_is_told_in_one_line(file, about, tensors, told):
    spoil(file, about, **tensors)
    with pytest.raises(UserError, match=f"pool.safetensors: .*{told}.*s3prl-dd pool") as refused:
        Pool.load(file)
    assert "\n" not in str(refused.value)


def test_files_that_are_no_pool(tmp_path, file):
    with pytest.raises(UserError, match="no such pool. `s3prl-dd pool` writes one"):
        Pool.load(tmp_path / "none")
    save_file({"a": torch.zeros(1)}, tmp_path / "other")
    (tmp_path / "text").write_text("text")
    (tmp_path / "cut").write_bytes(file.read_bytes()[:500])
    for name in ("other", "text", "cut"):
        with pytest.raises(UserError, match=f"{name}: not a pool"):
            Pool.load(tmp_path / name)


# pools of S3PRL's own runs


def write_checkpoint(path: Path, head: nn.Module, step: int, **more: object) -> Path:
    """As S3PRL's Runner writes states-<step>.ckpt."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"Downstream": {**head.state_dict(), "best_score": torch.zeros(1)}, "Optimizer": {"state": {}},
               "Step": step, "Epoch": 1, "Args": argparse.Namespace(upstream="hubert"), "Config": {"runner": {}}}
    torch.save({**content, **more}, path)
    return path


def test_pool_from_s3prl_runs(tmp_path, s3prl_head):
    heads = [s3prl_head(seed=seed) for seed in range(3)]
    for seed, steps in enumerate([(1000, 200), (200,)]):
        for step in steps:
            write_checkpoint(tmp_path / f"run{seed}" / f"states-{step}.ckpt", heads[seed + (step == 1000)], step)
    checkpoints = states_of((str(tmp_path / "run0"), str(tmp_path / "run1")))
    assert [path.name for path, _ in checkpoints] == ["states-200.ckpt", "states-1000.ckpt", "states-200.ckpt"]
    dev = torch.randn(8, 6), torch.tensor([0, 1, 2, 3] * 2)
    pool = Pool.from_s3prl(checkpoints, dev)
    frames, lengths = torch.randn(2, 5, 6), torch.tensor([5, 5])
    for index, head in enumerate((heads[0], heads[1], heads[1])):
        torch.testing.assert_close(pool.heads(frames)[index], head["model"](head["projector"](frames), lengths)[0])
    assert pool.steps == [200, 1000, 200] and len(pool.teacher()) == 2
    assert pool.dev_uar == score_heads(pool.heads, *dev)


class Bomb:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_other_checkpoints_are_refused(tmp_path, s3prl_head):
    dev = torch.randn(8, 5), torch.tensor([0, 1, 2, 3] * 2)
    other = write_checkpoint(tmp_path / "other/states-1.ckpt", nn.Linear(2, 2), 1)
    with pytest.raises(UserError, match="states-1.ckpt: not a checkpoint of S3PRL's emotion head"):
        Pool.from_s3prl(states_of((str(other.parent),)), dev)
    fits = write_checkpoint(tmp_path / "fits/states-1.ckpt", s3prl_head(), 1)
    with pytest.raises(UserError, match="takes 6 dimensions, these features have 5"):
        Pool.from_s3prl(states_of((str(fits.parent),)), dev)
    for name, content in (("cut", other.read_bytes()[:200]), ("bomb", None)):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "states-1.ckpt"
        if content is None:
            torch.save({"Downstream": Bomb(tmp_path / "exploded"), "Step": 1}, path)
        else:
            path.write_bytes(content)
        with pytest.raises(UserError, match="states-1.ckpt: not a checkpoint of S3PRL, or cut off"):
            states_of((str(path.parent),))
    assert not (tmp_path / "exploded").exists()


# cross-fitted


def test_each_head_of_a_cross_fitted_teacher_has_not_heard_a_part_of_the_speakers():
    means, labels = classes_of(60)
    speakers, dev = torch.arange(60) // 3 % 5, classes_of(30, seed=1)
    part = deal_speakers(speakers, 2)
    assert sorted(torch.bincount(part).tolist()) == [2, 3]
    other = means.clone()
    other[part[speakers] == 1] += 1  # speakers of the second part, whom the second fold's heads do not hear
    one, two = (train_crossed((values, labels), dev, speakers, 2, 3, 30, classes=3).linear().weight
                for values in (means, other))
    assert len(one) == 4  # three heads, dealt to two folds
    same = [torch.equal(*pair) for pair in zip(one, two, strict=True)]
    assert same == [False, False, True, True]


def test_too_few_speakers_for_the_parts_are_refused():
    points = classes_of(12)
    with pytest.raises(UserError, match="teacher_folds: 3 parts of 2 speakers"):
        train_crossed(points, points, torch.arange(12) // 6, 3, classes=3)
    with pytest.raises(UserError, match="leaves a class without an utterance"):
        train_crossed(points, points, torch.arange(12) % 3, 3, 3, 5, classes=3)


# in the recipe


def test_pool_of_foreign_heads_in_the_recipe(tmp_path, s3prl_head):
    out = write_run(tmp_path / "run")
    classes, dim = Pool.load(out / "pool.safetensors").heads.linear().weight.shape[1:]
    (out / "pool.safetensors").unlink()
    write_checkpoint(tmp_path / "exp/states-7.ckpt", s3prl_head(dim, classes), 7)
    stages.pool(start(out, pool_from=(str(tmp_path / "exp"),)))
    assert Pool.load(out / "pool.safetensors").steps == [7]


def test_utterance_means_that_say_nothing_are_told(tmp_path, caplog, monkeypatch):
    """As after cepstral mean normalisation of each utterance."""
    out = write_run(tmp_path / "run")
    run = start(out, pool_seeds=1)
    monkeypatch.setattr(stages, "train_pool", lambda *_, **__: Pool.load(tmp_path / "kept"))
    run.pool.rename(tmp_path / "kept")
    with caplog.at_level(logging.WARNING):
        stages.pool(run)
        assert "hardly differ" not in caplog.text
        run.pool.unlink()
        means = FeatureStore.means
        monkeypatch.setattr(FeatureStore, "means", lambda self, indices: means(self, indices) * 1e-6)
        stages.pool(run)
        assert "utterance means of made hardly differ" in caplog.text

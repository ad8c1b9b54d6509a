"""A killed run ends as if it had not been killed; a checkpoint of another run is refused."""

import dataclasses
import gzip
import json
import random
import resource
import signal
import time
from pathlib import Path

import pytest
import torch
from support.gauss import (
    PARTS,
    exact_data,
    exact_pool,
    forked,
    tiny_config,
    tiny_data,
    tiny_pool,
    tiny_trainer,
    train_tiny,
)

from s3prl_dd.distill.checkpoint import check_identity, identity
from s3prl_dd.distill.data import TrainingData
from s3prl_dd.distill.selection import Best
from s3prl_dd.errors import UserError
from s3prl_dd.generator import read_header
from s3prl_dd.pool.pool import Pool

BEFORE = Path(__file__).parent / "assets/checkpoint-2991ac6.pt.gz"
"""checkpoint.pt at step 6, written by revision 2991ac6 with exact_data, exact_pool and SMALL."""

SMALL = {"batch": 25, "network": {"channels": 4, "critic_channels": 4, "noise": 3}}


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return tiny_data()


@pytest.fixture(scope="module")
def pool(data: TrainingData) -> Pool:
    return tiny_pool(data)


def assert_same_states(one: Path, other: Path) -> None:
    """Steps, scores, weights, averages and optimisers of two folders' checkpoints, to the bit."""
    first, second = (torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (one, other))
    assert all(first[key] == second[key] for key in ("step", "best", "history"))
    for part in ("generator", "critic", "average"):
        for name, value in first[part].items():
            assert torch.equal(value, second[part][name]), f"{part} {name}"
    for part in ("generator_optimizer", "critic_optimizer"):
        for index, state in first[part]["state"].items():
            assert all(torch.equal(value, second[part]["state"][index][name]) for name, value in state.items()), part


@pytest.mark.parametrize("kept", ["the last", "that of before"])
def test_frame_deviations_may_change_on_the_way(kept, tmp_path, data, pool, monkeypatch):
    """Training does not see it; the file that comes of it has today's, whichever step it is of."""
    network = {**SMALL["network"], "architecture": "gan_1d", "frames": 8}
    changes = {"steps": 2, "save_every": 1, "eval_every": 50}
    tiny_trainer(tmp_path, data, pool, **changes, network=network).train(progress=False)
    further = tiny_trainer(tmp_path, data, pool, **{**changes, "steps": 3}, network={**network, "movement": "any"})
    after = {"the last": lambda best, entry, utterances: Best(entry.dev_uar, entry.step),
             "that of before": lambda best, entry, utterances: best}
    monkeypatch.setattr(Best, "after", after[kept])
    further.train(progress=False)  # or it would say that the checkpoint belongs to another configuration
    header = read_header(tmp_path / "generator.safetensors")
    assert header.network.movement == header.training["network"]["movement"] == "any"
    assert header.metrics["step"] == (3 if kept == "the last" else 2)


def test_frame_deviations_may_not_change_where_they_choose_the_generator(data):
    """Quick frame-level heads hear it."""
    named = {}
    for movement in ("own", "any"):
        config = tiny_config(network={"frames": 8, "movement": movement}, eval_kinds=["superb", "attentive"])
        named[movement] = identity(config, config.network.sized(3, data.dim), PARTS, data, None)
    check_identity(Path("file"), named["own"], named["own"])
    with pytest.raises(UserError, match="network.movement 'own' there, 'any' here"):
        check_identity(Path("file"), named["own"], named["any"])


def test_resumed_is_as_if_not_interrupted(tmp_path, data, pool):
    changes = {"steps": 5, "save_every": 2, "eval_every": 50}
    tiny_trainer(tmp_path / "whole", data, pool, **changes).train(progress=False)
    tiny_trainer(tmp_path / "parts", data, pool, **{**changes, "steps": 2}).train(progress=False)
    # its last step was measured, as last steps are; the whole run's second was not
    state = torch.load(tmp_path / "parts/checkpoint.pt", weights_only=True)
    torch.save({**state, "best": {"dev_uar": -1.0, "step": 0}, "history": []}, tmp_path / "parts/checkpoint.pt")
    resumed = tiny_trainer(tmp_path / "parts", data, pool, **changes)
    resumed.train(progress=False)
    assert_same_states(tmp_path / "whole", tmp_path / "parts")
    for name in ("generator.safetensors", "metrics.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes(), name


def test_a_file_that_is_gone_is_told(tmp_path, data, pool):
    changes = {"steps": 2, "save_every": 2, "eval_every": 2}
    tiny_trainer(tmp_path, data, pool, **changes).train(progress=False)
    (tmp_path / "generator.safetensors").unlink()
    with pytest.raises(UserError, match=r"generator.safetensors: is gone; .* delete .*checkpoint.pt to distil anew"):
        tiny_trainer(tmp_path, data, pool, **changes).train(progress=False)
    (tmp_path / "checkpoint.pt").unlink()
    tiny_trainer(tmp_path, data, pool, **changes).train(progress=False)
    assert (tmp_path / "generator.safetensors").is_file()


@pytest.mark.slow
def test_sigkill_at_any_step_ends_as_if_not_killed(tmp_path):
    """Killed twice at random steps, then run to the end: every file as without a kill."""
    changes = {"steps": 24, "eval_every": 12, "save_every": 5}
    killed, log = tmp_path / "killed", tmp_path / "killed/log.log"

    def start(folder):
        process = forked().Process(target=train_tiny, args=(folder, changes))
        process.start()
        return process

    def finish(folder):
        process = start(folder)
        process.join(120)
        assert process.exitcode == 0

    finish(tmp_path / "whole")
    seed = random.randrange(10**6)
    print("seed of the kills:", seed)
    for at in (random.Random(seed).randint(2, 10), random.Random(seed).randint(13, 20)):
        process = start(killed)
        deadline = time.time() + 120
        while process.is_alive() and time.time() < deadline and not (
                log.is_file() and f"\nstep {at}:" in "\n" + log.read_text()):
            time.sleep(0.01)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    finish(killed)
    steps = [line.split(":")[0] for line in log.read_text().splitlines() if line.startswith("step ")]
    assert len(steps) > 24 and set(steps) == {f"step {number}" for number in range(1, 25)}
    assert_same_states(tmp_path / "whole", killed)
    for name in ("generator.safetensors", "metrics.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (killed / name).read_bytes(), name


# the version before


def unpack(out: Path, **identity_changes: object) -> Path:
    """The checkpoint of the version before in folder `out`; changes: of its identity's configuration."""
    out.mkdir()
    path = out / "checkpoint.pt"
    path.write_bytes(gzip.decompress(BEFORE.read_bytes()))
    if identity_changes:
        state = torch.load(path, weights_only=True)
        config, *rest = json.loads(state["identity"])
        torch.save({**state, "identity": json.dumps([{**config, **identity_changes}, *rest])}, path)
    return out


def test_a_checkpoint_of_the_version_before_resumes(tmp_path):
    whole = tiny_trainer(tmp_path / "whole", exact_data(), exact_pool(), **SMALL)
    resumed = tiny_trainer(unpack(tmp_path / "before"), exact_data(), exact_pool(), **SMALL)
    resumed.load()
    assert resumed.step == 6 and [entry.step for entry in resumed.history] == [6] and resumed.best.step == 6
    for _ in range(9):
        whole.train_step()
    for _ in range(3):
        resumed.train_step()
    assert resumed.step == whole.step == 9
    # another processor rounds otherwise, so not to the bit
    torch.testing.assert_close(resumed.generator.start.weight, whole.generator.start.weight, rtol=0, atol=1e-5)
    for ours, theirs in zip(resumed.critic.parameters(), whole.critic.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_one_that_did_not_use_what_is_gone_does(tmp_path):
    trainer = tiny_trainer(unpack(tmp_path / "before", latents=0), exact_data(), exact_pool(), **SMALL)
    trainer.load()
    assert trainer.step == 6


@pytest.mark.parametrize("key, value", [("schedule", "linear"), ("warm_steps", 3), ("softmax_reduction", "class"),
                                        ("temperature", 2.0), ("diversity_of", "means"), ("eval_soft", True),
                                        ("compile", True), ("latents", 50), ("unheard", 1)])
def test_one_that_used_what_is_gone_does_not(tmp_path, key, value):
    trainer = tiny_trainer(unpack(tmp_path / "before", **{key: value}), exact_data(), exact_pool(), **SMALL)
    with pytest.raises(UserError, match=f"another configuration or other data .{key} {value!r} there"):
        trainer.load()


def test_one_of_other_weights_or_sizes_does_not(tmp_path):
    out = unpack(tmp_path / "before")
    for changes, told in (({"lambdas": {"mmd": 2}}, "lambdas.mmd 1.0 there, 2.0 here"),
                          ({"network": {"noise": 4}}, "network.noise 3 there, 4 here"),
                          ({"seed": 1}, "seed 0 there, 1 here")):
        merged = {**SMALL, **changes, "network": {**SMALL["network"], **changes.get("network", {})}}
        with pytest.raises(UserError, match=told):
            tiny_trainer(out, exact_data(), exact_pool(), **merged).load()


# refusals


def test_another_configuration_or_other_data_are_refused(tmp_path, data, pool):
    same = {"steps": 3, "save_every": 3, "eval_every": 50}
    tiny_trainer(tmp_path, data, pool, **same).train(progress=False)
    for changes in ({"generator_lr": 2e-3}, {"lambdas": {"diversity": 0.4}}, {"seed": 1}, {"network": {"channels": 16}},
                    {"betas": [0.0, 0.5]}, {"ema": 0.5}):
        with pytest.raises(UserError, match="another configuration or other data"):
            tiny_trainer(tmp_path, data, pool, **{**same, **changes}).load()
    with pytest.raises(UserError, match="the data differ"):
        tiny_trainer(tmp_path, data, tiny_pool(data, seeds=2), **same).load()
    other = tiny_data()
    other.utterances.utterances[7] += 1
    with pytest.raises(UserError, match="the data differ"):
        tiny_trainer(tmp_path, other, pool, **same).load()
    elsewhere = tiny_trainer(tmp_path, data, pool, **same)
    elsewhere.parts = PARTS._replace(features=dataclasses.replace(PARTS.features, layer=3, layer_weights=None))
    with pytest.raises(UserError, match="the data differ"):
        elsewhere.load()
    more = tiny_trainer(tmp_path, data, pool, **{**same, "steps": 5})  # more steps are the same run
    more.train(progress=False)
    assert more.step == 5


@pytest.mark.parametrize("content", [b"PK\x03\x04 cut off", b"", None])
def test_a_broken_checkpoint_is_named(tmp_path, data, pool, content):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content) if content is not None else torch.save({"step": 3}, path)
    with pytest.raises(UserError, match="checkpoint.pt: not a") as refused:
        tiny_trainer(tmp_path, data, pool).train(progress=False)
    assert "\n" not in str(refused.value)


def test_full_disk_keeps_the_last_checkpoint(tmp_path, data, pool):
    """A limit on file size stands for the full disk: one clear error, the old checkpoint whole, no leftovers."""
    trainer = tiny_trainer(tmp_path, data, pool, steps=3, save_every=3, eval_every=50)
    trainer.save()
    trainer.train_step()
    before, errors = (tmp_path / "checkpoint.pt").read_bytes(), []
    writes = (trainer.save, lambda: trainer.current().save(tmp_path / "generator.safetensors"),
              lambda: pool.save(tmp_path / "pool"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
    try:
        for write in writes:
            try:
                write()
            except UserError as error:
                errors.append(str(error))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    names = [error.split(":")[0].rpartition("/")[2] for error in errors]
    assert names == ["checkpoint.pt", "generator.safetensors", "pool"]
    assert all("could not be written" in error and "too large" in error for error in errors)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]

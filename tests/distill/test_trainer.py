"""The trainer on Gaussian classes: it learns, resumes to the bit, selects on dev, and stops where it must."""

import json
import math
import random
import resource
import signal
import time

import pytest
import torch
import torch.nn.functional as F
from support.gauss import ALL_TERMS, DIM, forked, tiny_config, tiny_data, tiny_pool, tiny_trainer, train_tiny

from s3prl_dd.distill import losses
from s3prl_dd.distill.data import TrainingData, resample
from s3prl_dd.distill.trainer import within_class_distance
from s3prl_dd.errors import UserError
from s3prl_dd.generator import Generator
from s3prl_dd.metrics import uar
from s3prl_dd.pool.pool import score_heads, train_heads


@pytest.fixture(scope="module")
def data():
    return tiny_data()


@pytest.fixture(scope="module")
def pool(data):
    return tiny_pool(data)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data, pool):
    """A run of 12 steps to its end: (trainer, generator, folder)."""
    out = tmp_path_factory.mktemp("finished")
    trainer = tiny_trainer(out, data, pool)
    return trainer, trainer.train(progress=False), out


# learning


def test_heads_trained_on_samples_know_real_speech(tmp_path, data, pool):
    """Heads on the samples of a short run come near what heads on the real data reach; those of no run do not."""
    trainer = tiny_trainer(tmp_path, data, pool, steps=120, eval_every=120, save_every=120, log_every=50, generator_lr=2e-3,
                           critic_lr=2e-3, network={"channels": 32, "critic_channels": 32}, ema=0.98)

    def score(means, labels):
        kept = train_heads(means, labels, range(3), steps=300, lr=3e-3, classes=3)
        return sum(score_heads(kept[-1][1], *data.dev)) / 3

    untrained = trainer.current().sample("balanced", seed=5)
    before = score(untrained.features.mean(dim=1), untrained.labels)
    samples = trainer.train(progress=False).sample("balanced", seed=5)
    after, real = score(samples.features.mean(dim=1), samples.labels), score(data.means, data.labels)
    assert real > 0.85 and after > 0.75 and after > before + 0.2, (before, after, real)
    assert samples.features.mean(dim=(0, 1)).sub(data.mean).abs().max() < 1.5  # in the corpus' own units


# every term, by hand


@pytest.fixture(scope="module")
def stepped(tmp_path_factory, data, pool):
    """A trainer after two steps, in the state in which the generator is updated; its networks in float64."""
    trainer = tiny_trainer(tmp_path_factory.mktemp("stepped"), data, pool, critic_steps=1)
    trainer.train_step(), trainer.train_step()
    return trainer


def batch_of(trainer, kind, *key):
    indices, starts = trainer.data.draw(trainer.labels, trainer.config.seed, f"{kind}real", *key)
    return trainer.data.frames_of(indices, starts), indices, trainer.noise(f"{kind}noise", *key)


def test_critic_total_is_eq_1_and_4(stepped):
    stepped.generator.eval()  # keeps the running statistics out of it
    real, indices, noise = batch_of(stepped, "critic-", 7, 0)
    labels = stepped.labels
    assert torch.equal(stepped.data.labels[indices], labels)  # a real utterance of each sample's label
    terms = stepped.critic_terms(7, 0)
    fake = stepped.generator(noise, labels).detach()
    on_real, on_fake = stepped.critic(real), stepped.critic(fake)
    mean = lambda x: x.double().mean().item()
    ce = lambda logits: -mean(logits.log_softmax(-1)[torch.arange(24), labels])
    from s3prl_dd.rng import keyed

    mix = torch.rand(24, generator=keyed(0, "mix", 7, 0)).view(-1, 1, 1)
    point = (mix * real + (1 - mix) * fake).requires_grad_()
    norms = torch.stack([torch.autograd.grad(stepped.critic(point).score[b], point)[0][b].norm() for b in range(24)])
    expected = {"critic_score": mean(on_fake.score) - mean(on_real.score), "gradient_penalty": mean((norms - 1) ** 2),
                "critic_class": ce(on_real.logits), "critic_class_fake": ce(on_fake.logits)}
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected, rel=1e-4)


def test_generator_total_is_eq_5_and_8(stepped, data, pool):
    stepped.generator.eval()
    config, labels = stepped.config, stepped.labels
    config.feature_matching, config.softmax_pairing, config.diversity_of = "sample", "label", "frames"
    terms = stepped.generator_terms(9)
    real, _, noise = batch_of(stepped, "", 9)
    fake = stepped.generator(noise, labels)
    on_real, on_fake = stepped.critic(real), stepped.critic(fake)
    expected = {"generator_score": -on_fake.score.mean(),
                "feature_matching": sum((a - b).abs().mean() for a, b in zip(on_real.maps, on_fake.maps)),
                "generator_class": F.cross_entropy(on_fake.logits, labels)}
    # Eq. 6: the drawn heads as two plain linear layers on raw utterance means
    from s3prl_dd.rng import keyed

    drawn = torch.randint(len(pool), (config.softmax_heads,), generator=keyed(0, "heads", 9))
    state, total = pool.heads.state(), 0
    for m in drawn:
        head = [state[key][m] for key in ("projector.weight", "projector.bias", "model.post_net.linear.weight",
                                          "model.post_net.linear.bias")]
        p, q = (F.linear(F.linear((x * data.std + data.mean).mean(dim=1), *head[:2]), *head[2:]).softmax(-1) for x in (real, fake))
        total += (p * (p / q).log()).sum(-1).mean() / len(drawn)
    expected["softmax_matching"] = total
    # Eq. 7: each sample with the next one of its class
    pairs = [(b, (b + 3) % 24) for b in range(24)]
    ratios = [((fake[a] - fake[b]).square().sum(dim=1).mean().sqrt() / (noise[a] - noise[b]).norm()).item() for a, b in pairs]
    assert all(labels[a] == labels[b] for a, b in pairs)
    expected["diversity"] = -sum(min(ratio, config.tau) for ratio in ratios) / 24
    found = {name: terms[name].item() for name in expected}
    assert found == pytest.approx({name: torch.as_tensor(value).item() for name, value in expected.items()}, rel=1e-4)
    assert set(terms) == {"generator_score", *ALL_TERMS} - {"gradient_penalty", "critic_class", "critic_class_fake"}
    config.tau = sorted(ratios)[12]
    assert stepped.generator_terms(9)["diversity"].item() == pytest.approx(-sum(min(r, config.tau) for r in ratios) / 24, rel=1e-5)
    assert stepped.clamped == pytest.approx(11 / 24)


def test_update_follows_the_weighted_sum(tmp_path, data, pool):
    """Adam's first step from nothing is lr * sign of the gradient of the weighted total, term weights as configured."""
    weights = {"gradient_penalty": 10, "feature_matching": 2.5, "generator_class": 0.5, "softmax_matching": 3, "diversity": 0.7}
    trainer = tiny_trainer(tmp_path, data, pool, lambdas={**dict.fromkeys(ALL_TERMS, 0), **weights}, betas=[0.0, 0.0], schedule="linear")
    parameters = list(trainer.generator.parameters())
    before = [parameter.detach().clone() for parameter in parameters]
    terms = trainer.generator_terms(1)
    assert set(terms) == {"generator_score", *weights} - {"gradient_penalty"}  # weight 0: not computed
    total = terms["generator_score"] + 2.5 * terms["feature_matching"] + 0.5 * terms["generator_class"] \
        + 3 * terms["softmax_matching"] + 0.7 * terms["diversity"]
    gradients = torch.autograd.grad(total, parameters, retain_graph=True)
    norm = trainer.update(trainer.generator, trainer.generator_optimizer, terms, 1)
    assert norm.item() == pytest.approx(math.sqrt(sum(gradient.double().square().sum().item() for gradient in gradients)), rel=1e-4)
    step = torch.cat([(after - start).flatten() for after, start in zip(parameters, before)]).detach()
    gradient = torch.cat([item.flatten() for item in gradients])
    sure = gradient.abs() > 1e-4  # a bias before batch norm has none but rounding
    assert sure.float().mean() > 0.5
    torch.testing.assert_close(step[sure], -1e-3 * gradient.sign()[sure], rtol=1e-3, atol=1e-6)


def test_warm_steps_leave_out_what_the_paper_adds(tmp_path, data, pool):
    trainer = tiny_trainer(tmp_path, data, pool, warm_steps=3)
    baseline = {"generator_score", "feature_matching", "generator_class"}
    assert set(trainer.generator_terms(3)) == baseline
    assert set(trainer.generator_terms(4)) > baseline


def test_schedules(tmp_path, data, pool):
    trainer = tiny_trainer(tmp_path, data, pool, steps=10)
    rates = {}
    for schedule in ("constant", "linear", "cosine"):
        trainer.config.schedule = schedule
        rates[schedule] = [trainer.rate(step) for step in (1, 6, 11)]
    assert rates == {"constant": [1, 1, 1], "linear": pytest.approx([1, 0.5, 0]), "cosine": pytest.approx([1, 0.5, 0])}
    trainer.config.schedule = "linear"
    trainer.step = 5
    trainer.train_step()
    assert trainer.critic_optimizer.param_groups[0]["lr"] == pytest.approx(0.5e-3)
    assert trainer.generator_optimizer.param_groups[0]["lr"] == pytest.approx(0.5e-3)


def test_ema(tmp_path, data, pool):
    trainer = tiny_trainer(tmp_path, data, pool, ema=0.5)
    average = trainer.generator.start.weight.detach().clone()
    for step in range(1, 4):
        trainer.train_step()
        decay = min(0.5, step / (step + 10))
        average = decay * average + (1 - decay) * trainer.generator.start.weight.detach()
    torch.testing.assert_close(trainer.average.start.weight, average)
    torch.testing.assert_close(trainer.current().network.start.weight, average)
    plain = tiny_trainer(tmp_path, data, pool, ema=0)
    plain.train_step()
    assert torch.equal(plain.current().network.start.weight, plain.generator.start.weight)


def test_bfloat16_trains(tmp_path, data, pool):
    trainer = tiny_trainer(tmp_path, data, pool, precision="bfloat16")
    full = tiny_trainer(tmp_path, data, pool)
    for _ in range(2):
        half, whole = trainer.train_step(), full.train_step()
    assert half["generator_score"].dtype == torch.float32
    assert half["critic_class"].item() == pytest.approx(whole["critic_class"].item(), rel=0.05)


# data


def test_resample_keeps_the_mean():
    frames = torch.randn(24, 5)
    torch.testing.assert_close(resample(frames, 8), frames.view(8, 3, 5).mean(dim=1))
    torch.testing.assert_close(resample(frames, 8).mean(dim=0), frames.mean(dim=0))
    assert resample(frames[:3], 8).shape == (8, 5)
    line = torch.arange(4.0)[:, None]
    torch.testing.assert_close(resample(line, 8)[:, 0], torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]))


def test_framed_data_is_standardised(data):
    assert data.resident.shape == (60, 8, DIM)
    assert data.resident.mean(dim=(0, 1)).abs().max() < 1e-5 and (data.resident.std(dim=(0, 1)) - 1).abs().max() < 1e-3
    torch.testing.assert_close(data.resident[3] * data.std + data.mean, resample(data.utterances[3], 8))
    assert data.class_counts == [20, 16, 24]


@pytest.mark.parametrize("framing", ["resample", "crop"])
def test_draw_is_keyed_and_of_the_label(framing):
    data, labels = tiny_data(framing), torch.arange(12) % 3
    indices, starts = data.draw(labels, 0, "a", 1)
    assert torch.equal(data.labels[indices], labels)
    again, others = data.draw(labels, 0, "a", 1), data.draw(labels, 0, "a", 2)
    assert all(map(torch.equal, again, (indices, starts))) and not torch.equal(others[0], indices)
    starts[:2] = torch.tensor([0.0, 1 - 1e-6])  # the first crop and the last
    raw = data.frames_of(indices, starts) * data.std + data.mean
    for index, start, made in zip(indices, starts, raw):
        utterance = data.utterances[index]
        if framing == "crop":
            first = int(start * (len(utterance) - 7))
            torch.testing.assert_close(made, utterance[first:first + 8], atol=1e-4, rtol=1e-4)
        else:
            torch.testing.assert_close(made, resample(utterance, 8), atol=1e-4, rtol=1e-4)
    many = torch.cat([data.draw(labels, 0, "many", step)[0] for step in range(100)])
    counts = torch.bincount(many, minlength=60)
    assert counts.min() > 0 and counts[:20].sum() == counts[20:36].sum() == 400  # balanced classes, every utterance


def test_length_percentiles(data):
    table = data.length_percentiles()
    for label, row in enumerate(table):
        lengths = sorted(len(item) for item, y in zip(data.utterances, data.labels) if y == label)
        assert len(row) == 101 and row[0] == lengths[0] and row[-1] == lengths[-1] and row == sorted(row)


def test_too_short_utterances_are_refused():
    with pytest.raises(UserError, match="1 frames"):
        TrainingData.build([torch.randn(9, 3), torch.randn(1, 3)], [0, 1], None)
    with pytest.raises(UserError, match="7 frames, framing 'crop' needs 8"):
        TrainingData.build([torch.randn(9, 3), torch.randn(7, 3)], [0, 1], None, "crop", 8)
    with pytest.raises(UserError, match="resample, crop"):
        TrainingData.build([torch.randn(9, 3)], [0], None, "repeat")


# bad input


def test_batch_holds_as_many_of_each_class(tmp_path, data, pool):
    trainer = tiny_trainer(tmp_path, data, pool, batch=25)  # 3 classes
    assert trainer.config.batch == 24 and torch.bincount(trainer.labels).tolist() == [8, 8, 8]
    with pytest.raises(UserError, match="batch 5: too small for two samples of each of 3 classes.*6 or more"):
        tiny_trainer(tmp_path, data, pool, batch=5)


def test_a_class_without_example_is_refused(tmp_path, pool):
    with pytest.raises(UserError, match="no training example"):
        tiny_trainer(tmp_path, tiny_data(counts=(20, 0, 20)), pool)


def test_pool_must_be_there_and_fit(tmp_path, data, pool):
    from s3prl_dd.distill.trainer import Trainer

    with pytest.raises(UserError, match="needs a pool"):
        Trainer(tiny_config(), data, tmp_path, {}, None)
    without = {"softmax_matching": 0}
    Trainer(tiny_config(lambdas=without, teacher=False), data, tmp_path, {}, None)
    other = TrainingData.build([torch.randn(9, 4) for _ in range(6)], [0, 1, 2] * 2, None)
    with pytest.raises(UserError, match=f"take {DIM} dimensions, these features have 4"):
        Trainer(tiny_config(), other, tmp_path, {}, pool)


def test_nan_stops_with_the_terms_name_and_keeps_the_last_good_state(tmp_path, data, pool, monkeypatch):
    trainer = tiny_trainer(tmp_path, data, pool)
    ratio, factors = losses.diversity_ratio, iter([1.0] * 7 + [math.nan])
    monkeypatch.setattr(losses, "diversity_ratio", lambda *tensors: ratio(*tensors) * next(factors))
    with pytest.raises(UserError, match="diversity is nan at step 8"):
        trainer.train(progress=False)
    monkeypatch.undo()
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["step"] == 6 and all(torch.isfinite(value).all() for value in state["generator"].values())
    Generator.load(tmp_path / "generator.safetensors")
    again = tiny_trainer(tmp_path, data, pool)
    again.train(progress=False)
    assert again.step == 12


def test_infinite_gradient_stops_before_it_spoils_the_weights(tmp_path, data, pool, monkeypatch):
    trainer = tiny_trainer(tmp_path, data, pool)
    trainer.train_step()
    before = {name: value.clone() for name, value in trainer.generator.state_dict().items() if "running" not in name}
    # finite, with an infinite derivative: sqrt at 0
    monkeypatch.setattr(losses, "generator_score", lambda score: (score - score.detach()).abs().sum().sqrt() * 1e30)
    with pytest.raises(UserError, match="gradient of the generator is .* at step 2"):
        trainer.train_step()
    assert all(torch.equal(value, trainer.generator.state_dict()[name]) for name, value in before.items())


# selection, early stop, logs


def scripted_scores(monkeypatch, scores):
    """evaluate() finds these dev UARs, one after the other."""
    from s3prl_dd.distill import trainer as module

    remaining = iter(scores)
    monkeypatch.setattr(module, "score_heads", lambda heads, *_: [scripted_scores.now] * len(heads))
    original = module.train_heads

    def train(*arguments, **options):
        scripted_scores.now = next(remaining)
        return original(*arguments, **{**options, "steps": 2, "snapshots": ()})

    monkeypatch.setattr(module, "train_heads", train)


def test_the_best_generator_on_dev_is_kept(tmp_path, data, pool, monkeypatch):
    scripted_scores(monkeypatch, [0.5, 0.7, 0.6, 0.7])
    trainer = tiny_trainer(tmp_path, data, pool, steps=8, eval_every=2, save_every=8)
    states, evaluate = {}, trainer.evaluate
    monkeypatch.setattr(trainer, "evaluate", lambda: (states.update({trainer.step: trainer.current()}), evaluate()))
    kept = trainer.train(progress=False)
    assert trainer.best == {"dev_uar": 0.7, "step": 4}  # the first of equals
    assert kept.header["training"]["step"] == 4 and kept.header["metrics"]["dev_uar"] == 0.7
    assert kept.header["metrics"]["step"] == 4
    for name, value in states[4].network.state_dict().items():
        assert torch.equal(kept.network.state_dict()[name], value), name
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["best"] == trainer.best and [entry["step"] for entry in metrics["history"]] == [2, 4, 6, 8]


def test_early_stop_by_patience(tmp_path, data, pool, monkeypatch):
    scripted_scores(monkeypatch, [0.5, 0.7, 0.7, 0.6, 0.9])
    trainer = tiny_trainer(tmp_path, data, pool, steps=20, eval_every=2, save_every=20, patience=2)
    trainer.train(progress=False)
    assert trainer.step == 8 and trainer.best["step"] == 4
    again = tiny_trainer(tmp_path, data, pool, steps=20, eval_every=2, save_every=20, patience=2)
    again.train(progress=False)  # stopped stays stopped
    assert again.step == 8


def test_dev_score_is_that_of_heads_trained_on_samples(finished, data):
    trainer, generator, _ = finished
    assert [entry["step"] for entry in trainer.history] == [6, 12]
    for entry in trainer.history:
        assert 0 <= entry["dev_uar"] <= 1
        assert entry["distance_real"] == pytest.approx(within_class_distance(data.means, data.labels))
    by_hand = [(data.means[a] - data.means[b]).norm().item() for a in range(60) for b in range(a) if data.labels[a] == data.labels[b]]
    assert trainer.history[0]["distance_real"] == pytest.approx(sum(by_hand) / len(by_hand), rel=1e-5)


def test_logs_hold_every_term(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer, _, out = finished
    names = {"critic_score", "generator_score", *ALL_TERMS, "wasserstein", "critic_norm", "generator_norm", "clamped"}
    lines = (out / "log.log").read_text().splitlines()
    step = next(line for line in lines if line.startswith("step 12: "))
    assert set(step.removeprefix("step 12: ").split()[::2]) == names
    values = dict(zip(step.split()[2::2], map(float, step.split()[3::2])))
    assert values["wasserstein"] == -values["critic_score"] and values["critic_norm"] > 0
    dev = next(line for line in lines if line.startswith("dev step 6 "))
    assert all(name in dev for name in ("dev_uar", "distance_real", "distance_generated"))
    accumulator = EventAccumulator(str(out))
    accumulator.Reload()
    tags = accumulator.Tags()
    assert {f"distil/{name}" for name in names} | {"dev/uar"} <= set(tags["scalars"])
    assert "dev/projection" in tags["images"]
    image = accumulator.Images("dev/projection")
    assert [item.step for item in image] == [6, 12] and image[0].encoded_image_string[:4] == b"\x89PNG"
    assert len(accumulator.Scalars("distil/diversity")) == 12
    assert any("within_class_distance" in folder.name for folder in out.iterdir())


def test_generator_file_says_what_it_is(finished, data):
    _, generator, out = finished
    header = generator.header
    assert header["class_counts"] == [20, 16, 24] and header["network"]["dim"] == DIM and header["network"]["classes"] == 3
    assert header["training"]["lambdas"] == ALL_TERMS and header["training"]["seed"] == 0 and header["precision"] == "float32"
    torch.testing.assert_close(generator.mean, data.mean)
    assert generator.teacher[0].shape == (3, 3, DIM)  # best head of each of three seeds
    critic = sum(value.numel() for value in finished[0].critic.parameters())
    assert critic and not any("critic" in key for key in generator.network.state_dict())


def test_half_file(tmp_path, data, pool):
    sizes = {}
    for half in (False, True):
        trainer = tiny_trainer(tmp_path / str(half), data, pool, steps=1, half_file=half, network={"channels": 64})
        generator = trainer.train(progress=False)
        sizes[half] = (tmp_path / str(half) / "generator.safetensors").stat().st_size
        samples = generator.sample(4)
        if half:
            assert generator.header["precision"] == "float16"
            torch.testing.assert_close(samples.features, before.features, rtol=0.02, atol=0.02)
            assert not torch.equal(samples.features, before.features)
        before = samples
    assert sizes[True] < 0.6 * sizes[False]


# resuming


def states_equal(one, other):
    one, other = (torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (one, other))
    assert one["step"] == other["step"] and one["best"] == other["best"] and one["history"] == other["history"]
    for part in ("generator", "critic", "average"):
        for name, value in one[part].items():
            assert torch.equal(value, other[part][name]), f"{part} {name}"
    for part in ("generator_optimizer", "critic_optimizer"):
        for index, state in one[part]["state"].items():
            assert all(torch.equal(value, other[part]["state"][index][name]) for name, value in state.items()), part


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
    seed = random.randrange(10 ** 6)
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
    states_equal(tmp_path / "whole", killed)
    for name in ("generator.safetensors", "metrics.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (killed / name).read_bytes(), name


def test_resume_with_another_configuration_or_data_is_refused(tmp_path, data, pool):
    tiny_trainer(tmp_path, data, pool, steps=3, save_every=3, eval_every=50).train(progress=False)
    for changes in ({"generator_lr": 2e-3}, {"lambdas": {"diversity": 0.4}}, {"seed": 1}, {"network": {"channels": 16}}):
        with pytest.raises(UserError, match="another configuration or other data"):
            tiny_trainer(tmp_path, data, pool, **{"steps": 3, "save_every": 3, "eval_every": 50, **changes}).load()
    same = {"steps": 3, "save_every": 3, "eval_every": 50}
    with pytest.raises(UserError, match="another configuration or other data"):
        tiny_trainer(tmp_path, data, tiny_pool(data, seeds=2), **same).load()
    other = tiny_data()
    other.utterances[7] = other.utterances[7] + 1
    with pytest.raises(UserError, match="another configuration or other data"):
        tiny_trainer(tmp_path, other, pool, **same).load()
    more = tiny_trainer(tmp_path, data, pool, **{**same, "steps": 5})  # more steps are the same run
    more.train(progress=False)
    assert more.step == 5


def test_broken_checkpoint_is_named(tmp_path, data, pool):
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(UserError, match="checkpoint.pt: not a whole checkpoint"):
        tiny_trainer(tmp_path, data, pool).train(progress=False)


def test_full_disk_keeps_the_last_checkpoint(tmp_path, data, pool):
    """A limit on file size stands for the full disk: one clear error, the old checkpoint whole, no leftovers."""
    trainer = tiny_trainer(tmp_path, data, pool, steps=3, save_every=3, eval_every=50)
    trainer.save()
    trainer.train_step()
    before, errors = (tmp_path / "checkpoint.pt").read_bytes(), []
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
    try:
        for write in (trainer.save, lambda: trainer.current().save(tmp_path / "generator.safetensors"), lambda: pool.save(tmp_path / "pool")):
            try:
                write()
            except UserError as error:
                errors.append(str(error))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [error.split(":")[0].rpartition("/")[2] for error in errors] == ["checkpoint.pt", "generator.safetensors", "pool"]
    assert all("could not be written" in error and "too large" in error for error in errors)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_uar_is_the_mean_recall():
    assert uar([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 0, 3]) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)

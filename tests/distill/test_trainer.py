"""The trainer on Gaussian classes: every term by hand, the step, selection on dev, and what it says of itself."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from support.gauss import ALL_TERMS, DIM, FEW_STEPS, PARTS, tiny_config, tiny_data, tiny_pool, tiny_trainer

from s3prl_dd.config import load_config
from s3prl_dd.devices import agree
from s3prl_dd.distill import losses, selection
from s3prl_dd.distill.bench import make_trainer
from s3prl_dd.distill.config import DistillConfig
from s3prl_dd.distill.critic import Critic
from s3prl_dd.distill.data import TrainingData
from s3prl_dd.distill.evaluator import Evaluator
from s3prl_dd.distill.finish import STATISTICS_SAMPLES
from s3prl_dd.distill.selection import Best, Evaluation, quick_uar
from s3prl_dd.distill.trainer import Trainer
from s3prl_dd.errors import UserError
from s3prl_dd.generator import Generator, build_generator, read_header
from s3prl_dd.generator.calibrate import class_means
from s3prl_dd.pool.heads import SUPERB_KEYS
from s3prl_dd.pool.pool import score_heads, train_heads
from s3prl_dd.rng import keyed


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


@pytest.mark.slow
def test_heads_trained_on_samples_know_real_speech(tmp_path, data, pool):
    """Heads on the samples of a short run come near what heads on the real data reach; those of no run do not."""
    trainer = tiny_trainer(tmp_path, data, pool, steps=120, eval_every=120, save_every=120, log_every=50,
                           generator_lr=2e-3, critic_lr=2e-3, network={"channels": 32, "critic_channels": 32}, ema=0.98)

    def score(means, labels):
        kept = train_heads(means, labels, range(3), steps=300, lr=3e-3, classes=3)
        return sum(score_heads(kept[-1].heads, *data.dev)) / 3

    untrained = trainer.current().sample("balanced", seed=5, center=False)
    before = score(untrained.features.mean(dim=1), untrained.labels)
    samples = trainer.train(progress=False).sample("balanced", seed=5, center=False)
    after, real = score(samples.features.mean(dim=1), samples.labels), score(data.means, data.labels)
    assert real > 0.85 and after > 0.75 and after > before + 0.2, (before, after, real)
    assert samples.features.mean(dim=(0, 1)).sub(data.mean).abs().max() < 1.5  # in the corpus' own units


# every term, by hand


@pytest.fixture(scope="module")
def stepped(tmp_path_factory, data, pool):
    """A trainer after two steps, in the state in which the generator is updated."""
    trainer = tiny_trainer(tmp_path_factory.mktemp("stepped"), data, pool, critic_steps=1)
    trainer.train_step()
    trainer.train_step()
    trainer.generator.eval()  # keeps the running statistics out of it
    return trainer


@pytest.fixture
def configure(stepped, monkeypatch):
    """Change the stepped trainer's configuration for one test."""
    def change(**changes):
        monkeypatch.setattr(stepped, "config", dataclasses.replace(stepped.config, **changes))
        return stepped

    return change


def batch_of(trainer, kind, *key):
    """Real frames, which utterances they are, and noise, drawn as the trainer should."""
    indices, starts = trainer.data.draw(torch.arange(24) % 3, 0, f"{kind}real", *key)
    noise = torch.randn(24, 6, generator=keyed(0, f"{kind}noise", *key))
    return trainer.data.frames_of(indices, starts), indices, noise


def as_numbers(terms):
    return {name: torch.as_tensor(value).item() for name, value in terms.items()}


def test_critic_total_is_eq_1_and_4(stepped):
    """On samples of the generator, not of its average."""
    real, indices, noise = batch_of(stepped, "critic-", 7, 0)
    labels = stepped.batches.labels
    assert torch.equal(stepped.data.labels[indices], labels)  # a real utterance of each sample's label
    terms = stepped.critic_terms(7, 0)
    fake = stepped.generator(noise, labels).detach()
    assert not torch.allclose(fake, stepped.average(noise, labels))
    on_real, on_fake = stepped.critic(real), stepped.critic(fake)

    def mean(x):
        return x.double().mean().item()

    def ce(logits):
        return -mean(logits.log_softmax(-1)[torch.arange(24), labels])

    mix = torch.rand(24, generator=keyed(0, "mix", 7, 0)).view(-1, 1, 1)
    point = (mix * real + (1 - mix) * fake).requires_grad_()
    norms = torch.stack([torch.autograd.grad(stepped.critic(point).score[b], point)[0][b].norm() for b in range(24)])
    expected = {"critic_score": mean(on_fake.score) - mean(on_real.score), "gradient_penalty": mean((norms - 1) ** 2),
                "critic_class": ce(on_real.logits), "critic_class_fake": ce(on_fake.logits)}
    assert as_numbers(terms) == pytest.approx(expected, rel=1e-4)


def softmaxes_by_hand(pool, data, config, real, fake, step):
    """Each drawn head's softmax [B, C] of real and generated frames, as two plain linear layers on raw means."""
    state = pool.heads.state()
    for m in torch.randint(len(pool), (config.softmax_heads,), generator=keyed(0, "heads", step)):
        head = [state[key][m] for key in SUPERB_KEYS]
        yield [F.linear(F.linear((x * data.std + data.mean).mean(dim=1), *head[:2]), *head[2:]).softmax(-1)
               for x in (real, fake)]


def test_generator_total_is_eq_5_and_8(stepped, configure, data, pool):
    config, labels = configure(feature_matching="sample", softmax_pairing="label").config, stepped.batches.labels
    terms, clamped = stepped.generator_terms(9)
    real, _, noise = batch_of(stepped, "", 9)
    fake = stepped.generator(noise, labels)
    on_real, on_fake = stepped.critic(real), stepped.critic(fake)
    expected = {"generator_score": -on_fake.score.mean(),
                "feature_matching": sum((a - b).abs().mean() for a, b in zip(on_real.maps, on_fake.maps, strict=True)),
                "generator_class": F.cross_entropy(on_fake.logits, labels)}
    pairs = list(softmaxes_by_hand(pool, data, config, real, fake, 9))
    expected["softmax_matching"] = sum((p * (p / q).log()).sum(-1).mean() for p, q in pairs) / len(pairs)
    # Eq. 7: each sample with the next one of its class
    partners = [(b, (b + 3) % 24) for b in range(24)]
    assert all(labels[a] == labels[b] for a, b in partners)
    ratios = [((fake[a] - fake[b]).square().sum(dim=1).mean().sqrt() / (noise[a] - noise[b]).norm()).item()
              for a, b in partners]
    expected["diversity"] = -sum(min(ratio, config.tau) for ratio in ratios) / 24
    assert as_numbers({name: terms[name] for name in expected}) == pytest.approx(as_numbers(expected), rel=1e-4)
    assert set(terms) == {"generator_score", *ALL_TERMS} - {"gradient_penalty", "critic_class", "critic_class_fake"}
    tau = sorted(ratios)[12]
    terms, clamped = configure(tau=tau).generator_terms(9)
    assert terms["diversity"].item() == pytest.approx(-sum(min(r, tau) for r in ratios) / 24, rel=1e-5)
    assert clamped == pytest.approx(11 / 24)


def test_assignment_pairs_each_sample_with_its_own_real_one(stepped, configure, data, pool):
    """Eq. 6 on the pairs that scipy finds for the log softmaxes of all drawn heads, class by class."""
    config, labels = configure(softmax_pairing="assignment").config, stepped.batches.labels
    assigned = stepped.generator_terms(9).terms["softmax_matching"].item()
    real, _, noise = batch_of(stepped, "", 9)
    pairs = list(softmaxes_by_hand(pool, data, config, real, stepped.generator(noise, labels).detach(), 9))
    coordinates = [torch.cat([pair[side].log() for pair in pairs], dim=1) for side in (0, 1)]
    partner = torch.empty(24, dtype=torch.long)
    for label in range(3):
        members = (labels == label).nonzero()[:, 0]
        rows, columns = linear_sum_assignment(torch.cdist(coordinates[1][members], coordinates[0][members]).numpy())
        partner[members[rows]] = members[columns]
    assert not torch.equal(partner, torch.arange(24)) and torch.equal(labels[partner], labels)
    expected = sum((p[partner] * (p[partner] / q).log()).sum(-1).mean() for p, q in pairs).item() / len(pairs)
    assert assigned == pytest.approx(expected, rel=1e-4)
    by_label = configure(softmax_pairing="label").generator_terms(9).terms["softmax_matching"].item()
    assert assigned != pytest.approx(by_label, rel=1e-3)


def test_feature_matching_by_class_compares_mean_maps(stepped, configure):
    configure(feature_matching="class")
    terms = stepped.generator_terms(9).terms
    real, _, noise = batch_of(stepped, "", 9)
    labels = stepped.batches.labels
    maps = [stepped.critic(x).maps for x in (real, stepped.generator(noise, labels))]
    expected = 0.0
    for real_map, made_map in zip(*maps, strict=True):
        apart = [(real_map[labels == c].mean(0) - made_map[labels == c].mean(0)).abs().mean().item() for c in range(3)]
        expected += sum(apart) / 3
    assert terms["feature_matching"].item() == pytest.approx(expected, rel=1e-4)


def test_mmd_is_of_utterance_means_within_the_class(stepped, data):
    terms = stepped.generator_terms(9).terms
    _, _, noise = batch_of(stepped, "", 9)
    labels = stepped.batches.labels
    made = (stepped.generator(noise, labels) * data.std + data.mean).mean(dim=1)
    center, spread = data.means.mean(dim=0), data.means.std(dim=0)
    by_class = [losses.maximum_mean_discrepancy((data.means[data.labels == c] - center) / spread,
                                                (made[labels == c] - center) / spread).item() for c in range(3)]
    assert terms["mmd"].item() == pytest.approx(sum(by_class) / 3, rel=1e-4)


def test_a_term_of_weight_0_is_not_computed(stepped, configure):
    off = dict.fromkeys(ALL_TERMS, 0)
    configure(lambdas=tiny_config(lambdas=off).lambdas)
    assert set(stepped.critic_terms(7, 0)) == {"critic_score"}
    assert set(stepped.generator_terms(7).terms) == {"generator_score"} and stepped.generator_terms(7).clamped is None


# the step


def test_update_follows_the_weighted_sum(tmp_path, data, pool):
    """Adam's first step from nothing is lr * sign of the gradient of the weighted total, weights as configured."""
    weights = {"gradient_penalty": 10, "feature_matching": 2.5, "generator_class": 0.5, "softmax_matching": 3,
               "diversity": 0.7}
    trainer = tiny_trainer(tmp_path, data, pool, lambdas={**dict.fromkeys(ALL_TERMS, 0), **weights}, betas=[0.0, 0.0])
    parameters = list(trainer.generator.parameters())
    before = [parameter.detach().clone() for parameter in parameters]
    terms = trainer.generator_terms(1).terms
    assert set(terms) == {"generator_score", *weights} - {"gradient_penalty"}
    total = terms["generator_score"] + 2.5 * terms["feature_matching"] + 0.5 * terms["generator_class"] \
        + 3 * terms["softmax_matching"] + 0.7 * terms["diversity"]
    gradients = torch.autograd.grad(total, parameters, retain_graph=True)
    norm = trainer.update(trainer.generator, trainer.generator_optimizer, terms, 1)
    squares = sum(gradient.double().square().sum().item() for gradient in gradients)
    assert norm.item() == pytest.approx(math.sqrt(squares), rel=1e-4)
    step = torch.cat([(after - start).flatten() for after, start in zip(parameters, before, strict=True)]).detach()
    gradient = torch.cat([item.flatten() for item in gradients])
    sure = gradient.abs() > 1e-4  # a bias before batch norm has none but rounding
    assert sure.float().mean() > 0.5
    torch.testing.assert_close(step[sure], -1e-3 * gradient.sign()[sure], rtol=1e-3, atol=1e-6)


def test_learning_rates_and_betas_are_the_configurations(tmp_path, data, pool):
    trainer = tiny_trainer(tmp_path, data, pool, generator_lr=2e-3, critic_lr=5e-4, betas=[0.3, 0.7])
    trainer.train_step()
    groups = [optimizer.param_groups[0] for optimizer in (trainer.generator_optimizer, trainer.critic_optimizer)]
    assert [group["lr"] for group in groups] == [2e-3, 5e-4] and all(group["betas"] == (0.3, 0.7) for group in groups)


def test_a_step_is_all_critic_updates_then_one_of_the_generator(tmp_path, data, pool, monkeypatch):
    trainer, calls = tiny_trainer(tmp_path, data, pool, critic_steps=3), []
    trainer.threads = None  # nothing is probed
    update = trainer.update
    monkeypatch.setattr(trainer, "update", lambda network, *rest: (calls.append(network), update(network, *rest))[1])
    seen, draw = [], trainer.batches.noise
    monkeypatch.setattr(trainer.batches, "noise", lambda *key: (seen.append(key), draw(*key))[1])
    log = trainer.train_step()
    assert calls == [trainer.critic] * 3 + [trainer.generator] and trainer.step == 1
    assert seen == [("critic-noise", 1, number) for number in range(3)] + [("noise", 1)]
    values = log.values()
    assert values["wasserstein"] == -values["critic_score"] and values["critic_norm"] > 0
    assert set(ALL_TERMS) < set(values)
    assert all(parameter.grad is None or not parameter.requires_grad for parameter in trainer.average.parameters())


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
    assert half.generator["generator_score"].dtype == torch.float32
    assert half.critic["critic_class"].item() == pytest.approx(whole.critic["critic_class"].item(), rel=0.05)
    assert half.critic["critic_class"].item() != whole.critic["critic_class"].item()


# what it leaves alone


def test_initial_weights_are_of_the_seed_and_the_global_stream_goes_on(tmp_path, data, pool):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    trainer = tiny_trainer(tmp_path, data, pool, seed=3)
    trainer.train_step()
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        expected = [*build_generator(trainer.network).parameters(), *Critic(trainer.network).parameters()]
    fresh = tiny_trainer(tmp_path, data, pool, seed=3)
    ours = [*fresh.generator.parameters(), *fresh.critic.parameters()]
    assert all(torch.equal(one, other) for one, other in zip(ours, expected, strict=True))


def test_the_callers_configuration_and_data_stay_as_they_were(tmp_path, data, pool):
    config = tiny_config(batch=25)
    before, resident = dataclasses.asdict(config), data.source.values.clone()
    trainer = Trainer(config, data, tmp_path, PARTS, pool)
    trainer.train_step()
    assert dataclasses.asdict(config) == before and config.batch == 25
    assert trainer.config.batch == 24 and torch.bincount(trainer.batches.labels).tolist() == [8, 8, 8]
    assert torch.equal(data.source.values, resident)


# bad input


def test_what_cannot_be_trained_is_refused_before_any_work(tmp_path, data, pool):
    without = {"lambdas": {"softmax_matching": 0}, "teacher": False}
    Trainer(tiny_config(**without), data, tmp_path, PARTS, None)
    other = TrainingData.build([torch.randn(9, 4) for _ in range(6)], [0, 1, 2] * 2, data.dev, frames=8)
    no_dev = TrainingData.build(data.utterances, data.labels, None, frames=8)
    empty = tiny_data(counts=(20, 0, 20))
    for config, given, its_pool, told in (
            (tiny_config(), data, None, "needs a pool.*s3prl-dd pool"),
            (tiny_config(), other, pool, f"take {DIM} dimensions, these features have 4"),
            (tiny_config(softmax_kinds=["superb", "attentive"]), data, pool, "kind attentive.*it has superb"),
            (tiny_config(batch=5), data, pool, "batch 5: too small for two samples of each of 3 classes.*6 or more"),
            (tiny_config(), empty, pool, "no training example"),
            (tiny_config(), no_dev, pool, "no dev utterances"),
            (tiny_config(network={"frames": 16}), data, pool, "in 8 frames a sample, network.frames is 16")):
        with pytest.raises(UserError, match=told) as refused:
            Trainer(config, given, tmp_path, PARTS, its_pool)
        assert "\n" not in str(refused.value)


def test_nan_stops_with_the_terms_name_and_keeps_the_last_good_state(tmp_path, data, pool, monkeypatch):
    trainer = tiny_trainer(tmp_path, data, pool)
    trainer.threads = None  # nothing is probed
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


# selection and logs


def test_dev_score_is_that_of_heads_trained_on_the_samples(finished, data):
    """By hand at the last step, where the file's generator is still at hand; real means would score otherwise."""
    trainer, _, _ = finished
    assert [entry.step for entry in trainer.history] == [6, 12]
    samples = trainer.current().sample("balanced", seed=1_000_000, epoch=12, center=False)
    scale = data.means.std(dim=0).mean()

    def score(means, labels):
        return quick_uar((means, labels), data.dev, scale, 2, FEW_STEPS.quick, 3)

    expected, real = score(samples.features.mean(dim=1), samples.labels), score(data.means, data.labels)
    assert trainer.history[1].dev_uar == pytest.approx(expected, abs=1e-6) and expected < real - 0.05
    within = [selection.within_class_distance(data.means, data.labels),
              selection.within_class_distance(samples.features.mean(dim=1), samples.labels)]
    assert [trainer.history[1].distance_real, trainer.history[1].distance_generated] == pytest.approx(within)


def scripted_scores(monkeypatch, scores):
    """evaluate() finds these dev UARs, one after the other."""
    remaining = iter(scores)
    monkeypatch.setattr(Evaluator, "_dev_uar", lambda self, *_: next(remaining))


def test_the_last_generator_that_dev_does_not_tell_from_the_best_is_kept(tmp_path, data, pool, monkeypatch):
    scripted_scores(monkeypatch, [0.5, 0.66, 0.7, 0.65])
    monkeypatch.setattr(Evaluator, "dev_size", 91)  # a standard error of 0.048
    trainer = tiny_trainer(tmp_path, data, pool, steps=8, eval_every=2, save_every=8)
    states, evaluate = {}, trainer.evaluate
    monkeypatch.setattr(trainer, "evaluate",
                        lambda log: (states.update({trainer.step: trainer.current()}), evaluate(log)))
    kept = trainer.train(progress=False)
    assert trainer.best == Best(0.7, 6)
    assert kept.header.training["step"] == 6 and kept.header.metrics["dev_uar"] == 0.7
    assert kept.header.metrics["step"] == 6
    for name, value in states[6].network.state_dict().items():
        assert torch.equal(kept.network.state_dict()[name], value), name
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["best"] == {"dev_uar": 0.7, "step": 6}
    assert [entry["step"] for entry in metrics["history"]] == [2, 4, 6, 8]


def test_one_standard_error_of_the_best():
    """0.8 of 64 utterances: 0.05; the best so far is what later ones are held against, whatever is kept."""
    best, kept = Best(), []
    for step, score in enumerate([0.8, 0.751, 0.76, 0.749, 0.9, 0.86, 0.87], start=1):
        best = best.after(Evaluation(step, score, 1.0, 1.0), 64)
        kept.append(best.step)
    assert kept == [1, 2, 3, 3, 5, 5, 7] and best == Best(0.9, 7)


def test_dev_is_as_large_as_it_is(tmp_path, data, pool):
    assert tiny_trainer(tmp_path, data, pool).evaluator.dev_size == len(data.dev[1])


def test_logs_hold_every_term(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, _, out = finished
    names = {"critic_score", "generator_score", *ALL_TERMS, "wasserstein", "critic_norm", "generator_norm", "clamped"}
    lines = (out / "log.log").read_text().splitlines()
    step = next(line for line in lines if line.startswith("step 12: "))
    assert set(step.removeprefix("step 12: ").split()[::2]) == names
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


def test_steps_between_logs_and_checkpoints(tmp_path, data, pool, monkeypatch):
    saved = []
    trainer = tiny_trainer(tmp_path, data, pool, steps=7, eval_every=5, save_every=3, log_every=2)
    save = trainer.save
    monkeypatch.setattr(trainer, "save", lambda: (saved.append(trainer.step), save()))
    trainer.train(progress=False)
    lines = (tmp_path / "log.log").read_text().splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("step")] == ["step 2", "step 4", "step 6"]
    assert saved == [3, 5, 6, 7] and [entry.step for entry in trainer.history] == [5, 7]


# the file


def test_generator_file_says_what_it_is(finished, data, pool):
    trainer, generator, out = finished
    header = read_header(out / "generator.safetensors")
    assert header == generator.header and header.precision == "float32"
    assert header.class_counts == [20, 16, 24] and header.labels == PARTS.labels
    assert header.lengths == data.length_percentiles() and header.lengths[0][-1] > header.lengths[0][0] > 0
    assert (header.network.dim, header.network.classes, header.network.frames) == (DIM, 3, 8)
    assert header.features == PARTS.features and header.corpus == PARTS.corpus.hiding_names()
    assert header.training["lambdas"] == dataclasses.asdict(tiny_config().lambdas) and header.training["seed"] == 0
    torch.testing.assert_close(generator.mean, data.mean)
    torch.testing.assert_close(generator.std, data.std)
    assert not any("critic" in key for key in generator.network.state_dict())


def test_the_files_teacher_is_the_best_head_of_each_seed(finished, pool):
    """Those of the pool's highest dev UAR, as linear maps of the utterance mean."""
    _, generator, _ = finished
    best = {}
    for index, (seed, score) in enumerate(zip(pool.seeds, pool.dev_uar, strict=True)):
        if score >= best.get(seed, (0, -1.0))[1]:
            best[seed] = index, score
    worst = min(pool.dev_uar)
    assert all(score > worst for _, score in best.values())
    heads = pool.heads.pick(torch.tensor([index for index, _ in best.values()]))
    means = torch.randn(5, DIM)
    ours = torch.einsum("bd,mcd->mbc", means, generator.teacher.weight) + generator.teacher.bias[:, None]
    torch.testing.assert_close(ours, heads.of_means(means).detach(), rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "calibrated"])
def kept(request, tmp_path_factory, data, pool):
    """(whether it is calibrated, the file of a short run, the run's trainer at the file's step)"""
    out: Path = tmp_path_factory.mktemp("kept")
    trainer = tiny_trainer(out, data, pool, steps=3, eval_every=3, calibrate=request.param)
    return request.param, trainer.train(progress=False), trainer


def test_the_file_holds_the_average_not_the_last_weights(kept):
    _, generator, trainer = kept
    for name, value in generator.network.state_dict().items():
        assert torch.equal(value, trainer.average.state_dict()[name]), name
    assert not torch.allclose(generator.network.start.weight, trainer.generator.start.weight, atol=1e-4)


def test_class_means_of_the_file_are_where_its_samples_lie(kept, data):
    calibrated, generator, _ = kept
    drawn = generator.sample(4 * STATISTICS_SAMPLES, seed=77, center=False)
    means = class_means(drawn.features.mean(dim=1), drawn.labels)
    spread = drawn.features.mean(dim=1).std(dim=0).max()
    assert generator.class_means.abs().min() > 0
    torch.testing.assert_close(generator.class_means, means, rtol=0, atol=0.25 * spread)
    if calibrated:
        real = class_means(data.means, data.labels)
        torch.testing.assert_close(generator.class_means, real)


def test_calibration_is_fitted_where_it_is_asked_for(kept, data):
    """Within-class covariance of utterance means as the real one's, but for the ridge; far from it without."""
    calibrated, generator, _ = kept
    assert (generator.calibration is not None) == calibrated
    drawn = generator.sample(STATISTICS_SAMPLES, seed=2_000_000, center=False)
    made, real = (torch.cov((means - class_means(means, labels)[labels]).T)
                  for means, labels in ((drawn.features.mean(dim=1), drawn.labels), (data.means, data.labels)))
    apart = (made - real).norm() / real.norm()
    assert (apart < 0.4) if calibrated else (apart > 0.6), apart


def test_half_file(tmp_path, data, pool):
    sizes, samples = {}, {}
    for half in (False, True):
        changes = {"steps": 1, "half_file": half, "network": {"channels": 64}}
        generator = tiny_trainer(tmp_path / str(half), data, pool, **changes).train(progress=False)
        sizes[half] = (tmp_path / str(half) / "generator.safetensors").stat().st_size
        samples[half] = generator.sample(4, center=False).features
        assert generator.header.precision == ("float16" if half else "float32")
    torch.testing.assert_close(samples[True], samples[False], rtol=0.02, atol=0.02)
    assert not torch.equal(samples[True], samples[False]) and sizes[True] < 0.6 * sizes[False]


def test_lazy_penalty_comes_every_kth_update_and_weighs_k_times(tmp_path, data, pool):
    trainer = tiny_trainer(tmp_path, data, pool, critic_steps=3, penalty_every=2)
    with_penalty = [(step, number) for step in (1, 2) for number in range(3)
                    if "gradient_penalty" in trainer.critic_terms(step, number)]
    assert with_penalty == [(1, 0), (1, 2), (2, 1)]
    assert trainer.weights["gradient_penalty"] == 20 and trainer.weights["critic_class"] == 1
    assert "gradient_penalty" in trainer.train_step().critic and "gradient_penalty" in trainer.train_step().critic


def test_on_a_gpu_only_steps_that_are_told_or_saved_are_looked_at(tmp_path, data, pool):
    trainer = tiny_trainer(tmp_path, data, pool, steps=11, log_every=5, eval_every=4, save_every=3)
    assert [step for step in range(1, 12) if trainer._pauses_after(step)] == [3, 4, 5, 6, 8, 9, 10, 11]


@pytest.mark.parametrize("threads", [2, 3, 4])
@pytest.mark.parametrize("width", [128, 12])
def test_gan_1d_is_the_same_on_any_number_of_threads(threads, width):
    """To the last bit, at sizes that threads share out; where this machine's products of matrices allow it."""
    one, other = (torch.randn(768, 768, generator=keyed(0, name)) for name in ("one", "other"))
    narrow = one[:, :width].T  # as a layer's gradient has them: an AMD's products differ where others do not
    if not agree(lambda: [one[:64] @ other, one @ other[:, :128], narrow @ other[:, :3 * width]], threads):
        pytest.skip("matrix products round by the number of threads here")
    states, before = [], torch.get_num_threads()
    for number in (1, threads):
        config = load_config(DistillConfig, "gan_1d", [f"network.critic_channels={width}"])
        trainer = make_trainer(config, 320, 4, "cpu")
        trainer.threads = None  # as many as torch takes
        torch.set_num_threads(number)
        for _ in range(2):
            trainer.train_step()
        torch.set_num_threads(before)
        states.append({**trainer.generator.state_dict(prefix="generator."), **trainer.critic.state_dict()})
    assert [name for name, value in states[0].items() if not torch.equal(value, states[1][name])] == []


@pytest.mark.parametrize("terms", [{}, {"frame_covariance": 1}])
def test_probing_threads_changes_nothing(tmp_path, data, pool, terms):
    trainer, other = (tiny_trainer(tmp_path, data, pool, lambdas=terms) for _ in range(2))
    state = {name: value.clone() for name, value in trainer.generator.state_dict().items()}
    gradients = trainer._gradients()
    assert all(torch.equal(value, state[name]) for name, value in trainer.generator.state_dict().items())
    assert len(gradients) == len(trainer._gradients()) > 3 * len(state) / 2
    assert all(parameter.grad is None for parameter in [*trainer.critic.parameters(), *trainer.generator.parameters()])
    trainer.train_step()
    other.threads = None
    other.train_step()
    assert all(torch.equal(value, other.generator.state_dict()[name])
               for name, value in trainer.generator.state_dict().items())

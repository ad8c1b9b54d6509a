"""The distiller: critic steps, then a generator step (Eq. 1-8), selection on dev, resumable at any step.

Here are the updates, the loop and the checkpoints; evaluator.py measures a generator, finish.py makes it a file.

Nothing here keeps random state: batches and noise are keyed by (seed, step), so a run that was killed ends like one
that was not. Under torchrun each rank takes its share of the same global batch.
"""

import contextlib
import copy
import dataclasses
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from tqdm import tqdm

from ..devices import HelpfulThreads
from ..errors import UserError
from ..files import write_json
from ..generator import Generator, Network, build_generator
from ..pool.frame_heads import Kind
from ..pool.heads import HeadStack
from ..pool.kinds import HEADS
from ..pool.pool import Pool
from ..rng import keyed
from . import losses
from .batches import Batches, balanced_size
from .checkpoint import check_identity, identity, load_checkpoint, save_checkpoint
from .config import DistillConfig
from .critic import Critic, CriticOutput, FirstOutput
from .data import Scale, TrainingData
from .distributed import average_gradients, gather, joined_ranks, mean_over_ranks, wait_for_all
from .evaluator import Evaluator
from .fast.graphs import CriticBatch, Replayed, Updated, take_step, tuned
from .fast.layers import as_trained
from .finish import FileMaker
from .log import RunLog
from .losses import Diversity, Terms
from .parts import Parts
from .selection import HEAD_STEPS, Best, Evaluation, HeadSteps
from .size import check_size

STEPS_PROBED = 3
"""Steps whose gradients tell whether they have the same bits on any number of threads."""

GENERATOR = "generator.safetensors"
"""The file that is kept, in the run's folder."""

MODULES = ("generator", "critic", "average", "generator_optimizer", "critic_optimizer")
"""What a checkpoint keeps the state of."""


class GeneratorTerms(NamedTuple):
    """The generator's loss terms, and the share of pairs that Eq. 7 clamped (None where it is off)."""

    terms: Terms
    clamped: torch.Tensor | None


class StepLog(NamedTuple):
    """What a step was made of: the last critic update's terms, the generator's, and gradient norms; all detached."""

    critic: Terms
    generator: Terms
    critic_norm: torch.Tensor
    generator_norm: torch.Tensor
    clamped: torch.Tensor | None

    def values(self) -> dict[str, float]:
        """All of it as numbers by name, with the critic's estimate of the Wasserstein-1 distance."""
        values = {**self.critic, **self.generator, "critic_norm": self.critic_norm,
                  "generator_norm": self.generator_norm, "wasserstein": -self.critic["critic_score"]}
        if self.clamped is not None:
            values["clamped"] = self.clamped
        return {name: float(value) for name, value in values.items()}


class WholeBatch(NamedTuple):
    """A generator step's batch over all ranks, where samples are compared with one another; with gradients."""

    fake: torch.Tensor
    """Generated frames [B, T, D], standardised."""

    means: torch.Tensor
    """Their utterance means in the upstream's own units, [B, D]."""

    labels: torch.Tensor
    """[B] class indices, 0, 1, ..., C - 1, 0, 1, ..."""


class Trainer:
    """One distillation into the folder `out`: generator.safetensors, checkpoint.pt, log.log, TensorBoard, metrics.json.

    `generator` and `critic` are trained, `average` is the exponential average of the generator's weights.
    """

    def __init__(self, config: DistillConfig, data: TrainingData, out: str | Path, parts: Parts,
                 pool: Pool | None = None, device: str | torch.device = "cpu",
                 head_steps: HeadSteps = HEAD_STEPS) -> None:
        """pool: where config.needs_pool. UserError for what cannot be trained, before any work."""
        self.rank, self.world = self.ranks = joined_ranks()
        self.out, self.device, self.parts = Path(out), torch.device(device), parts
        self.network = config.network.sized(len(data.class_counts), data.dim)
        self.pool = _fitting_pool(config, pool, data.dim)
        batch = balanced_size(config.batch, self.network.classes, self.world)
        self.config = dataclasses.replace(config, batch=batch)
        self.weights = self.config.weights
        _check_data(data, self.network)
        _check_speakers(data, config)
        check_size(self.network)
        self.data = data.to(self.device)
        self._take_pool()
        self.maker = FileMaker(self.config, self.network, self.data, parts, self.pool, head_steps)
        self.evaluator = Evaluator(self.config, self.data, self.maker.suppression, head_steps)
        self.batches = Batches(self.data, batch, self.network.noise, config.seed, self.ranks, self.device)
        self._make_networks()
        self._measure_real()
        recordable = self.device.type == "cuda" and self.world == 1
        self.replayed = Replayed(self._update_critic, self.device) if recordable else None
        self.step, self.best = 0, Best()
        self.history: list[Evaluation] = []

    def _make_networks(self) -> None:
        """Networks and optimisers; initial weights by the configuration's seed, the global stream stays as it was."""
        config = self.config
        with _layers_seeded(config.seed):
            self.generator = build_generator(self.network).to(self.device)
            self.critic = Critic(self.network).to(self.device)
            as_trained(self.generator)
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        self.generator_optimizer = _adam(self.generator, config.generator_lr, config.betas)
        self.critic_optimizer = _adam(self.critic, config.critic_lr, config.betas)

    def _take_pool(self) -> None:
        """The pool's heads on the device, for losses; their weights stay as they are."""
        if self.pool is not None:
            self.pool.heads.to(self.device).requires_grad_(False)
            self.heads = self.pool.heads.linear()
            for kind in self.config.pool_kinds:
                self.pool.of_kind(kind).heads.to(self.device).requires_grad_(False)

    def _measure_real(self) -> None:
        """What the losses take of the real data, on the device."""
        data = self.data
        self.mean, self.std = data.mean.to(self.device), data.std.to(self.device)
        if self.config.lambdas.mmd:
            self.mean_scale = Scale.of(data.means)
            means, labels = self.mean_scale.units(data.means), data.labels  # [N, D], [N]
            self.real_means = [means[labels == label].to(self.device) for label in range(self.network.classes)]
            self.mean_scale = Scale(*(values.to(self.device) for values in self.mean_scale))

    # one update

    def autocast(self) -> torch.autocast:
        """Where the networks' passes take the configured precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16")

    def critic_terms(self, step: int, number: int) -> Terms:
        """Eq. 1 and 4 on a new batch, this rank's share of it, for the step's critic update of this number."""
        return self._critic_terms(self._critic_batch(step, number))

    def _critic_batch(self, step: int, number: int) -> CriticBatch:
        key = step, number
        mix = self.batches.mix("mix", *key) if self._penalises(step, number) else None
        return CriticBatch(self.batches.real("critic-real", *key), self.batches.noise("critic-noise", *key), mix)

    def _critic_terms(self, batch: CriticBatch) -> Terms:
        first = self._first(batch)
        return self._judgement(first) | ({} if batch.mix is None else self._penalty(first, batch.mix))

    def _first(self, batch: CriticBatch) -> FirstOutput:
        """What the critic's first layers make of real samples and behind them of generated ones: one pass for both."""
        with torch.no_grad(), self.autocast():
            fake = _full(self.generator(batch.noise, self.batches.labels))
        with self.autocast():
            return self.critic.first(torch.cat([batch.real, fake]))

    def _penalty(self, first: FirstOutput, mix: torch.Tensor) -> Terms:
        """Eq. 1, the gradient penalty."""
        with self.autocast():
            gradient = self.critic.gradient(first.between(mix))
        return {"gradient_penalty": losses.gradient_penalty(gradient)}

    def _judgement(self, first: FirstOutput) -> Terms:
        """Eq. 1 and 4, all but the penalty."""
        lambdas, labels = self.config.lambdas, self.batches.labels
        with self.autocast():
            on_real, on_fake = self.critic.rest(first).split()
        terms = {"critic_score": losses.critic_score(_full(on_real.score), _full(on_fake.score))}
        if lambdas.critic_class:
            terms["critic_class"] = F.cross_entropy(_full(on_real.logits), labels)
        if lambdas.critic_class_fake:
            terms["critic_class_fake"] = F.cross_entropy(_full(on_fake.logits), labels)
        return terms

    def _penalises(self, step: int, number: int) -> bool:
        """Whether this critic update has the gradient penalty."""
        number += (step - 1) * self.config.critic_steps
        return self.config.lambdas.gradient_penalty > 0 and number % self.config.penalty_every == 0

    def _update_critic(self, batch: CriticBatch, step: int | None = None) -> Updated:
        """One step of the critic; step: given, its terms are looked at (see `update`)."""
        terms = self._critic_terms(batch)
        norm = self.update(self.critic, self.critic_optimizer, terms, step)
        return Updated(_detached(terms), norm)

    def _critic_step(self, step: int, number: int) -> Updated:
        """The step's critic update of this number, on a GPU by a recording."""
        batch = self._critic_batch(step, number)
        if self.replayed is None:
            return self._update_critic(batch, step)
        updated = self.replayed(batch)
        if self._pauses_after(step):
            self._check_finite(self.critic, *updated, step)
        return updated

    def generator_terms(self, step: int) -> GeneratorTerms:
        """Eq. 5 and 8 and what lies beyond, on a new batch; each term is computed only if its weight is not 0."""
        lambdas, labels = self.config.lambdas, self.batches.labels
        real, noise = self.batches.real("real", step), self.batches.noise("noise", step)
        with self.autocast():
            fake = self.generator(noise, labels)
            on_fake = self.critic(fake)
        fake = _full(fake)
        terms = {"generator_score": losses.generator_score(_full(on_fake.score))}
        if lambdas.feature_matching:
            terms["feature_matching"] = self._feature_matching(real, on_fake)
        if lambdas.generator_class:
            terms["generator_class"] = F.cross_entropy(_full(on_fake.logits), labels)
        if not (lambdas.softmax_matching or lambdas.diversity or lambdas.mmd or lambdas.hear_frames):
            return GeneratorTerms(terms, None)
        whole, clamped = self._whole_batch(fake), None
        if lambdas.softmax_matching or lambdas.hear_frames:
            real = gather(real, self.world)
        if lambdas.softmax_matching:
            terms["softmax_matching"] = self._softmax_matching(whole, real, step)
        if lambdas.frame_covariance:
            terms["frame_covariance"] = losses.frame_covariance(real, whole.fake, self.network.classes)
        if lambdas.modulation:
            terms["modulation"] = losses.modulation(real, whole.fake, self.network.classes)
        if lambdas.diversity:
            terms["diversity"], clamped = self._diversity(whole, gather(noise, self.world))
        if lambdas.mmd:
            terms["mmd"] = self._mmd(whole)
        return GeneratorTerms(terms, clamped)

    def _feature_matching(self, real: torch.Tensor, on_fake: CriticOutput) -> torch.Tensor:
        """Eq. 3. real: [B, T, D], standardised."""
        with torch.no_grad(), self.autocast():
            on_real = self.critic(real)
        real_maps, fake_maps = ([_full(maps) for maps in output.maps] for output in (on_real, on_fake))
        classes = self.network.classes if self.config.feature_matching == "class" else None
        return losses.feature_matching(real_maps, fake_maps, classes, self._over_ranks)

    def _over_ranks(self, tensor: torch.Tensor) -> torch.Tensor:
        return mean_over_ranks(tensor, self.world)

    def _whole_batch(self, fake: torch.Tensor) -> WholeBatch:
        """Every rank's samples; their gradients add up in gather's backward."""
        all_fake = gather(fake, self.world)
        return WholeBatch(all_fake, self._means(all_fake), self.batches.labels.repeat(self.world))

    def _means(self, frames: torch.Tensor) -> torch.Tensor:
        """Utterance means [B, D], in the upstream's own units, of standardised frames [B, T, D]."""
        return frames.mean(dim=1) * self.std + self.mean

    def _softmax_matching(self, whole: WholeBatch, real: torch.Tensor, step: int) -> torch.Tensor:
        """Eq. 6 with heads drawn for this step. real: [B, T, D], standardised, of the same labels."""
        logits = [self._logits(kind, real, whole, step) for kind in self.config.softmax_kinds]
        real_logits, fake_logits = (torch.cat(side) for side in zip(*logits, strict=True))  # [M, B, C]
        if self.config.softmax_pairing == "assignment":
            order = losses.assign_within_class(_log_softmax(real_logits), _log_softmax(fake_logits), whole.labels)
            real_logits = real_logits[:, order]
        return losses.softmax_matching(real_logits, fake_logits)

    def _logits(self, kind: Kind, real: torch.Tensor, whole: WholeBatch,
                step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [M, B, C] of heads of this kind, of real frames and of generated ones.

        SUPERB's are linear in the utterance mean, and applied to it.
        """
        assert self.pool is not None
        key = ("heads",) if kind == "superb" else ("heads", kind)
        pool = self.pool.of_kind(kind)
        numbers = pool.draw_numbers(self.config.softmax_heads, keyed(self.config.seed, *key, step))
        numbers = numbers.to(self.device, non_blocking=True)
        if not HEADS[kind].hears_frames:
            heads = self.heads.pick(numbers)
            return heads.of_means(self._means(real)), heads.of_means(whole.means)
        stack = pool.heads.pick(numbers).requires_grad_(False)
        with torch.no_grad():
            on_real = stack(self._heard(stack, real))
        return on_real, stack(self._heard(stack, whole.fake))

    def _heard(self, heads: HeadStack, frames: torch.Tensor) -> torch.Tensor:
        """Standardised frames [B, T, D] as a head hears utterances: in the upstream's units, and where the number of
        frames matters as long as real ones are on average."""
        frames = frames * self.std + self.mean
        if not HEADS[heads.kind].counts_frames:
            return frames
        size = round(self.data.mean_length)
        return F.interpolate(frames.transpose(1, 2), size=size, mode="linear").transpose(1, 2)

    def _diversity(self, whole: WholeBatch, noise: torch.Tensor) -> Diversity:
        """Eq. 7: each sample with the next one of its class. noise: [B, Z]"""
        next_fake, next_noise = (values.roll(-self.network.classes, 0) for values in (whole.fake, noise))
        return losses.diversity(whole.fake, next_fake, noise, next_noise, self.config.tau)

    def _mmd(self, whole: WholeBatch) -> torch.Tensor:
        """Beyond the paper: maximum mean discrepancy of utterance means, mean over the classes."""
        means = self.mean_scale.units(whole.means).unflatten(0, (-1, self.network.classes))  # [B / C, C, D]
        return torch.stack([losses.maximum_mean_discrepancy(real, fake)
                            for real, fake in zip(self.real_means, means.unbind(dim=1), strict=True)]).mean()

    def update(self, network: nn.Module, optimizer: torch.optim.Optimizer, terms: Terms, step: int | None
               ) -> torch.Tensor:
        """One step of `network` on the weighted sum of its terms; returns the gradient's norm.

        UserError for a term or a gradient that is not finite, before it spoils the weights and the next checkpoint. On
        a GPU, which would have to be waited for, only steps that are told or saved are looked at: what is not finite
        stays so. step: None looks at nothing
        """
        total = losses.weighted_sum(terms, self.weights)
        optimizer.zero_grad(set_to_none=True)
        total.backward(inputs=[*network.parameters()])  # and of nothing else, such as the penalty's points
        average_gradients(network, self.world)
        norm = torch.nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])
        if step is not None and (self.device.type == "cpu" or self._pauses_after(step)):
            self._check_finite(network, _detached(terms), norm, step)
        if self.device.type == "cuda":
            take_step(optimizer)
        else:
            optimizer.step()
        return norm

    def _check_finite(self, network: nn.Module, terms: Terms, norm: torch.Tensor, step: int) -> None:
        if torch.isfinite(losses.weighted_sum(terms, self.weights) + norm):
            return
        for name, value in terms.items():
            if not torch.isfinite(value):
                raise UserError(f"{self.out}: {name} is {value.item()} at step {step}. The last good state is kept in "
                                "checkpoint.pt; lower the learning rate or this term's weight.")
        which = "critic" if network is self.critic else "generator"
        told = ", ".join(f"{name} {value.item():.3g}" for name, value in terms.items())
        raise UserError(f"{self.out}: the gradient of the {which} is {norm.item()} at step {step}, every term is "
                        f"finite ({told}). The last good state is kept; lower the learning rate.")

    def _pauses_after(self, step: int) -> bool:
        """Whether a step is told, measured or saved."""
        config = self.config
        return step == config.steps or any(
            step % every == 0 for every in (config.log_every, config.eval_every, config.save_every))

    @cached_property
    def threads(self) -> HelpfulThreads | None:
        """How many of them a step takes; None where its layers have work for all of them, or a GPU does it."""
        small = self.network.architecture == "gan_1d" and self.device.type == "cpu"
        return HelpfulThreads(self._gradients) if small else None

    def _gradients(self) -> list[torch.Tensor]:
        """Of the first steps, by the networks as they are; they stay so."""
        before = copy.deepcopy(self.generator.state_dict())
        gradients: list[torch.Tensor] = []
        for step in range(1, STEPS_PROBED + 1):
            gradients += self._gradients_of(self.critic, self.critic_terms(step, 0))
            gradients += self._gradients_of(self.generator, self.generator_terms(step).terms)
        self.generator.load_state_dict(before)  # batch norm's running statistics
        return gradients

    def _gradients_of(self, network: nn.Module, terms: Terms) -> list[torch.Tensor]:
        parameters = [value for value in network.parameters() if value.requires_grad]
        total = losses.weighted_sum(terms, self.weights)
        gradients = torch.autograd.grad(total, parameters, allow_unused=True)
        return [gradient for gradient in gradients if gradient is not None]

    @tuned()
    def train_step(self) -> StepLog:
        """Critic steps, a generator step, and the average of its weights."""
        with self.threads.turn() if self.threads else contextlib.nullcontext():
            return self._step()

    def _step(self) -> StepLog:
        step = self.step + 1
        self.generator.train()
        self.critic.requires_grad_(True)
        told: Terms = {}
        for number in range(self.config.critic_steps):
            critic_terms, critic_norm = self._critic_step(step, number)
            told |= critic_terms
        self.critic.requires_grad_(False)
        generator_terms, clamped = self.generator_terms(step)
        norm = self.update(self.generator, self.generator_optimizer, generator_terms, step)
        update_average(self.average, self.generator, decay=min(self.config.ema, step / (step + 10)))
        self.step = step
        return StepLog(told, _detached(generator_terms), critic_norm, norm, clamped)

    # the whole run

    def train(self, progress: bool = True) -> Generator | None:
        """Train to the end, from the last checkpoint in `out` where there is one.

        Returns the Generator that is kept; None on other ranks than the first.
        """
        self.load()
        self._check_kept()
        lead, steps = self.rank == 0, self.config.steps
        bar = tqdm(total=steps, initial=self.step, desc="distil", unit="step", disable=not (lead and progress))
        with RunLog(self.out, self.step + 1) if lead else contextlib.nullcontext() as log, bar:
            while self.step < steps:
                taken = self.train_step()
                if log is not None:
                    self._after_step(taken, log, bar)
                if self._pauses_after(self.step):
                    wait_for_all(self.world)
                bar.update()
        return self.maker.finish(self.out / GENERATOR, progress) if lead else None

    def _check_kept(self) -> None:
        """UserError where the generator that was kept before is no longer there."""
        path = self.out / GENERATOR
        if self.best.step and not path.is_file():
            raise UserError(f"{path}: is gone; checkpoint.pt beside it says that step {self.best.step} was kept there. "
                            f"Put it back, or delete {self.out / 'checkpoint.pt'} to distil anew.")

    def _after_step(self, taken: StepLog, log: RunLog, bar: tqdm) -> None:
        """What the first rank does for all: tell, measure, save."""
        config, last = self.config, self.step == self.config.steps
        if self.step % config.log_every == 0:
            self._tell(taken, log, bar)
        measured = self.step % config.eval_every == 0 or last
        if measured:
            self.evaluate(log)
        if measured or self.step % config.save_every == 0:
            self.save()

    def _tell(self, taken: StepLog, log: RunLog, bar: tqdm) -> None:
        values = taken.values()
        log.scalars({f"distil/{name}": value for name, value in values.items()}, self.step)
        log.line(f"step {self.step}: " + " ".join(f"{name} {value:.4g}" for name, value in values.items()))
        told = {"W": f"{values['wasserstein']:.2f}"}
        if self.history:
            told["dev"] = f"{self.best.dev_uar:.3f}"
        bar.set_postfix(told)

    def current(self) -> Generator:
        """The averaged generator as a generator file in memory."""
        return self.maker.make(self.average if self.config.ema else self.generator, self.step)

    def evaluate(self, log: RunLog) -> None:
        """Measure the generator on dev, and keep it where dev does not tell it from the best so far."""
        generator = self.current()
        measured = self.evaluator.measure(generator, self.step)
        entry = measured.entry
        self.history.append(entry)
        self.evaluator.tell(measured, self.parts.labels, log)
        self.best = self.best.after(entry, self.evaluator.dev_size)
        if self.best.step == self.step:
            self._keep(generator, entry)
            log.line(f"kept: step {self.step}, dev {entry.dev_uar:.4f}, best so far {self.best.dev_uar:.4f}")
        history = [item._asdict() for item in self.history]
        write_json(self.out / "metrics.json", {"best": self.best._asdict(), "history": history})

    def _keep(self, generator: Generator, entry: Evaluation) -> None:
        metrics = {**entry._asdict(), "measured": "quick heads on samples, UAR on real dev speech"}
        generator.header = dataclasses.replace(generator.header, metrics=metrics)
        generator.save(self.out / GENERATOR, half=self.config.half_file)

    # checkpoints

    def identity(self) -> str:
        """What must be equal to resume."""
        return identity(self.config, self.network, self.parts, self.data, self.pool)

    def save(self) -> None:
        """Write checkpoint.pt."""
        state = {"step": self.step, "best": self.best._asdict(), "history": [entry._asdict() for entry in self.history],
                 "identity": self.identity()}
        state |= {name: getattr(self, name).state_dict() for name in MODULES}
        save_checkpoint(self.out / "checkpoint.pt", state)

    def load(self) -> None:
        """Go on from checkpoint.pt, where there is one; UserError where it is damaged or of another run."""
        path = self.out / "checkpoint.pt"
        if not path.is_file():
            return
        state = load_checkpoint(path, self.device, {"step", "best", "history", "identity", *MODULES})
        check_identity(path, state["identity"], self.identity())
        for name in MODULES:
            getattr(self, name).load_state_dict(state[name])
        if self.replayed is not None:
            self.replayed.forget()
        self.step, self.best = state["step"], Best(**state["best"])
        self.history = [Evaluation(**entry) for entry in state["history"]]


def _fitting_pool(config: DistillConfig, pool: Pool | None, dim: int) -> Pool | None:
    """The pool where the configuration needs one; UserError where it is not there, or of other features."""
    if not config.needs_pool:
        return None
    if pool is None:
        raise UserError("this configuration needs a pool of heads (softmax matching, or a teacher). "
                        "Run `s3prl-dd pool` first, or set teacher: false and these weights to 0.")
    if pool.heads.dim != dim:
        raise UserError(f"the pool's heads take {pool.heads.dim} dimensions, these features have {dim}. "
                        "Run `s3prl-dd pool` on the same features.")
    missing = [kind for kind in config.pool_kinds if kind not in pool.kinds]
    if missing:
        raise UserError(f"the pool has no heads of kind {missing[0]}, which softmax_kinds asks for; it has "
                        f"{', '.join(pool.kinds)}. Run `s3prl-dd pool` with this configuration first.")
    return pool


def _check_data(data: TrainingData, network: Network) -> None:
    if min(data.class_counts) < 1:
        raise UserError(f"a class has no training example (counts {data.class_counts}). Prepare the corpus again.")
    if data.dev is None or not len(data.dev[1]):
        raise UserError("there are no dev utterances, and the generator is chosen on dev. Prepare the corpus again.")
    if data.frames != network.frames:
        raise UserError(f"the data are in {data.frames} frames a sample, network.frames is {network.frames}. "
                        "Build them with the configuration's frames.")


def _check_speakers(data: TrainingData, config: DistillConfig) -> None:
    """UserError where a setting asks who speaks, and the data do not tell."""
    if (config.privacy or config.teacher_folds) and data.speakers is None:
        raise UserError("privacy and teacher_folds: these data do not say who speaks. Build them from a feature store, "
                        "or give 0.")


@contextlib.contextmanager
def _layers_seeded(seed: int) -> Iterator[None]:
    """torch's layers draw their initial weights from the global stream alone: seeded here, restored behind."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Exponential average of weights and running statistics: average = decay * average + (1 - decay) * network."""
    means, values = ([*item.parameters(), *item.buffers()] for item in (average, network))
    with torch.no_grad():
        torch._foreach_lerp_(means, values, 1 - decay)


def _adam(network: nn.Module, rate: float, betas: tuple[float, float]) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), rate, betas, fused=True)


def _full(values: torch.Tensor) -> torch.Tensor:
    """In full precision what autocast made half."""
    return values.float() if values.dtype == torch.bfloat16 else values


def _log_softmax(logits: torch.Tensor) -> torch.Tensor:
    """The heads' outputs [M, B, C] as coordinates of each sample [B, M * C]."""
    return logits.log_softmax(dim=-1).transpose(0, 1).flatten(1)


def _detached(terms: Terms) -> Terms:
    return {name: value.detach() for name, value in terms.items()}

"""The distiller: critic steps, then a generator step (Eq. 1-8), selection on dev, resumable at any step.

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

from ..devices import HelpfulThreads, side_by_side
from ..errors import UserError
from ..files import write_json
from ..generator import Calibration, Generator, LinearHeads, Network, build_generator
from ..generator.calibrate import class_means, fit_calibration
from ..generator.disguise import Disguise
from ..generator.samples import Samples, index_labels
from ..generator.sampling import Lengths
from ..pool.frame_heads import Kind
from ..pool.heads import HeadStack
from ..pool.kinds import HEADS
from ..pool.pool import LabelledFrames, Points, Pool, train_crossed
from ..pool.training import Utterances
from ..rng import keyed
from . import losses
from .anonymous import disguise, pupils, ridge_teacher, speaker_scatter
from .batches import Batches, balanced_size
from .checkpoint import check_identity, identity, load_checkpoint, save_checkpoint
from .config import DistillConfig
from .critic import Critic, CriticOutput, FirstOutput
from .data import Scale, TrainingData
from .distributed import average_gradients, gather, joined_ranks, mean_over_ranks, wait_for_all
from .frames import measure
from .graphs import CriticBatch, Replayed, Updated, take_step, tuned
from .layers import as_trained
from .log import RunLog
from .losses import Diversity, Terms
from .parts import Parts
from .points import learn_points
from .selection import Best, Evaluation, chosen_of_each, project, quick_frame_uar, quick_uar, within_class_distance
from .size import check_size

STATISTICS_SAMPLES = 500
"""Samples of each class that class_means and the calibration are taken from."""

EVALUATION_SAMPLES = 2000
"""Samples of each class, at most, that an evaluation draws; fewer where the corpus has fewer."""

FRAMES_MEASURED = 500
"""Utterances and samples, at most, whose frames an evaluation measures."""

FRAMES_HEARD = 150
"""Samples of each class, at most, that quick heads of kinds which hear frames are trained on."""

STEPS_PROBED = 3
"""Steps whose gradients tell whether they have the same bits on any number of threads."""

STATISTICS_SEED, EVALUATION_SEED, PUPILS_SEED, POINTS_SEED = 2_000_000, 1_000_000, 3_000_000, 4_000_000
"""Added to the configuration's seed: samples that no training step has seen."""

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

    head_steps = 600
    """Steps of the quick heads that an evaluation trains."""

    frame_head_steps = 400
    """The same of kinds that hear frames, which take S3PRL's learning rate but cost more."""

    teacher_steps = 3000
    """The same of a cross-fitted teacher's heads."""

    def __init__(self, config: DistillConfig, data: TrainingData, out: str | Path, parts: Parts,
                 pool: Pool | None = None, device: str | torch.device = "cpu") -> None:
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
        self.wanted_covariance = _wanted_covariance(data, config.privacy, self.device)
        self.disguise = _disguise(data, config.privacy)
        self.data = data.to(self.device)
        self.batches = Batches(self.data, batch, self.network.noise, config.seed, self.ranks, self.device)
        self._make_networks()
        self._measure_real()
        self.teacher = self._make_teacher()
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

    def _measure_real(self) -> None:
        """What the losses take of the real data and the pool, on the device."""
        data = self.data
        self.mean, self.std = data.mean.to(self.device), data.std.to(self.device)
        if self.config.lambdas.mmd:
            self.mean_scale = Scale.of(data.means)
            means, labels = self.mean_scale.units(data.means), data.labels  # [N, D], [N]
            self.real_means = [means[labels == label].to(self.device) for label in range(self.network.classes)]
            self.mean_scale = Scale(*(values.to(self.device) for values in self.mean_scale))
        if self.pool is not None:
            self.pool.heads.to(self.device).requires_grad_(False)
            self.heads = self.pool.heads.linear()
            for kind in self.config.pool_kinds:
                self.pool.of_kind(kind).heads.to(self.device).requires_grad_(False)

    def _make_teacher(self) -> LinearHeads | None:
        """The heads of the file, as linear maps on the device: the pool's best, or cross-fitted ones, or the dial's."""
        config, data, disguised = self.config, self.data, self.disguise
        if not config.teacher:
            return None
        assert data.dev is not None
        if config.teacher_folds:
            assert data.speakers is not None
            train, dev = ((self._as_heard(means), labels)
                          for means, labels in ((data.means, data.labels), data.dev))
            heads = train_crossed(train, dev, data.speakers, config.teacher_folds, steps=self.teacher_steps,
                                  classes=self.network.classes).linear()
            heads = heads if disguised is None else disguised.heard_by_heads(heads)
        elif disguised is not None:
            heads = ridge_teacher((data.means, data.labels), data.dev, disguised)
        else:
            assert self.pool is not None
            heads = self.pool.teacher().linear()
        return heads.to(self.device)

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
        return self._take(network, optimizer, _detached(terms), step)

    def _take(self, network: nn.Module, optimizer: torch.optim.Optimizer, terms: Terms, step: int | None
              ) -> torch.Tensor:
        """As `update`, with gradients that are there. terms: detached"""
        average_gradients(network, self.world)
        norm = torch.nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])
        if step is not None and (self.device.type == "cpu" or self._pauses_after(step)):
            self._check_finite(network, terms, norm, step)
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
        return self._finished(progress) if lead else None

    def _finished(self, progress: bool) -> Generator:
        """The generator that is kept, with pupils and learnt points where the configuration wants them: once, for it
        alone."""
        config, path = self.config, self.out / "generator.safetensors"
        generator = Generator.load(path)
        header = generator.header
        older = header.network != self.network  # it was kept before the run was killed, and went on with other movement
        if older:
            training = {**header.training, "network": dataclasses.asdict(config.network)}
            header = generator.header = dataclasses.replace(header, network=self.network, training=training)
        lacks_pupils = config.teacher_hears == "samples" and not header.training.get("pupils", False)
        lacks_points = config.points > 0 and generator.points is None
        if not (older or lacks_pupils or lacks_points):
            return generator
        if lacks_pupils:
            generator.teacher = pupils(generator, config.seed + PUPILS_SEED, self.teacher_steps)
            generator.header = dataclasses.replace(header, training={**header.training, "pupils": True})
        if lacks_points:
            generator.points = self._learnt_points(generator, progress)
        generator.save(path, half=config.half_file)
        return Generator.load(path)

    def _learnt_points(self, generator: Generator, progress: bool) -> torch.Tensor:
        """[C, n, D], see points.py. With `privacy` they are learnt of disguised speech, and disguised themselves."""
        means, labels = self._as_heard(self.data.means.cpu()), self.data.labels.cpu()
        speakers, chosen = self.data.speakers, chosen_of_each(labels)
        heard = None if speakers is None else speakers.cpu()[chosen]
        points = learn_points(generator, self.config.points, (means[chosen], labels[chosen]), heard,
                              self.config.seed + POINTS_SEED, progress)
        return self._as_heard(points)

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
        network = copy.deepcopy(self.average if self.config.ema else self.generator)
        header = self.parts.header(self.network, self.data, self.config, step=self.step)
        unknown = torch.zeros(self.network.classes, self.network.dim)
        draft = Generator(network, self.mean.clone(), self.std.clone(), unknown, header, self.teacher).to(self.device)
        centers, calibration = self._statistics(draft)
        hidden = None if self.disguise is None else self.disguise.to(self.device)
        return Generator(network, draft.mean, draft.std, centers, header, self.teacher, calibration, disguise=hidden)

    def _statistics(self, draft: Generator) -> tuple[torch.Tensor, Calibration | None]:
        """Where the file's samples lie: class means [C, D], the real ones with a calibration, which leads there."""
        counts = [STATISTICS_SAMPLES] * self.network.classes
        means, labels = _draw_means(draft, counts, self.config.seed + STATISTICS_SEED)  # [C * n, D]
        if not self.config.calibrate:
            return class_means(means, labels), None
        real = self.data.means.to(self.device), self.data.labels.to(self.device)
        calibration = fit_calibration(*real, means, labels, self.wanted_covariance)
        if self.disguise is not None:
            calibration = self.disguise.to(self.device).of_calibration(calibration)
        return calibration.real.clone(), calibration

    def evaluate(self, log: RunLog) -> None:
        """Measure the generator on dev, and keep it where dev does not tell it from the best so far."""
        generator, real = self.current(), (self.data.means, self.data.labels)
        counts = [min(count, EVALUATION_SAMPLES) for count in generator.counts("balanced")]
        means, labels = _draw_means(generator, counts, self.config.seed + EVALUATION_SEED, self.step)
        samples = means.cpu(), labels.cpu()
        distances = within_class_distance(*real), within_class_distance(*samples)
        scores: dict[str, float] = {kind: self._dev_uar(kind, generator, samples) for kind in self.config.eval_kinds}
        entry = Evaluation(self.step, sum(scores.values()) / len(scores), *distances, scores, self._measured(generator))
        self.history.append(entry)
        log.line("dev " + " ".join(f"{key} {value:.4g}" for key, value in entry.numbers().items()))
        log.scalars({"dev/uar": entry.dev_uar, **{f"dev/{kind}": score for kind, score in scores.items()},
                     **{f"frames/{key}": value for key, value in entry.frames.items()}}, self.step)
        within = {"real": entry.distance_real, "generated": entry.distance_generated}
        log.together("dev/within_class_distance", within, self.step)
        log.figure("dev/projection", project(real, samples, self.parts.labels), self.step)
        self.best = self.best.after(entry, self._dev_size())
        if self.best.step == self.step:
            self._keep(generator, entry)
            log.line(f"kept: step {self.step}, dev {entry.dev_uar:.4f}, best so far {self.best.dev_uar:.4f}")
        history = [item._asdict() for item in self.history]
        write_json(self.out / "metrics.json", {"best": self.best._asdict(), "history": history})

    def _dev_size(self) -> int:
        """Utterances that measure a generator."""
        assert self.data.dev is not None
        return len(self.data.dev[1])

    def _dev_uar(self, kind: Kind, generator: Generator, samples: Points) -> float:
        """UAR on dev of quick heads of this kind. samples: utterance means [n, D] and class indices, not centred."""
        assert self.data.dev is not None
        heads, classes, soft = self.config.eval_heads, self.network.classes, self.config.eval_labels == "soft"
        if HEADS[kind].hears_frames:
            heard, targets = self._heard_samples(kind, generator)
            dev = self._heard_dev.to(self.device), self.data.dev[1].to(self.device)
            return quick_frame_uar(kind, (heard, targets), dev, heads, self.frame_head_steps, classes)
        if soft:
            counts = torch.bincount(samples[1]).tolist()
            samples = _draw_means(generator, counts, self.config.seed + EVALUATION_SEED, self.step, soft=True)
            samples = samples[0].cpu(), samples[1].cpu()
        scale = self.data.means.std(dim=0).mean()
        means, labels = self.data.dev
        return quick_uar(samples, (self._as_heard(means), labels), scale, heads, self.head_steps, classes)

    @cached_property
    def _heard_dev(self) -> Utterances:
        """Frames of dev as heads on samples hear them."""
        whole = self.data.dev_frames
        if self.disguise is None:
            return whole
        return Utterances.of(self._as_heard(frames[:length]) for frames, length in zip(*whole, strict=True))

    def _as_heard(self, speech: torch.Tensor) -> torch.Tensor:
        """Real speech [..., D] as heads on samples hear it."""
        return speech if self.disguise is None else self.disguise.to(speech.device).of(speech)

    def _heard_samples(self, kind: Kind, generator: Generator) -> LabelledFrames:
        """Samples as heads of this kind hear them in training, and their labels."""
        soft = self.config.eval_labels == "soft"
        budget = [min(count, FRAMES_HEARD) for count in generator.counts("balanced")]
        lengths: Lengths = "corpus" if HEADS[kind].counts_frames else "generator"
        parts = generator.draw_set(index_labels(budget), self.config.seed + EVALUATION_SEED, self.step, lengths,
                                   center=soft)
        drawn = Samples.join(list(parts))
        return Utterances(drawn.features, drawn.lengths.to(self.device)), _targets(drawn, soft).to(self.device)

    def _measured(self, generator: Generator) -> dict[str, float]:
        """Frames and lengths of real utterances and of samples beside each other."""
        real = self.data.some_frames(FRAMES_MEASURED)
        labels = torch.arange(FRAMES_MEASURED) % self.network.classes
        seed = self.config.seed + EVALUATION_SEED
        made = torch.cat([part.frames for part in generator.raw_batches(labels, seed, self.step)])
        lengths = {"length_real": self.data.mean_length,
                   "length_generated": sum(map(sum, generator.header.lengths)) / (101 * self.network.classes)}
        with side_by_side():  # sums round otherwise on another number of threads
            of_real, of_made = measure(real), measure((made - self.mean) / self.std)
        return {**of_real.named("real"), **of_made.named("generated"), **lengths}

    def _keep(self, generator: Generator, entry: Evaluation) -> None:
        metrics = {**entry._asdict(), "measured": "quick heads on samples, UAR on real dev speech"}
        generator.header = dataclasses.replace(generator.header, metrics=metrics)
        generator.save(self.out / "generator.safetensors", half=self.config.half_file)

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


def _wanted_covariance(data: TrainingData, privacy: float, device: torch.device) -> torch.Tensor | None:
    """Of samples within a class, [D, D]; None: the real one, speakers and all. UserError, see speaker_scatter."""
    if not privacy:
        return None
    assert data.speakers is not None
    return speaker_scatter(data.means, data.labels, data.speakers).kept(privacy).to(device)


def _disguise(data: TrainingData, privacy: float) -> Disguise | None:
    """Of utterance means as samples have them; None: they stay as they are."""
    if not privacy:
        return None
    assert data.speakers is not None
    return disguise(data.means, data.labels, data.speakers, privacy)


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


def _draw_means(generator: Generator, counts: list[int], seed: int, epoch: int = 0, soft: bool = False) -> Points:
    """Utterance means [n, D] and class indices [n] of a set of so many samples of each class, a batch at a time.

    soft: of a centred set, with soft labels [n, C]
    """
    parts = generator.draw_set(index_labels(counts), seed, epoch, center=soft)
    means, labels = zip(*((part.features.mean(dim=1), _targets(part, soft)) for part in parts), strict=True)
    return torch.cat(means), torch.cat(labels)


def _targets(part: Samples, soft: bool) -> torch.Tensor:
    """Class indices [n], or soft labels [n, C]."""
    if not soft:
        return part.labels
    assert part.soft_labels is not None
    return part.soft_labels


def _log_softmax(logits: torch.Tensor) -> torch.Tensor:
    """The heads' outputs [M, B, C] as coordinates of each sample [B, M * C]."""
    return logits.log_softmax(dim=-1).transpose(0, 1).flatten(1)


def _detached(terms: Terms) -> Terms:
    return {name: value.detach() for name, value in terms.items()}

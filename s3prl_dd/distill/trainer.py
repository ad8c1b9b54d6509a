"""The distiller: critic steps, then a generator step (Eq. 1-8), selection on dev, resumable at any step.

Nothing here keeps random state: batches and noise are keyed by (seed, step), so a run that was killed ends like one
that was not. Under torchrun each rank takes its share of the same global batch.
"""

import copy
import io
import json
import math
from dataclasses import asdict
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.distributed.nn.functional import all_gather, all_reduce
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from ..errors import UserError
from ..files import atomic_path, text_digest, write_json
from ..generator import Generator
from ..generator.calibrate import fit_calibration
from ..generator.networks import build_generator
from ..pool.pool import score_heads, train_heads
from ..rng import keyed
from . import losses
from .critic import Critic

STATISTICS_SAMPLES = 500  # of each class, for class_means and the calibration


class Trainer:
    """One distillation into the folder `out`: generator.safetensors, checkpoint.pt, log.log, TensorBoard, metrics.json."""

    head_steps = 600  # of the quick heads that an evaluation trains

    def __init__(self, config, data, out, header, pool=None, device="cpu"):
        """config: DistillConfig; data: TrainingData; pool: experts.Pool where config.needs_pool; header: the generator
        file's labels, features and corpus blocks."""
        if config.needs_pool and pool is None:
            raise UserError("this configuration needs a pool of experts (softmax matching, or a teacher). "
                            "Run `s3prl-dd experts` first, or set teacher: false and these weights to 0.")
        self.config, self.data, self.pool, self.out, self.device = config, data.to(device), pool, Path(out), torch.device(device)
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        network = config.network
        network.classes, network.dim, network.frames = len(data.class_counts), data.mean.numel(), data.frames
        if config.needs_pool and pool.heads.get("projector.weight").shape[2] != network.dim:
            raise UserError(f"the pool's heads take {pool.heads.get('projector.weight').shape[2]} dimensions, these features have "
                            f"{network.dim}. Run `s3prl-dd experts` on the same features.")
        share = network.classes * self.world
        if config.batch < 2 * share:
            raise UserError(f"batch {config.batch}: too small for two samples of each of {network.classes} classes on each of "
                            f"{self.world} rank(s). Set it to {2 * share} or more.")
        config.batch -= config.batch % share  # as many of each class on each rank
        if min(data.class_counts) < 1:
            raise UserError(f"a class has no training example (counts {data.class_counts}). Prepare the corpus again.")
        torch.manual_seed(config.seed)  # torch's layers draw their initial weights from the global stream only
        self.generator = build_generator(network).to(self.device)
        self.critic = Critic(network).to(self.device)
        self.average = copy.deepcopy(self.generator).requires_grad_(False)  # exponential average of the weights
        betas = tuple(config.betas)
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), config.generator_lr, betas)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), config.critic_lr, betas)
        self.G, self.D = (torch.compile(self.generator), torch.compile(self.critic)) if config.compile else (
            self.generator, self.critic)
        self.mean, self.std = data.mean.to(self.device), data.std.to(self.device)
        self.labels = torch.arange(config.batch // self.world, device=self.device) % network.classes  # [B] of this rank
        self.drawn_labels = self.labels.cpu().repeat(self.world)  # of all ranks, where real utterances are drawn
        self._prepare_means()
        self.header = {
            **header, "network": asdict(network), "class_counts": data.class_counts, "lengths": data.length_percentiles()}
        self.step, self.best, self.history = 0, {"dev_uar": -1.0, "step": 0}, []

    def _prepare_means(self):
        """Utterance means in units of their own spread, and what the pool's heads make of them."""
        means = self.data.means.to(self.device)  # [N, D], raw
        self.center, self.spread = means.mean(dim=0), means.std(dim=0).clamp(min=1e-6)
        self.real_means = (means - self.center) / self.spread
        self.real_labels = self.data.labels.to(self.device)
        self.teacher = None
        if self.config.needs_pool:
            self.pool.heads.to(self.device).requires_grad_(False)
            if self.config.teacher:
                self.teacher = tuple(tensor.detach() for tensor in self.pool.teacher().linear())

    # one update

    def share(self, tensor):
        """This rank's part of a global batch. The global batch is laid out rank by rank."""
        size = len(tensor) // self.world
        return tensor[self.rank * size:(self.rank + 1) * size].to(self.device, non_blocking=True)

    def noise(self, *key):
        return self.share(torch.randn(self.config.batch, self.config.network.noise, generator=keyed(self.config.seed, *key)))

    def real(self, *key):
        """This rank's real frames [B, T, D] of self.labels."""
        indices, starts = self.data.draw(self.drawn_labels, self.config.seed, *key)
        return self.data.frames_of(*(part.chunk(self.world)[self.rank] for part in (indices, starts)))

    def autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16")

    def critic_terms(self, *key):
        """Eq. 1 and 4 on a new batch."""
        weight = self.config.weight
        real = self.real("critic-real", *key)
        with torch.no_grad(), self.autocast():
            fake = self.G(self.noise("critic-noise", *key), self.labels).float()
        with self.autocast():
            on_real, on_fake = self.D(real), self.D(fake)
        terms = {"critic_score": losses.critic_score(on_real.score.float(), on_fake.score.float())}
        if weight("gradient_penalty"):
            mix = self.share(torch.rand(self.config.batch, generator=keyed(self.config.seed, "mix", *key)))
            terms["gradient_penalty"] = losses.gradient_penalty(lambda x: self.critic(x).score, real, fake, mix)
        if weight("critic_class"):
            terms["critic_class"] = F.cross_entropy(on_real.logits.float(), self.labels)
        if weight("critic_class_fake"):
            terms["critic_class_fake"] = F.cross_entropy(on_fake.logits.float(), self.labels)
        return terms

    def generator_terms(self, step):
        """Eq. 5 and 8 and what lies beyond, on a new batch; each term is computed only if its weight is not 0."""
        config, weight, labels = self.config, self.config.weight, self.labels
        warm = step <= config.warm_steps
        real = self.real("real", step)
        noise = self.noise("noise", step)
        with self.autocast():
            fake = self.G(noise, labels)
            on_fake = self.D(fake)
        fake = fake.float()
        terms = {"generator_score": losses.generator_score(on_fake.score.float())}
        if weight("feature_matching"):
            with torch.no_grad(), self.autocast():
                on_real = self.D(real)
            by_class = labels if config.feature_matching == "class" else None
            terms["feature_matching"] = losses.feature_matching(
                [m.float() for m in on_real.maps], [m.float() for m in on_fake.maps], by_class,
                (lambda means: all_reduce(means) / self.world) if self.world > 1 else None)
        if weight("generator_class"):
            terms["generator_class"] = F.cross_entropy(on_fake.logits.float(), labels)
        if warm:
            return terms
        if any(map(weight, ("softmax_matching", "diversity", "mmd"))):
            # these compare samples, so every rank sees the whole batch; their gradients add up in all_gather's backward
            all_fake, all_labels = gather(fake, self.world), labels.repeat(self.world)
            raw = all_fake * self.std + self.mean  # [B, T, D]
            units = (raw.mean(dim=1) - self.center) / self.spread  # [B, D]
        if weight("softmax_matching"):
            heads = self.pool.draw(config.softmax_heads, keyed(config.seed, "heads", step))
            real_raw = gather(real, self.world) * self.std + self.mean
            with torch.no_grad():
                real_logits = heads(real_raw)
            fake_logits = heads(raw)
            if config.softmax_pairing == "assignment":
                order = losses.assign_within_class(
                    *(side.log_softmax(dim=-1).transpose(0, 1).flatten(1) for side in (real_logits, fake_logits)), all_labels)
                real_logits = real_logits[:, order]
            terms["softmax_matching"] = losses.softmax_matching(
                real_logits, fake_logits, config.softmax_reduction, all_labels, config.temperature)
        if weight("diversity"):
            partner = torch.arange(len(all_labels), device=self.device).roll(-config.network.classes)  # same class, next sample
            of = all_fake if config.diversity_of == "frames" else all_fake.mean(dim=1)
            all_noise = gather(noise, self.world)
            ratio = losses.diversity_ratio(of, of[partner], all_noise, all_noise[partner])
            terms["diversity"] = -ratio.clamp(max=config.tau).mean()
            self.clamped = (ratio > config.tau).float().mean()
        if weight("mmd"):
            terms["mmd"] = torch.stack([
                losses.maximum_mean_discrepancy(self.real_means[self.real_labels == label], units[all_labels == label])
                for label in range(config.network.classes)]).mean()
        return terms

    def update(self, network, optimizer, terms, step):
        """Weighted sum, check, backward, average over ranks, step. Returns the gradient norm."""
        for name, value in terms.items():
            if not torch.isfinite(value):
                raise UserError(f"{self.out}: {name} is {value.item()} at step {step}. The last good state is kept in "
                                "checkpoint.pt and generator.safetensors; lower the learning rate or this term's weight.")
        total = sum(self.config.lambdas.get(name, 1.0) * value for name, value in terms.items())
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        average_gradients(network, self.world)
        norm = torch.nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])
        if not torch.isfinite(norm):  # a step would spoil the weights, and the next checkpoint
            which = "critic" if network is self.critic else "generator"
            raise UserError(f"{self.out}: the gradient of the {which} is {norm.item()} at step {step}, every term is finite ("
                            + ", ".join(f"{name} {value.item():.3g}" for name, value in terms.items())
                            + "). The last good state is kept; lower the learning rate.")
        optimizer.step()
        return norm

    def rate(self, step):
        """Factor of both learning rates at a step, in [0, 1]."""
        done = (step - 1) / self.config.steps
        return {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[self.config.schedule]

    def train_step(self):
        """Critic steps, then a generator step. Returns every term by name, and gradient norms."""
        config, step = self.config, self.step + 1
        for optimizer, base in ((self.generator_optimizer, config.generator_lr), (self.critic_optimizer, config.critic_lr)):
            for group in optimizer.param_groups:
                group["lr"] = base * self.rate(step)
        self.generator.train()
        self.critic.requires_grad_(True)
        for number in range(config.critic_steps):
            terms = self.critic_terms(step, number)
            critic_norm = self.update(self.critic, self.critic_optimizer, terms, step)
        self.critic.requires_grad_(False)
        generator_terms = self.generator_terms(step)
        norm = self.update(self.generator, self.generator_optimizer, generator_terms, step)
        with torch.no_grad():
            decay = min(config.ema, step / (step + 10))
            for mean, value in zip(self.average.state_dict().values(), self.generator.state_dict().values()):
                mean.lerp_(value, 1 - decay)
        self.step = step
        values = {**terms, **generator_terms, "critic_norm": critic_norm, "generator_norm": norm,
                  "wasserstein": -terms["critic_score"]}
        return {name: value.detach() for name, value in values.items()}

    # the whole run

    def train(self, progress=True):
        """Train to the end, from the last checkpoint in `out` where there is one. Returns the best Generator on dev."""
        config, lead = self.config, self.rank == 0
        self.load()
        if lead:
            self.out.mkdir(parents=True, exist_ok=True)
            self.board = SummaryWriter(self.out, purge_step=self.step + 1)
            self.log_file = open(self.out / "log.log", "a", encoding="utf-8")
        with tqdm(total=config.steps, initial=self.step, desc="distil", unit="step", disable=not (lead and progress)) as bar:
            while self.step < config.steps and not self.stopped:
                terms = self.train_step()
                if lead and self.step % config.log_every == 0:
                    self.log_terms(terms, bar)
                last = self.step == config.steps
                if self.step % config.eval_every == 0 or last:
                    if lead:
                        self.evaluate()
                    self.tell_ranks()
                if self.step % config.save_every == 0 or self.step % config.eval_every == 0 or last:
                    self.save()
                if self.world > 1:
                    dist.barrier()
                bar.update()
        if lead:
            self.board.close()
            self.log_file.close()
        return Generator.load(self.out / "generator.safetensors") if lead else None

    @property
    def stopped(self):
        waited = sum(entry["step"] > self.best["step"] for entry in self.history)
        return self.config.patience > 0 and waited >= self.config.patience

    def tell_ranks(self):
        """Every rank learns what rank 0 measured, so that all stop at the same step."""
        if self.world > 1:
            told = [self.best, self.history]
            dist.broadcast_object_list(told, src=0, device=self.device if self.device.type == "cuda" else None)
            self.best, self.history = told

    def log_terms(self, terms, bar=None):
        values = {name: float(value) for name, value in terms.items()}
        if hasattr(self, "clamped"):
            values["clamped"] = float(self.clamped)
        for name, value in values.items():
            self.board.add_scalar(f"distil/{name}", value, self.step)
        self.write(f"step {self.step}: " + " ".join(f"{name} {value:.4g}" for name, value in values.items()))
        if bar is not None:
            bar.set_postfix(W=f"{values['wasserstein']:.2f}", dev=f"{self.best['dev_uar']:.3f}")

    def write(self, line):
        self.log_file.write(line + "\n")
        self.log_file.flush()

    def current(self):
        """The averaged generator as a Generator with its header."""
        network = copy.deepcopy(self.average if self.config.ema else self.generator)
        header = {**self.header, "training": {**asdict(self.config), "step": self.step}, "metrics": dict(self.best)}
        placeholder = torch.zeros(network.config.classes, self.mean.numel())
        generator = Generator(network, self.mean.clone(), self.std.clone(), placeholder, header, self.teacher).to(self.device)
        drawn = generator.sample(STATISTICS_SAMPLES, seed=self.config.seed + 2_000_000)
        means, labels = drawn.features.mean(dim=1), drawn.labels  # [C * n, D]
        generator.class_means = losses.class_means(means, labels)
        if self.config.calibrate:
            generator.calibration = fit_calibration(self.data.means.to(self.device), self.real_labels, means, labels)
            generator.class_means = generator.calibration[2].clone()  # the real ones: what calibration leads to
        return generator

    def evaluate(self):
        """Quick SER heads on fresh samples, UAR on real dev speech; keeps the generator if it is the best so far."""
        config = self.config
        generator = self.current()
        samples = generator.sample("balanced", seed=config.seed + 1_000_000, epoch=self.step)
        means, labels = samples.features.mean(dim=1).cpu(), samples.labels.cpu()
        soft = samples.soft_labels.cpu() if config.eval_soft else None
        scale = self.data.means.std(dim=0).mean()
        kept = train_heads(means / scale, labels, range(config.eval_heads), steps=self.head_steps, lr=3e-3, soft_labels=soft,
                           snapshots=[self.head_steps * part // 6 for part in (3, 4, 5)], classes=config.network.classes)
        dev_means, dev_labels = self.data.dev
        scores = [score for _, heads in kept for score in score_heads(heads, dev_means / scale, dev_labels)]
        score = sum(scores) / len(scores)  # over heads and their last snapshots: dev sets are small
        within = {"real": within_class_distance(self.data.means, self.data.labels),
                  "generated": within_class_distance(means, labels)}
        entry = {"step": self.step, "dev_uar": score, "distance_real": within["real"], "distance_generated": within["generated"]}
        self.history.append(entry)
        self.write("dev " + " ".join(f"{key} {value:.4g}" for key, value in entry.items()))
        self.board.add_scalar("dev/uar", score, self.step)
        self.board.add_scalars("dev/within_class_distance", within, self.step)
        self.board.add_figure("dev/projection", project(self.data.means, self.data.labels, means, labels,
                                                        self.header["labels"]), self.step)
        if score > self.best["dev_uar"]:
            self.best = {"dev_uar": score, "step": self.step}
            generator.header["metrics"] = {**entry, "measured": "quick heads on samples, UAR on real dev speech"}
            generator.save(self.out / "generator.safetensors", half=config.half_file)
            self.write(f"new best on dev at step {self.step}: {score:.4f}")
        write_json(self.out / "metrics.json", {"best": self.best, "history": self.history})

    # checkpoints

    def save(self):
        if self.rank:
            return
        state = {"step": self.step, "best": self.best, "history": self.history, "identity": self.identity(),
                 "generator": self.generator.state_dict(), "critic": self.critic.state_dict(),
                 "average": self.average.state_dict(), "generator_optimizer": self.generator_optimizer.state_dict(),
                 "critic_optimizer": self.critic_optimizer.state_dict()}
        buffer = io.BytesIO()  # torch.save hides the operating system's error (a full disk) when it writes to a file itself
        torch.save(state, buffer)
        with atomic_path(self.out / "checkpoint.pt") as temporary:
            temporary.write_bytes(buffer.getbuffer())

    def load(self):
        path = self.out / "checkpoint.pt"
        if not path.is_file():
            return
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
        except Exception as error:
            raise UserError(f"{path}: not a whole checkpoint ({error}). Delete it to start anew.") from None
        if state["identity"] != self.identity():
            raise UserError(f"{path}: belongs to another configuration or other data. Use another --out, or delete it.")
        for name in ("generator", "critic", "average", "generator_optimizer", "critic_optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.step, self.best, self.history = state["step"], state["best"], state["history"]

    def identity(self):
        """What must be equal to resume: configuration, data and pool."""
        config = {**asdict(self.config), "steps": None, "patience": None}
        numbers = [*self.data.labels.tolist(), *(self.pool.dev_uar if self.config.needs_pool else ())]
        for utterance in self.data.utterances:  # exact on any machine, unlike sums
            numbers += [len(utterance), utterance[0, 0].item()]
        return json.dumps([config, self.header["corpus"], self.header["features"], text_digest(map(repr, numbers))], sort_keys=True)


def gather(tensor, world):
    """The tensors of all ranks behind one another, with gradients. [B, ...] -> [world * B, ...]"""
    return torch.cat(all_gather(tensor.contiguous())) if world > 1 else tensor


def average_gradients(network, world):
    """Mean of the ranks' gradients. (DDP does not take the critic's double backward.)"""
    if world == 1:
        return
    for parameter in network.parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= world


def within_class_distance(means, labels):
    """Mean pairwise distance of utterance means [N, D] within their class: diversity, real beside generated."""
    return torch.cat([torch.pdist(means[labels == label]) for label in labels.unique()]).mean().item()


def project(real, real_labels, fake, fake_labels, names):
    """A matplotlib figure: real and generated utterance means on the first two linear discriminants of the real ones."""
    from matplotlib.figure import Figure
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    lda = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto", n_components=min(2, len(names) - 1))
    lda.fit(real.numpy(), real_labels.numpy())
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    for axis, title, points, labels in ((axes[0], "real", real, real_labels), (axes[1], "generated", fake, fake_labels)):
        flat = lda.transform(points.numpy())
        flat = flat if flat.shape[1] == 2 else flat.repeat(2, axis=1)
        for name, label in names.items():
            here = (labels == label).numpy()
            axis.scatter(flat[here, 0], flat[here, 1], s=6, alpha=0.6, label=name)
        axis.set(title=f"{title} utterance means", xlabel="discriminant 1", ylabel="discriminant 2")
    axes[0].legend(frameon=False)
    return figure

"""The pool of experts: SER heads trained on real features, many seeds and many steps along their training (Eq. 6)."""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm import tqdm

from ..errors import UserError
from ..files import atomic_path
from ..metrics import uar
from ..rng import keyed
from .heads import SUPERB_KEYS, Heads


class Pool:
    """Snapshots of heads: `heads` (M of them), `steps` and `seeds` [M], `dev_uar` [M]."""

    def __init__(self, heads, steps, seeds, dev_uar):
        self.heads, self.steps, self.seeds, self.dev_uar = heads, list(steps), list(seeds), list(dev_uar)

    def __len__(self):
        return len(self.steps)

    def draw(self, number, generator):
        """`number` snapshots (Eq. 6: a new draw of m at each step) as Heads."""
        return self.heads.pick(torch.randint(len(self), (number,), generator=generator))

    def teacher(self):
        """Best-on-dev snapshot of each seed, as Heads: their mean softmax gives soft labels."""
        best = {}
        for index, (seed, score) in enumerate(zip(self.seeds, self.dev_uar)):
            if seed not in best or score >= self.dev_uar[best[seed]]:
                best[seed] = index
        return self.heads.pick(torch.tensor(list(best.values())))

    def save(self, path):
        about = {"kind": self.heads.kind, "steps": self.steps, "seeds": self.seeds, "dev_uar": self.dev_uar}
        with atomic_path(path) as temporary:
            save_file({key: value.contiguous() for key, value in self.heads.state().items()}, temporary,
                      metadata={"s3prl_dd_pool": json.dumps(about)})

    @classmethod
    def load(cls, path):
        if not Path(path).is_file():
            raise UserError(f"{path}: no such pool. `s3prl-dd experts` writes one.")
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads(file.metadata()["s3prl_dd_pool"])
                stack = {key: file.get_tensor(key) for key in file.keys()}
        except (SafetensorError, KeyError, TypeError) as error:
            raise UserError(f"{path}: not a pool of experts ({error}). `s3prl-dd experts` writes one.") from None
        return cls(Heads(stack, about["kind"]), about["steps"], about["seeds"], about["dev_uar"])

    @classmethod
    def from_s3prl(cls, checkpoints, dev):
        """A pool of checkpoints of S3PRL's own `-d emotion` runs: (path, dict) pairs, those of one folder count as one seed.

        dev: (means [N, D], labels [N]) to score them on. Each run has learnt layer weights of its own, so on features of
        other weights its heads are a little off.
        """
        stacks, steps = [], []
        for path, checkpoint in checkpoints:
            try:
                stacks.append({key: checkpoint["Downstream"][key] for key in SUPERB_KEYS})
                steps.append(int(checkpoint["Step"]))
            except (KeyError, TypeError) as error:
                raise UserError(f"{path}: not a checkpoint of S3PRL's emotion head (no {error}).") from None
            dim = stacks[-1]["projector.weight"].shape[1]
            if dim != dev[0].shape[1]:
                raise UserError(f"{path}: its head takes {dim} dimensions, these features have {dev[0].shape[1]}. "
                                "Give runs of the same upstream.")
        heads = Heads({key: torch.stack([item[key] for item in stacks]) for key in SUPERB_KEYS})
        return cls(heads, steps, [str(Path(path).parent) for path, _ in checkpoints], score_heads(heads, *dev))


def train_heads(means, labels, seeds, steps=3000, batch=32, lr=1e-3, soft_labels=None, snapshots=(), classes=4,
                clip=1.0, progress=False):
    """Train a SUPERB head for each seed, all at once, S3PRL's recipe on utterance means (the head is linear in them).

    means: [N, D]; labels: [N]; soft_labels: [N, C] or None; snapshots: steps to keep
    returns: list of (step, Heads), the last step always among them
    """
    heads = Heads.create(seeds, means.shape[1], classes)
    optimizer = torch.optim.Adam(heads.parameters(), lr=lr)
    targets = soft_labels if soft_labels is not None else F.one_hot(labels, classes).float()
    orders = [keyed(seed, "order") for seed in seeds]
    queue = torch.empty(len(seeds), 0, dtype=torch.long)
    wanted, kept = {*snapshots, steps}, []
    for step in tqdm(range(1, steps + 1), desc="experts", unit="step", disable=not progress):
        while queue.shape[1] < batch:
            queue = torch.cat([queue, torch.stack([torch.randperm(len(means), generator=order) for order in orders])], dim=1)
        index, queue = queue[:, :batch], queue[:, batch:]  # [M, B]
        logits = heads.of_means(means[index])  # [M, B, C]
        loss = -(targets[index] * logits.log_softmax(dim=-1)).sum(dim=-1).mean(dim=1)  # [M]
        optimizer.zero_grad()
        loss.sum().backward()
        clip_each(heads, clip)
        optimizer.step()
        if step in wanted:
            kept.append((step, Heads(heads.state())))
    return kept


def clip_each(heads, limit):
    """Gradient clipping to norm `limit` for each head of the stack by itself, as each S3PRL run would."""
    gradients = [parameter.grad for parameter in heads.parameters()]
    norms = sum(gradient.flatten(1).square().sum(dim=1) for gradient in gradients).sqrt()
    scale = (limit / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient *= scale.view(-1, *[1] * (gradient.dim() - 1))


def score_heads(heads, means, labels):
    """UAR of each head on utterance means [N, D]: list of M fractions."""
    with torch.no_grad():
        predicted = heads.of_means(means).argmax(dim=-1)
    return [uar(labels, row) for row in predicted]


def train_pool(train, dev, seeds=10, steps=3000, snapshots=20, lr=1e-3, classes=4, progress=True):
    """A Pool of `seeds` SUPERB heads with `snapshots` each, at steps spread as squares (early ones are close together).

    train, dev: (means [N, D], labels [N])
    """
    at = sorted({max(1, round(steps * (number / snapshots) ** 2)) for number in range(1, snapshots + 1)})
    kept = train_heads(*train, range(seeds), steps, lr=lr, snapshots=at, classes=classes, progress=progress)
    stack = {key: torch.cat([heads.state()[key] for _, heads in kept]) for key in SUPERB_KEYS}
    scores = [score for _, heads in kept for score in score_heads(heads, *dev)]
    return Pool(Heads(stack), [step for step, heads in kept for _ in range(seeds)],
                [seed for _ in kept for seed in range(seeds)], scores)

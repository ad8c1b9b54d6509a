"""The pool: SER heads trained on real features, many seeds and many steps along their training (Eq. 6)."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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

Points = tuple[torch.Tensor, torch.Tensor]
"""Utterance means [N, D] and their class indices [N]."""

KIND = "superb"


class Snapshot(NamedTuple):
    """M heads at a step of their training."""

    step: int
    heads: Heads


class Pool:
    """Snapshots of heads: `heads` (M of them), `steps` and `seeds` [M], `dev_uar` [M]."""

    def __init__(self, heads: Heads, steps: Iterable[int], seeds: Iterable[int | str],
                 dev_uar: Iterable[float]) -> None:
        self.heads, self.steps, self.seeds, self.dev_uar = heads, list(steps), list(seeds), list(dev_uar)

    def __len__(self) -> int:
        return len(self.steps)

    def draw(self, number: int, generator: torch.Generator) -> Heads:
        """`number` snapshots, drawn with replacement (Eq. 6: a new draw of m at each step)."""
        return self.heads.pick(self.draw_numbers(number, generator))

    def draw_numbers(self, number: int, generator: torch.Generator) -> torch.Tensor:
        """Which snapshots `draw` takes, [number]."""
        return torch.randint(len(self), (number,), generator=generator)

    def teacher(self) -> Heads:
        """Best-on-dev snapshot of each seed, the latest of equals: their mean softmax gives soft labels."""
        best: dict[int | str, int] = {}
        for index, (seed, score) in enumerate(zip(self.seeds, self.dev_uar, strict=True)):
            if seed not in best or score >= self.dev_uar[best[seed]]:
                best[seed] = index
        return self.heads.pick(torch.tensor(list(best.values())))

    def save(self, path: str | Path) -> None:
        """Write the pool as one .safetensors, whole or not at all."""
        about = {"kind": KIND, "steps": self.steps, "seeds": self.seeds, "dev_uar": self.dev_uar}
        with atomic_path(path) as temporary:
            save_file({key: value.contiguous() for key, value in self.heads.state().items()}, temporary,
                      metadata={"s3prl_dd_pool": json.dumps(about)})

    @classmethod
    def load(cls, path: str | Path) -> "Pool":
        """Read what save() wrote. UserError for a file that is missing, cut off, foreign or of other heads."""
        if not Path(path).is_file():
            raise UserError(f"{path}: no such pool. `s3prl-dd pool` writes one.")
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads(file.metadata()["s3prl_dd_pool"])
                stack = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, it is no dict
            kind, steps, seeds, dev_uar = (about[key] for key in ("kind", "steps", "seeds", "dev_uar"))
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: not a pool of heads ({error}). `s3prl-dd pool` writes one.") from None
        if kind != KIND:
            raise UserError(f"{path}: a pool of {kind} heads, only {KIND} ones serve. `s3prl-dd pool` writes one.")
        if complaint := _complaint(stack, [steps, seeds, dev_uar]):
            raise UserError(f"{path}: {complaint}. Copy it again, or write it anew by `s3prl-dd pool`.")
        return cls(Heads({key: stack[key] for key in SUPERB_KEYS}), steps, seeds, dev_uar)

    @classmethod
    def from_s3prl(cls, checkpoints: Sequence[tuple[str | Path, Mapping[str, Any]]], dev: Points) -> "Pool":
        """A pool of checkpoints of S3PRL's own `-d emotion` runs: (path, content) pairs; a folder's are one seed.

        dev: scores them. Each run has learnt layer weights of its own, so on features of other weights its heads are a
        little off.
        """
        stacks, steps = [], []
        for path, checkpoint in checkpoints:
            try:
                stacks.append({key: checkpoint["Downstream"][key] for key in SUPERB_KEYS})
                steps.append(int(checkpoint["Step"]))
            except (KeyError, TypeError) as error:
                raise UserError(f"{path}: not a checkpoint of S3PRL's emotion head (no {error}).") from None
            dim = stacks[-1][SUPERB_KEYS[0]].shape[1]
            if dim != dev[0].shape[1]:
                raise UserError(f"{path}: its head takes {dim} dimensions, these features have {dev[0].shape[1]}. "
                                "Give runs of the same upstream.")
        heads = Heads({key: torch.stack([item[key] for item in stacks]) for key in SUPERB_KEYS})
        return cls(heads, steps, [str(Path(path).parent) for path, _ in checkpoints], score_heads(heads, *dev))


def _complaint(stack: Mapping[str, torch.Tensor], columns: Sequence[object]) -> str | None:
    """What is wrong with a pool file's tensors and its lists of steps, seeds and scores; None for nothing."""
    if set(stack) != set(SUPERB_KEYS):
        return f"expected the tensors {', '.join(SUPERB_KEYS)}, found {', '.join(sorted(stack)) or 'none'}"
    if not all(stack[key].is_floating_point() and torch.isfinite(stack[key]).all() for key in SUPERB_KEYS):
        return "its tensors hold numbers that are not finite"
    first, first_bias, last, last_bias = (tuple(stack[key].shape) for key in SUPERB_KEYS)
    if len(first) != 3 or len(last) != 3 or not first[0]:
        return f"expected weights [heads, outputs, inputs], found {first} and {last}"
    heads, hidden, classes = first[0], first[1], last[1]
    if (first_bias, last, last_bias) != ((heads, hidden), (heads, classes, hidden), (heads, classes)):
        return f"its tensors do not fit together: {first}, {first_bias}, {last}, {last_bias}"
    if not all(isinstance(column, list) and len(column) == heads for column in columns):
        return f"expected a step, a seed and a score for each of {heads} heads"
    return None


def train_heads(means: torch.Tensor, labels: torch.Tensor, seeds: Sequence[object], steps: int = 3000, batch: int = 32,
                lr: float = 1e-3, snapshots: Iterable[int] = (), classes: int = 4, clip: float = 1.0,
                progress: bool = False) -> list[Snapshot]:
    """Train a SUPERB head for each seed, all at once, S3PRL's recipe on utterance means (the head is linear in them).

    means: [N, D]; labels: [N]; snapshots: steps to keep, the last step always among them
    lr: Adam's; clip: bound of each head's gradient norm
    """
    heads = Heads.create(seeds, means.shape[1], classes)
    optimizer = torch.optim.Adam(heads.parameters(), lr=lr)
    targets = F.one_hot(labels, classes).float()
    orders = [keyed(seed, "order") for seed in seeds]
    queue = torch.empty(len(seeds), 0, dtype=torch.long)
    wanted, kept = {*snapshots, steps}, []
    for step in tqdm(range(1, steps + 1), desc="pool", unit="step", disable=not progress):
        while queue.shape[1] < batch:
            epoch = torch.stack([torch.randperm(len(means), generator=order) for order in orders])
            queue = torch.cat([queue, epoch], dim=1)
        index, queue = queue[:, :batch], queue[:, batch:]  # [M, B]
        logits = heads.of_means(means[index])  # [M, B, C]
        loss = -(targets[index] * logits.log_softmax(dim=-1)).sum(dim=-1).mean(dim=1)  # [M]
        optimizer.zero_grad()
        loss.sum().backward()
        clip_each(heads, clip)
        optimizer.step()
        if step in wanted:
            kept.append(Snapshot(step, Heads(heads.state())))
    return kept


def clip_each(heads: Heads, limit: float) -> None:
    """Clip the gradient of each head of the stack by itself to norm `limit`, as each S3PRL run would."""
    gradients = [parameter.grad for parameter in heads.parameters() if parameter.grad is not None]
    squares = gradients[0].new_zeros(len(heads))  # [M]
    for gradient in gradients:
        squares = squares + gradient.flatten(1).square().sum(dim=1)
    scale = (limit / (squares.sqrt() + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient *= scale.view(-1, *[1] * (gradient.dim() - 1))


def score_heads(heads: Heads, means: torch.Tensor, labels: torch.Tensor) -> list[float]:
    """UAR in [0, 1] of each of M heads on utterance means [N, D] with class indices [N]."""
    with torch.no_grad():
        predicted = heads.of_means(means).argmax(dim=-1)
    return [uar(labels, row) for row in predicted]


def train_pool(train: Points, dev: Points, seeds: int = 10, steps: int = 3000, snapshots: int = 20, lr: float = 1e-3,
               classes: int = 4, progress: bool = True) -> Pool:
    """A Pool of `seeds` heads with `snapshots` each, at steps spread as squares (early ones are close together).

    The heads learn `train`; `dev` alone scores them.
    """
    at = sorted({max(1, round(steps * (number / snapshots) ** 2)) for number in range(1, snapshots + 1)})
    kept = train_heads(*train, range(seeds), steps, lr=lr, snapshots=at, classes=classes, progress=progress)
    heads = Heads({key: torch.cat([snapshot.heads.state()[key] for snapshot in kept]) for key in SUPERB_KEYS})
    of_step = [snapshot.step for snapshot in kept for _ in range(seeds)]
    of_seed = [seed for _ in kept for seed in range(seeds)]
    scores = [score for snapshot in kept for score in score_heads(snapshot.heads, *dev)]
    return Pool(heads, of_step, of_seed, scores)

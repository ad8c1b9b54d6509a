"""Training of a stack of heads by S3PRL's recipe, each as if it were alone; and frame-level heads."""

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from ..devices import one_thread
from ..metrics import uar
from ..rng import keyed
from .frame_heads import STACKS
from .heads import HeadStack

SCORED = 32
"""Utterances that are scored at a time, as S3PRL's runner does here: the longest of them says how much is padded."""


H = TypeVar("H", bound=HeadStack)


class Snapshot(NamedTuple, Generic[H]):
    """M heads at a step of their training."""

    step: int
    heads: H


class Recipe(NamedTuple):
    """How heads are trained: S3PRL's way, but for the number of steps."""

    steps: int
    snapshots: tuple[int, ...] = ()
    """Steps to keep; the last one is always kept."""

    batch: int = 32
    lr: float = 1e-3
    """Adam's."""

    clip: float = 1.0
    """Bound of each head's gradient norm."""

    def kept(self) -> set[int]:
        """Steps that are kept."""
        return {*self.snapshots, self.steps}


class Utterances(NamedTuple):
    """Frames of N utterances."""

    frames: torch.Tensor
    """[N, L, D], zero behind each length."""

    lengths: torch.Tensor
    """[N]"""

    @classmethod
    def of(cls, utterances: Iterable[torch.Tensor]) -> "Utterances":
        """Of utterances [T_i, D] each."""
        utterances = list(utterances)
        lengths = torch.tensor([len(frames) for frames in utterances])
        return cls(pad_sequence(utterances, batch_first=True), lengths)

    def take(self, index: torch.Tensor) -> "Utterances":
        """Those of these numbers [...], padded to the longest of them: frames [..., L', D], lengths [...]."""
        lengths = self.lengths[index]
        return Utterances(self.frames[:, :int(lengths.max())][index], lengths)

    def to(self, device: torch.device | str) -> "Utterances":
        """On that device."""
        return Utterances(self.frames.to(device), self.lengths.to(device))


@one_thread()
def train_stack(heads: H, logits_of: Callable[[torch.Tensor], torch.Tensor], targets: torch.Tensor,
                seeds: Sequence[object], recipe: Recipe, progress: bool = False) -> list[Snapshot[H]]:
    """Train each head of the stack on its own order of the points, by its seed.

    logits_of: which points [M, B] -> the heads' logits [M, B, C]; targets: [N, C], rows sum to 1
    """
    optimizer = torch.optim.Adam(heads.parameters(), lr=recipe.lr, fused=True)
    orders = [keyed(seed, "order") for seed in seeds]
    queue = torch.empty(len(seeds), 0, dtype=torch.long)
    wanted, kept = recipe.kept(), []
    for step in tqdm(range(1, recipe.steps + 1), desc=f"{heads.kind} heads", unit="step", disable=not progress):
        while queue.shape[1] < recipe.batch:
            epoch = torch.stack([torch.randperm(len(targets), generator=order) for order in orders])
            queue = torch.cat([queue, epoch], dim=1)
        index, queue = queue[:, :recipe.batch].to(targets.device), queue[:, recipe.batch:]  # [M, B]
        loss = -(targets[index] * logits_of(index).log_softmax(dim=-1)).sum(dim=-1).mean(dim=1)  # [M]
        optimizer.zero_grad()
        loss.sum().backward()
        clip_each(heads, recipe.clip)
        optimizer.step()
        if step in wanted:
            kept.append(Snapshot(step, type(heads)(heads.state())))
    return kept


def clip_each(heads: HeadStack, limit: float) -> None:
    """Clip the gradient of each head of the stack by itself to norm `limit`, as each S3PRL run would."""
    gradients = [parameter.grad for parameter in heads.parameters() if parameter.grad is not None]
    norms = torch.stack([torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in gradients])
    scale = (limit / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp(max=1.0)  # [M]
    for gradient in gradients:
        gradient *= scale.view(-1, *[1] * (gradient.dim() - 1))


def targets_of(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """[N, C] of class indices [N]; soft labels [N, C] are targets already."""
    return labels if labels.dim() == 2 else F.one_hot(labels, classes).float()


def train_frame_heads(kind: str, utterances: Utterances, labels: torch.Tensor, seeds: Sequence[object],
                      recipe: Recipe, classes: int = 4, progress: bool = False) -> list[Snapshot]:
    """Train a head of this kind for each seed, all at once, on frames.

    labels: class indices [N], or soft labels [N, C]; on the device of the frames
    """
    device = utterances.frames.device
    heads = STACKS[kind].create(seeds, utterances.frames.shape[-1], classes).to(device)
    noise = [_source(device, seed, "dropout") for seed in seeds]

    def logits_of(index: torch.Tensor) -> torch.Tensor:
        frames, lengths = utterances.take(index)
        return heads(frames, lengths, dropout=noise)

    return train_stack(heads, logits_of, targets_of(labels, classes), seeds, recipe, progress)


def score_frames(heads: HeadStack, utterances: Utterances, labels: torch.Tensor) -> list[float]:
    """UAR in [0, 1] of each of M heads on whole utterances with class indices [N]."""
    predicted = []
    with torch.no_grad():
        for index in torch.arange(len(labels), device=labels.device).split(SCORED):
            predicted.append(heads(*utterances.take(index)).argmax(dim=-1))
    return [uar(labels.cpu(), row) for row in torch.cat(predicted, dim=1).cpu()]


def _source(device: torch.device, *key: object) -> torch.Generator:
    """A source of noise on the device, by a key."""
    if device.type == "cpu":
        return keyed(*key)
    return torch.Generator(device).manual_seed(keyed(*key).initial_seed())

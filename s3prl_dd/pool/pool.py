"""The pool: SER heads trained on real features, many seeds and many steps along their training (Eq. 6)."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import UserError
from ..files import atomic_path
from ..generator.file import part_of
from ..metrics import uar
from ..rng import keyed
from .frame_heads import STACKS
from .heads import SUPERB_KEYS, Heads, HeadStack
from .training import Recipe, Snapshot, Utterances, score_frames, targets_of, train_frame_heads, train_stack

Points = tuple[torch.Tensor, torch.Tensor]
"""Utterance means [N, D] and their class indices [N]."""

LabelledFrames = tuple[Utterances, torch.Tensor]
"""Whole utterances and their class indices [N]."""

Checkpoint = tuple[str | Path, Mapping[str, Any]]
"""Path and content of one of S3PRL's."""

KIND = Heads.kind

H = TypeVar("H", bound=HeadStack)


class Snapshots(Generic[H]):
    """Snapshots of heads of one kind: `heads` (M of them), `steps` and `seeds` [M], `dev_uar` [M]."""

    def __init__(self, heads: H, steps: Iterable[int], seeds: Iterable[int | str], dev_uar: Iterable[float]) -> None:
        self.heads, self.steps, self.seeds, self.dev_uar = heads, list(steps), list(seeds), list(dev_uar)

    def __len__(self) -> int:
        return len(self.steps)

    def draw(self, number: int, generator: torch.Generator) -> H:
        """`number` snapshots, drawn with replacement (Eq. 6: a new draw of m at each step)."""
        return self.heads.pick(self.draw_numbers(number, generator))

    def draw_numbers(self, number: int, generator: torch.Generator) -> torch.Tensor:
        """Which snapshots `draw` takes, [number]."""
        return torch.randint(len(self), (number,), generator=generator)

    def best(self) -> H:
        """Best-on-dev snapshot of each seed, the latest of equals."""
        best: dict[int | str, int] = {}
        for index, (seed, score) in enumerate(zip(self.seeds, self.dev_uar, strict=True)):
            if seed not in best or score >= self.dev_uar[best[seed]]:
                best[seed] = index
        return self.heads.pick(torch.tensor(list(best.values())))

    def about(self) -> dict[str, list]:
        """What the file's metadata say of them."""
        return {"steps": self.steps, "seeds": self.seeds, "dev_uar": self.dev_uar}


class Pool(Snapshots[Heads]):
    """Snapshots of SUPERB's heads, and beside them those of frame-level kinds (`others`, by kind)."""

    def __init__(self, heads: Heads, steps: Iterable[int], seeds: Iterable[int | str], dev_uar: Iterable[float],
                 others: Mapping[str, Snapshots] | None = None) -> None:
        super().__init__(heads, steps, seeds, dev_uar)
        self.others = dict(others or {})

    @property
    def kinds(self) -> list[str]:
        """Kinds of heads in it."""
        return [KIND, *self.others]

    def of_kind(self, kind: str) -> Snapshots:
        """The heads of one of `kinds`."""
        return self if kind == KIND else self.others[kind]

    def teacher(self) -> Heads:
        """SUPERB's best heads: their mean softmax gives soft labels."""
        return self.best()

    def save(self, path: str | Path) -> None:
        """Write the pool as one .safetensors, whole or not at all."""
        others = {kind: heads.about() for kind, heads in self.others.items()}
        about = {"kind": KIND, **self.about(), **({"others": others} if others else {})}
        tensors = self.heads.state()
        for kind, heads in self.others.items():
            tensors |= {f"{kind}/{key}": value for key, value in heads.heads.state().items()}
        with atomic_path(path) as temporary:
            save_file({key: value.contiguous() for key, value in tensors.items()}, temporary,
                      metadata={"s3prl_dd_pool": json.dumps(about)})

    @classmethod
    def load(cls, path: str | Path) -> "Pool":
        """Read what save() wrote. UserError for a file that is missing, cut off, foreign or of other heads."""
        if not Path(path).is_file():
            raise UserError(f"{path}: no such pool. `s3prl-dd pool` writes one.")
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads(file.metadata()["s3prl_dd_pool"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, it is no dict
            kind, columns = about["kind"], _columns(about)
            others = {name: _columns(entry) for name, entry in about.get("others", {}).items()}
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path}: not a pool of heads ({error}). `s3prl-dd pool` writes one.") from None
        foreign = [name for name in (kind, *others) if name not in STACKS]
        if foreign or kind != KIND:
            found = foreign[0] if foreign else kind
            raise UserError(f"{path}: a pool of {found} heads, expected {KIND} ones and beside them those of "
                            f"{', '.join(STACKS)}. `s3prl-dd pool` writes one.")
        stacks = {name: part_of(tensors, f"{name}/") for name in others}
        stacks[KIND] = {key: value for key, value in tensors.items() if key.split("/")[0] not in others}
        for name, values in {**others, KIND: columns}.items():
            if complaint := _complaint(STACKS[name], stacks[name], values):
                raise UserError(f"{path}: {complaint}. Copy it again, or write it anew by `s3prl-dd pool`.")
        heads = {name: Snapshots(STACKS[name](stacks[name]), *values) for name, values in others.items()}
        return cls(Heads(stacks[KIND]), *columns, heads)

    @classmethod
    def from_s3prl(cls, checkpoints: Sequence[Checkpoint], dev: Points,
                   dev_frames: Callable[[], Utterances] | None = None) -> "Pool":
        """A pool of checkpoints of S3PRL's own `-d emotion` runs: (path, content) pairs; a folder's are one seed.

        dev: scores SUPERB's heads, which there must be; dev_frames: gives the same utterances' frames, for the others.
        Each run has learnt layer weights of its own, so on features of other weights its heads are a little off.
        """
        of_kind: dict[str, list[Checkpoint]] = {}
        for path, content in checkpoints:
            of_kind.setdefault(_kind_of(path, content, dev[0].shape[1]), []).append((path, content))
        if KIND not in of_kind:
            raise UserError(f"{checkpoints[0][0]}: no head of SUPERB among these runs; soft labels are theirs. Give "
                            "expdirs of such heads too.")
        stacks = {kind: _stack(kind, items) for kind, items in of_kind.items()}
        others = {}
        for kind in set(of_kind) - {KIND}:
            assert dev_frames is not None
            scores = score_frames(stacks[kind], dev_frames(), dev[1])
            others[kind] = Snapshots(stacks[kind], *_origins(of_kind[kind]), scores)
        heads = stacks[KIND]
        assert isinstance(heads, Heads)
        return cls(heads, *_origins(of_kind[KIND]), score_heads(heads, *dev), others)


def _kind_of(path: str | Path, content: Mapping[str, Any], dim: int) -> str:
    """The kind of head in a checkpoint; UserError for none, or one of features of other dimensions."""
    try:
        state = content["Downstream"]
        int(content["Step"])
        fitting = [kind for kind, stack in STACKS.items() if set(stack.keys()) <= set(state)]
        if not fitting:
            raise KeyError(next(key for key in SUPERB_KEYS if key not in state))
        kind = max(fitting, key=lambda kind: len(STACKS[kind].keys()))  # attentive heads have all that SUPERB's have
        found = state[SUPERB_KEYS[0]].shape[1]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: not a checkpoint of S3PRL's emotion head (no {error}).") from None
    if found != dim:
        raise UserError(f"{path}: its head takes {found} dimensions, these features have {dim}. Give runs of the same "
                        "upstream.")
    return kind


def _stack(kind: str, checkpoints: Sequence[Checkpoint]) -> HeadStack:
    """Checkpoints of one kind as a stack."""
    states = [content["Downstream"] for _, content in checkpoints]
    return STACKS[kind]({key: torch.stack([state[key] for state in states]) for key in STACKS[kind].keys()})


def _origins(checkpoints: Sequence[Checkpoint]) -> tuple[list[int], list[str]]:
    """Steps, and seeds: the folders."""
    return [int(content["Step"]) for _, content in checkpoints], [str(Path(path).parent) for path, _ in checkpoints]


def _columns(about: Mapping[str, Any]) -> tuple[list, list, list]:
    return about["steps"], about["seeds"], about["dev_uar"]


def _complaint(kind: type[HeadStack], stack: Mapping[str, torch.Tensor], columns: Sequence[object]) -> str | None:
    """What is wrong with a pool file's tensors and its lists of steps, seeds and scores; None for nothing."""
    keys = kind.keys()
    if set(stack) != set(keys):
        return f"expected the tensors {', '.join(keys)}, found {', '.join(sorted(stack)) or 'none'}"
    if not all(stack[key].is_floating_point() and torch.isfinite(stack[key]).all() for key in keys):
        return "its tensors hold numbers that are not finite"
    first, last = tuple(stack[keys[0]].shape), tuple(stack[keys[-2]].shape)
    if len(first) != 3 or len(last) != 3 or not first[0]:
        return f"expected weights [heads, outputs, inputs], found {first} and {last}"
    heads, classes = first[0], last[1]
    for name, weight in kind.layers(first[2], classes).items():
        for part, shape in (("weight", weight), ("bias", weight[:1])):
            found = tuple(stack[f"{name}.{part}"].shape)
            if found != (heads, *shape):
                return f"its tensors do not fit together: {name}.{part} is {found}, expected {(heads, *shape)}"
    if not all(isinstance(column, list) and len(column) == heads for column in columns):
        return f"expected a step, a seed and a score for each of {heads} heads"
    return None


def train_heads(means: torch.Tensor, labels: torch.Tensor, seeds: Sequence[object], steps: int = 3000, batch: int = 32,
                lr: float = 1e-3, snapshots: Iterable[int] = (), classes: int = 4, clip: float = 1.0,
                progress: bool = False) -> list[Snapshot[Heads]]:
    """Train a SUPERB head for each seed, all at once, S3PRL's recipe on utterance means (the head is linear in them).

    means: [N, D]; labels: [N], or soft labels [N, C]; snapshots: steps to keep, the last step always among them
    lr: Adam's; clip: bound of each head's gradient norm
    """
    heads = Heads.create(seeds, means.shape[1], classes)
    recipe = Recipe(steps, tuple(snapshots), batch, lr, clip)
    return train_stack(heads, lambda index: heads.of_means(means[index]), targets_of(labels, classes), seeds, recipe,
                       progress)


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
    kept = train_heads(*train, range(seeds), steps, lr=lr, snapshots=spread(steps, snapshots), classes=classes,
                       progress=progress)
    heads = Heads.join([snapshot.heads for snapshot in kept])
    return Pool(heads, *_along(kept, seeds), score_heads(heads, *dev))


def train_crossed(train: Points, dev: Points, speakers: torch.Tensor, folds: int, seeds: int = 10, steps: int = 3000,
                  classes: int = 4) -> Heads:
    """`seeds` heads of SUPERB, or some more, of which each has not heard one of `folds` parts of the speakers.

    Their mean softmax is cross-fitted: for every utterance of `train` there are heads that never saw its speaker, so
    the mean tells less of who was in training than heads do that saw all.

    speakers: indices [N] of the points of `train`; dev chooses each head's step, as for a pool
    UserError for fewer speakers than folds, or where a part leaves no point of a class.
    """
    part = deal_speakers(speakers, folds)[speakers]  # [N]
    best = []
    for left_out in range(folds):
        heard = part != left_out
        if len(train[1][heard].unique()) < classes:
            raise UserError(f"teacher_folds: {folds}: one of the parts leaves a class without an utterance. Give fewer "
                            "folds, or 0.")
        points = train[0][heard], train[1][heard]
        pool = train_pool(points, dev, -(-seeds // folds), steps, classes=classes, progress=False)
        best.append(pool.best())
    return Heads.join(best)


def deal_speakers(speakers: torch.Tensor, folds: int) -> torch.Tensor:
    """The part, from 0, of each speaker [S], dealt by lot as evenly as can be. speakers: indices [N], each below S"""
    number = int(speakers.max()) + 1
    if number < folds:
        raise UserError(f"teacher_folds: {folds} parts of {number} speakers. Give fewer folds, or 0.")
    order = torch.randperm(number, generator=keyed("parts of the speakers"))
    return order % folds


def train_frame_pool(kind: str, train: LabelledFrames, dev: LabelledFrames, seeds: int = 4, steps: int = 600,
                     snapshots: int = 10, lr: float = 1e-3, classes: int = 4, progress: bool = True) -> Snapshots:
    """The same of a frame-level kind, on whole utterances: fewer heads and steps, for each costs more."""
    recipe = Recipe(steps, spread(steps, snapshots), lr=lr)
    kept = train_frame_heads(kind, *train, range(seeds), recipe, classes, progress)
    heads = STACKS[kind].join([snapshot.heads for snapshot in kept])
    return Snapshots(heads, *_along(kept, seeds), score_frames(heads, *dev))


def spread(steps: int, snapshots: int) -> tuple[int, ...]:
    """So many steps, the last one `steps`, spread as squares."""
    return tuple(sorted({max(1, round(steps * (number / snapshots) ** 2)) for number in range(1, snapshots + 1)}))


def _along(kept: Sequence[Snapshot], seeds: int) -> tuple[list[int], list[int]]:
    """Step and seed of each head of snapshots that are joined."""
    return [snapshot.step for snapshot in kept for _ in range(seeds)], [seed for _ in kept for seed in range(seeds)]

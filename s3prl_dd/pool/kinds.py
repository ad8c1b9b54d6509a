"""S3PRL's emotion heads by name: what each changes in SUPERB's, and what of an utterance it hears."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

HeadName = Literal["superb", "attentive", "cnn"]
"""A head that S3PRL's emotion downstream has; HEADS says what each is."""


@dataclass(frozen=True)
class HeadKind:
    """A kind of head. What it hears decides how samples are drawn, kept and told in tables."""

    name: HeadName
    """As flags, results and pool files name it."""

    modelrc: Mapping[str, str] = field(default_factory=dict)
    """What it changes in the `modelrc` of SUPERB's downstream: dotted key -> value."""

    hears_frames: bool = True
    """Whether frames matter to it; else an utterance is its mean over time."""

    counts_frames: bool = False
    """Whether it matters how many frames an utterance has, as it does to convolutions over time."""


HEADS: dict[str, HeadKind] = {kind.name: kind for kind in (
    HeadKind("superb", hears_frames=False),  # Linear, mean over time, Linear
    HeadKind("attentive", {"UtteranceLevel.pooling": "AttentivePooling"}),
    HeadKind("cnn", {"select": "DeepModel"}, counts_frames=True),  # three convolutions over time, then attention
)}
"""Name -> kind, in the order of tables."""


def head_label(name: str, beside: Iterable[str] = ()) -> str:
    """A head as a table's row adds it: `cnn head`; nothing for SUPERB's, the usual one, unless others stand beside it.

    beside: names of the heads of the other rows
    """
    return "" if {name, *beside} == {"superb"} else f"{name} head"

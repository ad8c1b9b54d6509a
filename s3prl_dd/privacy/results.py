"""<run>/privacy/results.json as a type."""

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ..config import build, settings
from ..errors import UserError
from ..evaluation.significance import Interval
from ..files import read_json, write_json
from .attacks import Attacked, View
from .rows import CheckpointPath, Row
from .teacher import TeacherAttacked
from .within import WithinClass


@settings
class ProbeResult:
    """The linear probe of a row, see privacy.probe. Accuracies are in [0, 1]."""

    probe_accuracy: Interval
    """How often it names the speaker, mean over the row's heads."""
    probe_utterances: int
    """Utterances that it was tested on, each once."""
    probe_minus_real: Interval
    """Difference to the head on real data; bootstrap, paired over utterances."""


@settings
class RowResult:
    """A row of Table 4 on one tree. Accuracies and UARs are in [0, 1]."""

    sid_accuracy: Interval
    """Of S3PRL's SID on the list's test part, mean over seeds; Wilson's interval of so many utterances."""
    per_seed: list[float]
    """The same of each seed, [S]."""
    lr: float
    """Adam's learning rate that dev chose."""
    train_accuracy: float
    """Of S3PRL's SID on the train part, mean over seeds."""
    ser_uar: float | None
    """UAR of the heads on their own SER test split, mean over seeds; None of a row without trained heads."""
    heads: list[CheckpointPath]
    """The checkpoint of each seed; None where there is none."""
    command: str
    """The command line of seed 0."""
    probe_accuracy: Interval | None = None
    """As ProbeResult; None where the tree is too large for it."""
    probe_utterances: int | None = None
    """As ProbeResult."""
    probe_minus_real: Interval | None = None
    """As ProbeResult."""


@settings
class TreeResult:
    """All rows on one SID tree."""

    root: str
    """The tree."""
    list: str
    """Its list file."""
    speakers: int
    """How many."""
    train: int
    """Utterances."""
    dev: int
    """Utterances."""
    test: int
    """Utterances."""
    chance: float
    """Accuracy of a random guess."""
    majority: float
    """Accuracy of always saying the commonest test speaker."""
    split_by: str | None
    """The regular expression that test was held apart by, if any."""
    synthetic: bool
    """Whether no person spoke this."""
    measure: str
    """Whether the speakers are those whom the heads were trained on."""
    rows: dict[Row, RowResult]
    """Which head was listened through -> results."""


@settings
class PrivacyResults:
    """Everything that was measured of a run. Trees of earlier calls are kept, attacks are of the last."""

    sid: dict[str, TreeResult]
    """Tree -> its rows."""
    attacks: dict[View, dict[str, Attacked]]
    """What the attacker sees -> generator or control -> what every attack found."""
    teachers: dict[str, TeacherAttacked] = field(default_factory=dict)
    """Whose heads in a generator file, or control -> what the attack on them found; empty in files until 0.1."""
    within: dict[str, WithinClass] = field(default_factory=dict)
    """Generator or control -> whom an attacker names who knows the file (privacy/within.py); empty in older files."""

    @classmethod
    def read(cls, path: Path) -> "PrivacyResults":
        """results.json of a `privacy` folder; empty where there is none yet, UserError for a foreign file."""
        if not path.is_file():
            return cls({}, {})
        values = read_json(path, "results file (written by `s3prl-dd privacy`)")
        if not isinstance(values, Mapping):
            raise UserError(f"{path}: expected results of privacy, found {type(values).__name__}. Delete the file.")
        return build(cls, values, path)

    def write(self, path: Path) -> None:
        """As JSON, whole or not at all."""
        write_json(path, self.as_json())

    def as_json(self) -> dict[str, Any]:
        """As results.json holds it, without what may be missing and is."""
        return TypeAdapter(PrivacyResults).dump_python(self, mode="json", exclude_defaults=True)

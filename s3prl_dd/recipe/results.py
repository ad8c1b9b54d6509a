"""What a run measured: results.json as a type."""

from collections.abc import Mapping
from dataclasses import asdict, field
from pathlib import Path
from typing import Any

import numpy as np

from ..arms import RIVAL_FRAMES, Arm, Source
from ..config import Count, Weight, Whole, build, settings
from ..errors import UserError
from ..files import read_json, write_json
from ..generator.budget import Budget
from ..generator.deviations import Deviations
from ..generator.networks import GANS, Architecture
from ..generator.sampling import (
    DEFAULTS,
    Center,
    Labels,
    Lengths,
    Resample,
    sets_in_words,
    sets_of,
    ways_of,
)
from ..pool.kinds import HEADS

CENTERS: dict[Center, tuple[str, ...]] = {False: ("uncentred",), True: ("at class means",)}
"""What a table's row says of samples that lie elsewhere than by default."""

FORMER_NAMES = {"movement": "deviations"}
"""Keys of results.json in files of development versions -> today's."""


@settings
class ArmResult:
    """An arm's heads, one entry a seed, each at its best step and learning rate on dev. Shares are in [0, 1]."""

    uar: Weight
    """Unweighted average recall on the test split, mean over seeds."""
    uar_per_seed: list[float]
    """The same of each seed, [S]."""
    dev_uar: Weight
    """UAR on dev, mean over seeds: what chose step and learning rate."""
    accuracy: Weight
    """Accuracy on the test split, mean over seeds."""
    points: Whole
    """Training points of a head; 0 of the teacher alone."""
    train_seconds: Weight
    """Wall time of one run of S3PRL's runner, mean over seeds."""
    lr_per_seed: list[float | None]
    """Adam's learning rate that dev chose, [S]; None of the teacher alone."""
    command: str
    """The command line of the first seed's run."""
    predicted: list[list[Whole] | None] = field(default_factory=list)
    """Predicted class indices [S, N] of the test utterances, in the list's order; None where they were not kept."""

    @property
    def seeds(self) -> int:
        """How many heads."""
        return len(self.uar_per_seed)

    @property
    def spread(self) -> float | None:
        """Standard deviation of the UAR over seeds; None of a single one."""
        return float(np.std(self.uar_per_seed, ddof=1)) if self.seeds > 1 else None

    @property
    def predictions(self) -> np.ndarray | None:
        """`predicted` as int array [S, N]; None unless every head's were kept."""
        kept = [row for row in self.predicted if row]
        return np.array(kept) if kept and len(kept) == self.seeds else None


@settings
class Sizes:
    """Bytes on disk of the training part (80 % of the training list), and of what replaces it."""

    audio: Whole
    """Its audio files."""
    features_float32: Whole | None = None
    """Its features as float32 [T, D] each."""
    generator: Whole | None = None
    """The generator file."""


@settings
class TestList:
    """The test utterances in the list's order."""

    truth: list[Whole]
    """Class indices [N]."""
    speakers: list[str]
    """Who speaks, [N]."""


@settings
class Results:
    """All that a run measured, as results.json holds it. `arms` is by arm name, in the order of tables."""

    corpus: str
    """Name of the corpus."""
    synthetic: bool
    """Whether its speech is synthetic."""
    upstream: str
    """S3PRL's -u."""
    fold: str
    """The test fold."""
    config: str
    """The distiller's configuration, a file or a shipped one."""
    overrides: list[str]
    """KEY=VALUE words on top of it."""
    arms: dict[str, ArmResult]
    """Arm name (Arm.parse) -> its heads."""
    classes: Count
    """C."""
    test_utterances: Count
    """N."""
    bytes: Sizes
    """Sizes of the training part and of what replaces it."""
    labels: Labels = "soft"
    """Labels of generated samples."""
    center: Center = True
    """Where their classes were shifted (sampling.Sampling)."""
    lengths: Lengths = "generator"
    """Their lengths."""
    resample: Resample = False
    """Whether each epoch drew new ones, or how many sets went round."""
    head: str = "superb"
    """S3PRL's head, a key of kinds.HEADS."""
    rival_frames: Count = RIVAL_FRAMES
    """Frames of a rival's points."""
    features: str | None = None
    """What of the upstream was taken (FeatureSpec.words); None in files of older versions."""
    recipe: str | None = None
    """How heads were trained (HeadSettings.words); None in files of older versions."""
    test: TestList | None = None
    """The test list; None in files of older versions."""
    architecture: Architecture | None = None
    """Of the generator file's network; None where there is none, and in files of older versions."""
    deviations: Deviations = "own"
    """Whose frame deviations its samples have (NetworkConfig.movement)."""
    learnt_points: Whole = 0
    """Points of each class that the generator file carries for small sets."""
    distill_seconds: Weight | None = None
    """Wall time of the distillation; None where it was resumed, or closed-form."""
    versions: dict[str, str] = field(default_factory=dict)
    """Package -> version."""
    machine: dict[str, Any] = field(default_factory=dict)
    """system, cores, gpu."""

    @classmethod
    def read(cls, path: str | Path) -> "Results":
        """results.json, also of the version before; UserError for a missing or foreign file."""
        values = read_json(path, "results file (written by `s3prl-dd report`)")
        if not isinstance(values, Mapping):
            raise UserError(f"{path}: expected results of a run, found {type(values).__name__}. Run `s3prl-dd report` "
                            "anew.")
        results = build(cls, {FORMER_NAMES.get(str(key), str(key)): value for key, value in values.items()}, path)
        for name in results.arms:
            Arm.parse(name)
        return results

    def write(self, path: str | Path) -> None:
        """As JSON, whole or not at all."""
        write_json(path, asdict(self))

    @property
    def gaussian(self) -> bool:
        """Whether its samples are those of the closed form, not of a GAN."""
        if self.architecture is None:
            return Path(self.config).stem.startswith("gaussian")
        return self.architecture not in GANS

    @property
    def variant(self) -> str:
        """How its samples were made and drawn, in a few words for a table's row."""
        return self.variant_of(Arm(Source.GENERATED, "balanced"))

    def variant_of(self, arm: Arm) -> str:
        """The same for any arm; empty for real audio and the teacher, without a configuration for other rivals."""
        if not arm.from_file:
            return ""
        kind = arm.kind
        center = kind.center_in(self.center)
        words = [Path(self.config).stem, *self.overrides] if arm.generated else []
        words += [f"{kind.labels or self.labels} labels", *CENTERS.get(center, ())]
        if kind.drawn:
            words += self._sets_of(arm)
        if self.lengths == "corpus":
            words.append("corpus lengths")
        if arm.generated and self.deviations == "any" and HEADS[self.head].hears_frames:
            words.append("frame deviations of any class")
        if kind.file is not None and self.rival_frames != RIVAL_FRAMES:
            words.append(f"{self.rival_frames} frames")
        return " ".join(words)

    def _sets_of(self, arm: Arm) -> list[str]:
        """How often an arm's samples were drawn anew, where it is not as by default."""
        budget = arm.budget or "original"
        ways, as_usual = ((sets_of(resample, budget), self._ways_of(resample, budget))
                          for resample in (self.resample, DEFAULTS.resample))
        return [] if ways == as_usual else [sets_in_words(*ways)]

    def _ways_of(self, resample: Resample, budget: Budget) -> int:
        return ways_of(resample, budget) if HEADS[self.head].hears_frames else 1

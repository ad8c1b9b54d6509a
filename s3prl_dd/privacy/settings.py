"""What a measurement of privacy can be told."""

from typing import Annotated

from pydantic import Field

from ..arms import Arm
from ..config import Count, Positive, Weight, Whole, settings
from ..errors import UserError


@settings
class Settings:
    """Of one measurement: whose heads, S3PRL's speaker identification (SID), and the attacks."""

    arm: str = "distilled_full"
    """Which heads of the GAN runs: distilled_full, distilled_original, distilled_12ppc, ..."""

    seeds: Count = 3
    """SID runs of each row; run s takes the head of seed s, going round where there are fewer heads."""

    steps: Count = 300
    """Steps of S3PRL's SID recipe."""

    batch: Count = 20
    """Utterances a step of it."""

    lrs: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1e-3, 1e-2)
    """Adam's learning rates to try; each row takes the best on dev, at seed 0."""

    samples: Count = 2000
    """Samples of each generator file for the attacks."""

    device: str | None = None
    """cuda or cpu; without it, the run's own."""

    jobs: Whole = 0
    """S3PRL runs at a time; 0 is one a core on CPU and one on a GPU."""

    feature_cache: Weight = 4.0
    """Gigabytes of the upstream's states that an S3PRL run may keep in memory."""

    def __post_init__(self) -> None:
        if not Arm.parse(self.arm).generated:
            raise UserError(f"arm {self.arm!r}: expected heads on samples: distilled_full, distilled_12ppc, ...")
        shown = [f"{lr:g}" for lr in self.lrs]
        alike = next((word for word in shown if shown.count(word) > 1), None)
        if alike:
            raise UserError(f"lrs: two of them print as {alike} and would share a folder. Leave one of them away.")

"""Speaker suppression: what the key `privacy` leaves of speech along the directions in which speakers' means differ.
Beyond the paper.

It is in samples, and in the speech that heads on them hear: directions in which samples do not vary teach a head
nothing, and its random weights there would make noise of what real speech does in them.
"""

from typing import NamedTuple

import torch

from .calibrate import Calibration
from .heads import LinearHeads


class SpeakerSuppression(NamedTuple):
    """Along K directions speech comes nearer to a point in the middle; at privacy 1 it does not differ there."""

    away: torch.Tensor
    """[D, K], how far a point's way from the middle goes along each direction, times `privacy`."""

    along: torch.Tensor
    """[K, D], a direction each."""

    middle: torch.Tensor
    """[D], the mean of the class means."""

    def of(self, speech: torch.Tensor) -> torch.Tensor:
        """Utterance means or frames, suppressed. [..., D] -> [..., D]"""
        return speech - (speech - self.middle) @ self.away @ self.along

    def of_calibration(self, calibration: Calibration) -> Calibration:
        """A calibration whose samples and class means are suppressed."""
        matrix = calibration.matrix - calibration.matrix @ self.away @ self.along
        return Calibration(matrix, calibration.generated, self.of(calibration.real))

    def heard_by(self, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A linear layer that hears any speech suppressed. weight: [..., O, D]; bias: [..., O] -> the same"""
        heard = weight - weight @ self.along.T @ self.away.T
        return heard, bias + weight @ (self.middle @ self.away @ self.along)

    def heard_by_heads(self, heads: LinearHeads) -> LinearHeads:
        """Heads that hear any speech suppressed."""
        return LinearHeads(*self.heard_by(*heads))

    def unheard_by(self, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The layer of which `heard_by` makes this one [O, D], [O]: of all that it makes it of, the smallest."""
        away, along = self.away.double(), self.along.double()
        inverse = torch.linalg.pinv(torch.eye(len(away), dtype=away.dtype, device=away.device) - away @ along)
        before = (weight.double() @ inverse.T).to(weight.dtype)
        return before, bias - before @ (self.middle @ self.away @ self.along)

    def to(self, device: torch.device | str) -> "SpeakerSuppression":
        """On this device."""
        return SpeakerSuppression(*(tensor.to(device) for tensor in self))

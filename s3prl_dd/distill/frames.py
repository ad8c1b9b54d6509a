"""Frame deviations within utterances: measures of samples beside real speech, and what the losses of frames compare.

Frames are standardised, T of them a sample; all is taken about the utterance's mean, which heads hear in other ways.
"""

from typing import NamedTuple

import torch


class FrameMeasures(NamedTuple):
    """Of a set of utterances, mean over them and over dimensions."""

    spread: float
    """Standard deviation within an utterance; in units of all frames' spread, as frames are standardised."""

    lag_one: float
    """Correlation of neighbouring frames within an utterance: total covariance at lag 1 over that at lag 0."""

    bands: list[float]
    """Power in each octave of modulation, from 1 cycle an utterance up; their sum is the variance within utterances."""

    def named(self, suffix: str) -> dict[str, float]:
        """Name_suffix -> number."""
        values = {"spread": self.spread, "lag_one": self.lag_one}
        values |= {f"band{number}": power for number, power in enumerate(self.bands, 1)}
        return {f"{name}_{suffix}": value for name, value in values.items()}


def measure(frames: torch.Tensor) -> FrameMeasures:
    """Of frames [B, T, D], T >= 2."""
    about = centred(frames)
    variance = about.square().mean()
    lagged = (about[:, 1:] * about[:, :-1]).mean()
    bands = modulation_power(frames).mean(dim=(0, 2))
    return FrameMeasures(variance.sqrt().item(), (lagged / variance.clamp(min=1e-12)).item(), bands.tolist())


def centred(frames: torch.Tensor) -> torch.Tensor:
    """Frames [..., T, D] about their utterance's mean."""
    return frames - frames.mean(dim=-2, keepdim=True)


def lagged_covariance(frames: torch.Tensor, lag: int) -> torch.Tensor:
    """Covariance of each frame with the one `lag` behind it, within utterances and about their means.

    frames: [n, ..., T, D], mean over n and time -> [..., D, D]
    """
    about = centred(frames)
    count = frames.shape[-2] - lag
    earlier, later = about[..., :count, :], about[..., lag:, :]
    return torch.einsum("n...ti,n...tj->...ij", earlier, later) / (len(frames) * count)


def modulation_power(frames: torch.Tensor) -> torch.Tensor:
    """Power within each octave of modulation: 1, 2 to 3, 4 to 7, ... cycles an utterance. [B, T, D] -> [B, bands, D]

    The highest octave ends at T / 2 cycles. Their sum is the variance over time (Parseval).
    """
    count = frames.shape[1]
    spectrum = torch.fft.rfft(frames.float(), dim=1).abs().square()[:, 1:] / count**2  # [B, T // 2, D]
    twice = torch.full((count // 2, 1), 2.0, device=frames.device)
    if count % 2 == 0:
        twice[-1] = 1  # the highest stands for itself alone
    power = spectrum * twice
    starts = [2**number for number in range(count) if 2**number < max(2, count // 2)]
    edges = [start - 1 for start in starts] + [count // 2]
    return torch.stack([power[:, first:last].sum(dim=1) for first, last in zip(edges, edges[1:], strict=False)], dim=1)

"""Batches of the distiller: keyed by what they are for and the step, so that no random state is kept."""

import torch

from ..errors import UserError
from ..rng import keyed
from .data import TrainingData
from .distributed import Ranks


def balanced_size(batch: int, classes: int, world: int) -> int:
    """The largest batch of `batch` samples or fewer with as many of each class on each rank, two at least."""
    share = classes * world
    if batch < 2 * share:
        raise UserError(f"batch {batch}: too small for two samples of each of {classes} classes on each of {world} "
                        f"rank(s). Set it to {2 * share} or more.")
    return batch - batch % share


class Batches:
    """The random parts of each batch, keyed by what they are for and the step; a batch has as many of each class.

    Under torchrun every rank draws the same global batch and takes its share.
    """

    def __init__(self, data: TrainingData, size: int, noise: int, seed: int, ranks: Ranks,
                 device: torch.device) -> None:
        """size: of the global batch, a multiple of classes * ranks.world; noise: its dimensions"""
        self.data, self.size, self.noise_dim, self.seed = data, size, noise, seed
        self.ranks, self.device = ranks, device
        self.labels = torch.arange(size // ranks.world, device=device) % len(data.class_counts)  # [B] of this rank
        self.global_labels = self.labels.cpu().repeat(ranks.world)

    def noise(self, *key: object) -> torch.Tensor:
        """This rank's noise [B, Z]."""
        draw = torch.randn(self.size, self.noise_dim, generator=keyed(self.seed, *key))
        return self._share(draw)

    def mix(self, *key: object) -> torch.Tensor:
        """This rank's mixing weights in [0, 1) of real and generated [B], for the gradient penalty."""
        return self._share(torch.rand(self.size, generator=keyed(self.seed, *key)))

    def real(self, *key: object) -> torch.Tensor:
        """This rank's real frames [B, T, D], standardised, of `labels`."""
        indices, starts = self.data.draw(self.global_labels, self.seed, *key)
        return self.data.frames_of(self.ranks.share(indices), self.ranks.share(starts))

    def _share(self, draw: torch.Tensor) -> torch.Tensor:
        return self.ranks.share(draw).to(self.device, non_blocking=True)

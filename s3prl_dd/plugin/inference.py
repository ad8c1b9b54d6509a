"""S3PRL's own `-m inference -t FILE` for SER heads: what its Runner asks of an expert."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..corpora.audio import RATE, load_audio
from ..files import write_json
from .ser_head import head_logits

INFERENCE = "inference.json"
"""What it leaves in the expdir."""


class Inference:
    """What S3PRL's Runner asks of an expert for `-m inference`; S3PRL's emotion expert has none of it.

    It is for an expert with S3PRL's `projector`, `model`, `test_dataset` and `expdir`.
    """

    projector: Any
    model: Any
    test_dataset: Any
    expdir: str

    def load_audio(self, path: str | Path) -> torch.Tensor:
        """A recording of any rate and channel count as float32 [N] at 16 kHz; AudioError where it cannot be read."""
        return torch.from_numpy(load_audio(path, RATE))

    @torch.no_grad()
    def inference(self, features: Sequence[torch.Tensor], filenames: Sequence[str]) -> list[str]:
        """The class names of B recordings; printed, and kept in the expdir with the probabilities.

        features: B of [T, D] from the Featurizer; filenames: B names
        """
        names = [name for _, name in sorted(self.test_dataset.idx2emotion.items())]
        shares = head_logits(self.projector, self.model, features).double().softmax(dim=-1).cpu()  # [B, C]
        answers = []
        for file, row in zip(filenames, shares, strict=True):
            probabilities = dict(zip(names, row.tolist(), strict=True))
            answers.append({"file": file, "label": names[int(row.argmax())], "probabilities": probabilities})
            print(json.dumps(answers[-1]))
        write_json(Path(self.expdir) / INFERENCE, answers)
        return [str(answer["label"]) for answer in answers]

"""S3PRL's own emotion head."""

from collections.abc import Callable

import pytest
import torch
import torch.nn as nn


@pytest.fixture
def s3prl_head() -> Callable[..., nn.ModuleDict]:
    """A function that makes projector and model as S3PRL's emotion expert builds them, of S3PRL's own classes."""
    from s3prl.downstream.model import UtteranceLevel

    def make(dim: int = 6, classes: int = 4, seed: int = 0) -> nn.ModuleDict:
        torch.manual_seed(seed)
        model = UtteranceLevel(input_dim=256, output_dim=classes, pooling="MeanPooling")
        return nn.ModuleDict({"projector": nn.Linear(dim, 256), "model": model})

    return make

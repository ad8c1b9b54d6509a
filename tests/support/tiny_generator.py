"""Tiny generator files with random weights, without training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from s3prl_dd.generator import (
    Calibration,
    CorpusInfo,
    Generator,
    Header,
    LinearHeads,
    NetworkConfig,
    Provenance,
    build_generator,
)
from s3prl_dd.generator.suppression import SpeakerSuppression

LABELS = {"neu": 0, "ang": 1, "sad": 2}
CLASSES = len(LABELS)
PROVENANCE = {"upstream": "made", "upstream_ckpt_digest": None, "selection": "hidden_states", "layer": None,
              "normalize": False, "layer_weights": [0.25, 0.75], "rate": 320}
CORPUS = CorpusInfo(name="gauss", fold="fold1", synthetic=True, train_speakers=["s1", "s2"], test_speakers=["s0"],
                    test_digest="0")
TRAINING = {"step": 100, "batch": 24, "seed": 0, "framing": "resample", "lambdas": {"diversity": 0.3, "mmd": 0.0}}


def tiny_header(config: NetworkConfig | None = None, dim: int = 10, listed: list[int] | None = None,
                **changes: Any) -> Header:
    """A header of three classes whose lengths are 10-20, 30-40 and 50-60 frames. listed: points of a list of them."""
    config = config or NetworkConfig(frames=8, noise=6, channels=8)
    values = {
        "network": config.sized(CLASSES, dim, listed), "labels": LABELS, "class_counts": [20, 16, 24],
        "lengths": [np.linspace(10 * low, 10 * low + 10, 101).tolist() for low in (1, 3, 5)],
        "features": Provenance(**PROVENANCE, dim=dim), "corpus": CORPUS, "training": TRAINING,
        "metrics": {"dev_uar": 0.75, "step": 50},
    }
    return Header(**{**values, **changes})


def tiny_generator(config: NetworkConfig | None = None, dim: int = 10, teacher: bool = True, calibration: bool = False,
                   points: int = 0, suppression: SpeakerSuppression | None = None, **changes: Any) -> Generator:
    """A generator of random weights; its class means are far from where its samples lie.

    points: learnt ones of each class
    """
    header = tiny_header(config, dim, **changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = build_generator(header.network)
        mean, std, class_means = torch.arange(dim) * 1.0, 1 + torch.rand(dim), torch.randn(CLASSES, dim)
        heads = LinearHeads(torch.randn(4, CLASSES, dim), torch.randn(4, CLASSES))
        moves = Calibration(2 * torch.eye(dim), torch.randn(CLASSES, dim), torch.randn(CLASSES, dim))
        learnt = torch.randn(CLASSES, points, dim)
    return Generator(network, mean, std, class_means, header, heads if teacher else None,
                     moves if calibration else None, learnt if points else None, suppression)


def tiny_suppression(dim: int = 10, privacy: float = 1.0) -> SpeakerSuppression:
    """In two directions of D, whose dimensions have other spreads."""
    source = torch.Generator().manual_seed(5)
    span = torch.linalg.qr(torch.randn(dim, 2, generator=source)).Q.T  # [2, D]
    spread = 0.5 + torch.rand(dim, generator=source)
    return SpeakerSuppression(privacy * span.T / spread[:, None], span * spread, torch.randn(dim, generator=source))


def loaded(generator: Generator, path: Path) -> Generator:
    """The generator as its file gives it back."""
    generator.save(path)
    return Generator.load(path)


def gaussian_generator(dim: int = 50) -> Generator:
    """A generator whose samples are its noise: one frame, of D dimensions."""
    generator = tiny_generator(NetworkConfig(architecture="gaussian"), dim, teacher=False)
    network = generator.network
    network.load_state_dict({"means": torch.zeros(CLASSES, dim), "factor": torch.eye(dim)})
    generator.mean, generator.std = torch.zeros(dim), torch.ones(dim)
    return generator


def rewrite(path: Path, header: Callable[[dict[str, Any]], Any] | None = None,
            tensors: Callable[[dict[str, torch.Tensor]], Any] | None = None, text: str | None = None) -> None:
    """Change a generator file in place: its header as a dict, its tensors as a dict, or its header's whole text."""
    with safe_open(path, "pt") as file:
        values = json.loads(file.metadata()["s3prl_dd"])
    weights = load_file(path)
    if header:
        header(values)
    if tensors:
        tensors(weights)
    weights = {name: weight.contiguous() for name, weight in weights.items()}
    save_file(weights, path, metadata={"s3prl_dd": json.dumps(values) if text is None else text})

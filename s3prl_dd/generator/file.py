"""The generator file: one `.safetensors` that replaces a corpus. Load, sample, provenance.

    generator = Generator.load("generator.safetensors")
    samples = generator.sample({"ppc": 50}, seed=0)     # features [B, T, D], lengths [B], labels [B]

The file holds the generator's weights, the features' mean and spread, the mean of each class's samples, optionally a
teacher for soft labels and a calibration, and a JSON header (see `HEADER`). Loading executes no code.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import UserError
from ..files import atomic_path
from .budget import class_counts
from .calibrate import Calibration, calibrate
from .header import Header, header_of, open_file
from .networks import build_generator
from .sampling import DEFAULTS

CALIBRATION = ("matrix", "generated", "real")  # tensors of distill.calibrate


class Teacher(NamedTuple):
    """M linear heads on utterance means; their mean softmax is the soft label."""

    weight: torch.Tensor
    """[M, C, D]"""

    bias: torch.Tensor
    """[M, C]"""


@dataclass
class Samples:
    """features: [B, T, D], zero behind each length; lengths: [B] frames; labels: [B] class indices;
    soft_labels: [B, C], rows sum to 1, or None where the file carries no teacher."""

    features: torch.Tensor
    lengths: torch.Tensor
    labels: torch.Tensor
    soft_labels: torch.Tensor | None


class Generator:
    """A generator file in memory. `header` is its JSON header, `network` maps noise and labels to frames."""

    def __init__(self, network, mean, std, class_means, header, teacher=None, calibration=None):
        """mean, std: [D] of real frames; class_means: [C, D], where the samples' utterance means lie on average;
        teacher: (weight [M, C, D], bias [M, C]) of M linear heads, or None; calibration: of distill.calibrate, or None"""
        self.network = network.eval().requires_grad_(False)
        self.mean, self.std, self.class_means = mean, std, class_means
        self.header = header
        self.teacher, self.calibration = teacher, calibration

    # file

    @classmethod
    def load(cls, path, device="cpu"):
        """Read a generator file. Raises UserError for a file that is missing, cut off, foreign or of another version."""
        with open_file(path) as file:
            header = header_of(path, file)
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}
        try:
            network = build_generator(header.network)
            network.load_state_dict({key[len("generator."):]: value for key, value in tensors.items()
                                     if key.startswith("generator.")})
            teacher = Teacher(tensors["teacher.weight"], tensors["teacher.bias"]) if "teacher.weight" in tensors else None
            calibration = (Calibration(*(tensors[f"calibration.{part}"] for part in CALIBRATION)) if "calibration.matrix" in tensors
                           else None)
            generator = cls(network, tensors["mean"], tensors["std"], tensors["class_means"], header, teacher, calibration)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"{path}: its tensors do not fit its header ({error}). Distil anew.") from None
        return generator.to(device)

    def save(self, path, half=False):
        """Write the file, whole or not at all; `half` stores float16."""
        dtype = torch.float16 if half else torch.float32
        tensors = {f"generator.{key}": value.to(dtype) if value.is_floating_point() else value
                   for key, value in self.network.state_dict().items()}
        tensors.update(mean=self.mean.float(), std=self.std.float(), class_means=self.class_means.float())
        if self.teacher is not None:
            tensors.update({"teacher.weight": self.teacher[0].to(dtype), "teacher.bias": self.teacher[1].to(dtype)})
        if self.calibration is not None:
            tensors.update({f"calibration.{part}": tensor.to(dtype) for part, tensor in zip(CALIBRATION, self.calibration)})
        tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        header = dataclasses.replace(self.header, precision="float16" if half else "float32")
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata={"s3prl_dd": header.to_json()})

    def to(self, device):
        self.network.to(device)
        self.mean, self.std, self.class_means = (tensor.to(device) for tensor in (self.mean, self.std, self.class_means))
        if self.teacher is not None:
            self.teacher = Teacher(*(tensor.to(device) for tensor in self.teacher))
        if self.calibration is not None:
            self.calibration = Calibration(*(tensor.to(device) for tensor in self.calibration))
        return self

    # sampling

    @property
    def device(self):
        return self.mean.device

    def counts(self, budget):
        """Samples per class, by class index (see budget.class_counts)."""
        return class_counts(budget, self.header.class_counts)

    def sample(self, budget, seed=0, epoch=0, lengths=DEFAULTS.lengths, batch_size=512, center=DEFAULTS.center):
        """Draw a whole set: `budget` as in budget.class_counts. Sample i depends on (seed, epoch, i) alone, but for
        `center`: then the samples of each class are shifted together (see `shift`)."""
        labels = index_labels(self.counts(budget))
        shift = self.shift(labels, seed, epoch, batch_size) if center else None
        parts = list(self.batches(labels, seed, epoch, batch_size, lengths, shift))
        longest = max(part.features.shape[1] for part in parts)
        return Samples(
            torch.cat([F.pad(part.features, (0, 0, 0, longest - part.features.shape[1])) for part in parts]),
            torch.cat([part.lengths for part in parts]), torch.cat([part.labels for part in parts]),
            torch.cat([part.soft_labels for part in parts]) if self.teacher is not None else None)

    def batches(self, labels, seed, epoch=0, batch_size=512, lengths="generator", shift=None):
        """Samples number 0, 1, 2, ... of these labels, as batches of Samples."""
        for start in range(0, len(labels), batch_size):
            stop = min(start + batch_size, len(labels))
            yield self.generate(labels[start:stop], range(start, stop), seed, epoch, lengths, shift)

    def shift(self, labels, seed, epoch=0, batch_size=512):
        """[C, D] that brings each class's mean over the set of these labels to the file's `class_means`.

        Beyond the paper. A set of 6 a class misses the class's mean by 0.4 of its spread, and a head trained on few
        points learns just that; centred, a small set is as good as a far larger one.
        """
        total = torch.zeros_like(self.class_means, dtype=torch.float64)
        for part in self.batches(labels, seed, epoch, batch_size):
            total.index_add_(0, part.labels, part.features.mean(dim=1).double())
        counts = torch.bincount(labels, minlength=len(total)).clamp(min=1).to(self.device)
        return self.class_means - (total / counts[:, None]).float()

    def write_samples(self, path, budget, seed=0, lengths="generator", center=True):
        """A fixed synthetic set as safetensors: features [B, T, D], lengths [B], labels [B], soft_labels [B, C] if any."""
        samples = self.sample(budget, seed, lengths=lengths, center=center)
        tensors = {key: value.cpu().contiguous() for key, value in vars(samples).items() if value is not None}
        about = {"labels": json.dumps(self.header.labels), "budget": json.dumps(budget), "seed": str(seed),
                 "center": json.dumps(center), "features": json.dumps(dataclasses.asdict(self.header.features))}
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata=about)
        print(f"wrote {path}: {len(samples.labels)} samples, {self.counts(budget)} a class")

    @torch.no_grad()
    def generate(self, labels, indices, seed, epoch=0, lengths="generator", shift=None):
        """One batch of Samples.

        labels: class indices, B of them; indices: B sample numbers (>= 0), the keys of the noise
        lengths: "generator" gives the network's own T frames; "corpus" stretches each sample in time to a length
                 drawn from its class's real ones
        shift: [C, D] added to each frame of its class, or None
        """
        config = self.network.config
        draws = [np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, index, epoch])) for index in indices]
        noise = torch.from_numpy(np.stack([draw.standard_normal(config.noise, dtype=np.float32) for draw in draws]))
        labels = torch.as_tensor(labels, device=self.device)
        frames = self.network(noise.to(self.device), labels)  # [B, T, D], standardised
        frames = frames * self.std + self.mean
        if self.calibration is not None:
            frames = calibrate(frames, labels, self.calibration)
        if shift is not None:
            frames = frames + shift[labels][:, None]
        soft = self.soften(frames.mean(dim=1)) if self.teacher is not None else None  # [B, C]
        if lengths == "generator":
            return Samples(frames, torch.full((len(frames),), frames.shape[1]), labels, soft)
        if lengths != "corpus":
            raise UserError(f"lengths {lengths!r}: expected 'generator' or 'corpus'.")
        percentiles = np.array(self.header.lengths, dtype=float)  # [C, 101]
        wanted = [max(1, round(np.interp(draw.uniform(0, 100), np.arange(101), percentiles[label])))
                  for draw, label in zip(draws, labels.tolist())]
        stretched = [F.interpolate(frame.T[None], size=size, mode="linear", align_corners=False)[0].T
                     for frame, size in zip(frames, wanted)]
        return Samples(torch.nn.utils.rnn.pad_sequence(stretched, batch_first=True), torch.tensor(wanted), labels, soft)

    def soften(self, means):
        """The teacher's mean softmax for utterance means [B, D] -> [B, C]."""
        weight, bias = self.teacher
        return (torch.einsum("bd,mcd->mbc", means, weight) + bias[:, None]).softmax(dim=-1).mean(dim=0)


def index_labels(counts):
    """Class index of each sample number: [0] * counts[0] + [1] * counts[1] + ..."""
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))

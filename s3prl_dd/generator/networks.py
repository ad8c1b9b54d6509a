"""The generators: GAN-CNN and GAN-ATT of the paper (Sec. 5.1) and GAN-1D, for any feature dim D and frame count T.

They map noise [B, Z] and labels [B] to standardised frames [B, T, D], without tanh. (Critics: distill/critic.py.)
Beside them the rivals that they are measured against (rivals/): Gaussians in closed form, and lists of points.
"""

import dataclasses
import math
from typing import Annotated, Literal

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from pydantic import Field
from torch.distributed.nn.functional import all_reduce

from ..config import Number, settings
from .deviations import Deviations

Architecture = Literal["gan_cnn", "gan_att", "gan_1d", "gaussian", "gaussian_frames", "points"]
GANS: tuple[Architecture, ...] = ("gan_cnn", "gan_att", "gan_1d")

FRAME_STEP: dict[Architecture, int] = {"gan_cnn": 8, "gan_att": 8, "gan_1d": 4, "gaussian": 1, "gaussian_frames": 1,
                                       "points": 1}
"""What the frames of a sample must be a multiple of: three, three, two and no layers double the time."""

Width = Annotated[int, Field(ge=1, le=65536), Number]
"""Channels or dimensions of a layer."""

Dim = Annotated[int, Field(ge=1, le=65536), Number]
"""D, numbers a frame of features."""

Classes = Annotated[int, Field(ge=2, le=1000), Number]
"""C, classes of a label map."""

ListLength = Annotated[int, Field(ge=1, le=10**6), Number]
"""Points of a class."""


@settings
class NetworkConfig:
    """What a configuration says of the networks. The corpus and the features add the rest (see `sized`)."""

    architecture: Architecture = "gan_1d"
    """gan_cnn or gan_att (paper, Sec. 5.1), gan_1d (ours: convolutions over time only), or no GAN: gaussian and
    gaussian_frames in closed form, points a list (rivals/)."""

    frames: Annotated[int, Field(ge=1, le=4096), Number] = 16
    """T, frames of a sample: a multiple of 8 for gan_cnn and gan_att, of 4 for gan_1d."""

    noise: Width = 100
    """Z, dimensions of the noise."""

    channels: Width = 256
    """Channels of the generator. Paper: 256 for GAN-CNN, 128 for GAN-ATT."""

    kernel: Annotated[int, Field(ge=1, le=31), Number] = 3
    """Taps of a convolution, an odd number."""

    critic_channels: Width = 256
    """Channels of the critic."""

    utterance_branch: bool = False
    """Beyond the paper: critic and generator each see the utterance mean."""

    movement: Deviations = "own"
    """Whose frame deviations a sample gets. own: its own. any: those of another sample, of a random class and from
    independent noise (beyond the paper, for frame-level heads; generator/deviations.py). Applied when samples are
    drawn, not in training."""

    @property
    def draws_deviations(self) -> bool:
        """Whether frame deviations come from noise. A Gaussian of means has none, those of a list of points are in the
        file."""
        return self.architecture not in ("gaussian", "points")

    def __post_init__(self) -> None:
        step = FRAME_STEP[self.architecture]
        if self.frames % step:
            raise ValueError(f"frames: expected a multiple of {step} for {self.architecture}, found {self.frames}")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel: expected an odd number, found {self.kernel}")
        if self.movement == "any" and not self.draws_deviations:
            raise ValueError("movement: any is for networks that draw frame deviations, and those of "
                             f"{self.architecture} are fixed. Give own.")

    def sized(self, classes: int, dim: int, points: list[int] | None = None) -> "Network":
        """The network for C classes and D dimensions; points: see Network.

        A Gaussian has noise of D dimensions and one frame; one with frames has D numbers more for each frame.
        """
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(NetworkConfig)}
        if self.architecture == "gaussian":
            values.update(frames=1, noise=dim)
        elif self.architecture == "gaussian_frames":
            values.update(noise=dim * (1 + self.frames))
        elif self.architecture == "points":
            values.update(noise=1)
        return Network(**values, classes=classes, dim=dim, points=points)


@settings
class Network(NetworkConfig):
    """A network's whole description, as the generator file stores it."""

    classes: Classes = Field(kw_only=True)
    """C, of the label map."""

    dim: Dim = Field(kw_only=True)
    """D, of the features."""

    points: list[ListLength] | None = Field(default=None, kw_only=True)
    """Of architecture points alone: how many the list holds of each class [C]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.points is not None) != (self.architecture == "points"):
            raise ValueError(f"points: the numbers of points of each class, for architecture points and no other, "
                             f"found {self.points} for {self.architecture}")
        if self.points is not None and len(self.points) != self.classes:
            raise ValueError(f"points: expected one for each of the {self.classes} classes, found {len(self.points)}")
        if self.architecture == "gaussian_frames" and self.noise != self.dim * (1 + self.frames):
            raise ValueError(f"noise: expected dim * (1 + frames), {self.dim * (1 + self.frames)}, found {self.noise}")


class BatchNorm(nn.Module):
    """Batch norm over all dimensions but 1; under torch.distributed the statistics are of all ranks' samples.

    (nn.SyncBatchNorm does the same on GPUs only.)
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, channels, ...] -> the same shape"""
        if not (self.training and dist.is_available() and dist.is_initialized()):
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.training,
                                self.momentum, self.eps)
        over = [axis for axis in range(x.dim()) if axis != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        moments = torch.stack([x.mean(over), x.square().mean(over)])  # [2, channels]
        moments = all_reduce(moments) / dist.get_world_size()
        mean, var = moments[0], moments[1] - moments[0].square()
        with torch.no_grad():
            count = x.numel() / x.shape[1] * dist.get_world_size()
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * count / (count - 1), self.momentum)
        x = (x - mean.view(shape)) * torch.rsqrt(var.view(shape) + self.eps)
        return x * self.weight.view(shape) + self.bias.view(shape)


class TimeAttention(nn.Module):
    """One self-attention over time on maps [B, C, T, D']: a frame is its D' positions averaged, residual.

    Queries and keys are of the mean over D', so a frame attends to frames; values keep their D' positions.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.value, self.output = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, T, D'] -> [B, C, T, D']"""
        frames = x.mean(dim=3).transpose(1, 2)  # [B, T, C]
        weights = self.query(frames) @ self.key(frames).transpose(1, 2) / frames.shape[-1] ** 0.5  # [B, T, T]
        mixed = torch.einsum("bts,bcsd->bctd", weights.softmax(dim=-1), self.value(x))
        return x + self.output(mixed)


class ConditionalGenerator(nn.Module):
    """z = [noise ; onehot(label)] > linear > body > frames, plus an utterance-level shift where it is asked for."""

    def __init__(self, config: Network) -> None:
        super().__init__()
        self.config = config
        latent = config.noise + config.classes
        self.start = nn.Linear(latent, math.prod(self.start_shape))
        self.body = self.build_body()
        self.utterance = nn.Sequential(
            nn.Linear(latent, config.channels), nn.LeakyReLU(0.2), nn.Linear(config.channels, config.channels),
            nn.LeakyReLU(0.2), nn.Linear(config.channels, config.dim)) if config.utterance_branch else None

    def forward(self, noise: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """noise: [B, Z]; labels: [B] -> [B, T, D]"""
        onehot = F.one_hot(labels, self.config.classes).to(noise.dtype)
        latent = torch.cat([noise, onehot], dim=1)  # [B, Z + C]
        frames = self.frames(self.start(latent).view(-1, *self.start_shape))  # [B, T, D]
        return frames if self.utterance is None else frames + self.utterance(latent)[:, None]

    @property
    def start_shape(self) -> tuple[int, ...]:
        """What the first layer makes of the latent vector, without the batch; the configuration alone decides."""
        raise NotImplementedError

    def build_body(self) -> nn.Sequential:
        """The layers between the first one's output and the frames; the configuration alone decides."""
        raise NotImplementedError

    def frames(self, start: torch.Tensor) -> torch.Tensor:
        """The first layer's output [B, *start_shape] -> frames [B, T, D]"""
        raise NotImplementedError


class Generator2d(ConditionalGenerator):
    """GAN-CNN: linear > 8 (transposed) conv2d with batch norm and leaky ReLU > conv2d. Three of them double [T, D].

    GAN-ATT: the same with dilated convolutions and one self-attention over time after the 4th.
    """

    @property
    def start_shape(self) -> tuple[int, ...]:
        """channels, T / 8, D / 8; D / 8 is rounded up."""
        return self.config.channels, self.config.frames // 8, math.ceil(self.config.dim / 8)

    def build_body(self) -> nn.Sequential:
        """Nine convolutions on maps [B, channels, T', D']."""
        config = self.config
        layers: list[nn.Module] = []
        attention = config.architecture == "gan_att"
        for number in range(1, 9):
            if number in (4, 6, 8):
                layers.append(nn.ConvTranspose2d(config.channels, config.channels, 4, stride=2, padding=1))
            else:
                dilation = 2 if attention else 1
                layers.append(nn.Conv2d(config.channels, config.channels, config.kernel, dilation=dilation,
                                        padding=dilation * (config.kernel // 2)))
            layers += [BatchNorm(config.channels), nn.LeakyReLU(0.2)]
            if attention and number == 4:
                layers.append(TimeAttention(config.channels))
        return nn.Sequential(*layers, nn.Conv2d(config.channels, 1, config.kernel, padding=config.kernel // 2))

    def frames(self, start: torch.Tensor) -> torch.Tensor:
        """[B, channels, T / 8, D / 8] -> [B, T, D]; what was rounded up is cut off."""
        maps = self.body(start)  # [B, 1, T, >= D]
        return maps[:, 0, :, :self.config.dim]


class TimeConv(nn.Module):
    """Convolution over time of [B, T, N] -> [B, T / stride, channels], written as one matrix product.

    Twice as fast on a CPU as nn.Conv1d under the gradient penalty's double backward.
    """

    def __init__(self, inputs: int, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.linear = nn.Linear(inputs * kernel, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, inputs] -> [B, T', channels]"""
        x = F.pad(x, (0, 0, self.kernel // 2, self.kernel // 2))
        return self.linear(x.unfold(1, self.kernel, self.stride).flatten(2))  # of [B, T', inputs * kernel]


class Upsample(nn.Module):
    """[B, T, 2 N] -> [B, 2 T, N]"""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A frame's halves become two frames."""
        return x.unflatten(2, (2, -1)).flatten(1, 2)


class TimeBatchNorm(BatchNorm):
    """Batch norm of [B, T, N] over batch and time."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, N] -> [B, T, N]"""
        return super().forward(x.flatten(0, 1)).view_as(x)


class Generator1d(ConditionalGenerator):
    """GAN-1D: linear > four convolutions over time, the middle ones double the time > linear to D dimensions."""

    @property
    def start_shape(self) -> tuple[int, ...]:
        """T / 4, channels"""
        return self.config.frames // 4, self.config.channels

    def build_body(self) -> nn.Sequential:
        """Four convolutions and a linear layer on [B, T', channels]."""
        config, width = self.config, self.config.channels
        layers: list[nn.Module] = []
        for upsample in (False, True, True, False):
            layers.append(TimeConv(width, 2 * width if upsample else width, config.kernel))
            layers += [Upsample()] if upsample else []
            layers += [TimeBatchNorm(width), nn.LeakyReLU(0.2)]
        return nn.Sequential(*layers, nn.Linear(width, config.dim))

    def frames(self, start: torch.Tensor) -> torch.Tensor:
        """[B, T / 4, channels] -> [B, T, D]"""
        return self.body(start)


class GaussianMeans(nn.Module):
    """What Gaussians have in common: an utterance mean is the class's mean + noise @ factor (rivals/gaussian.py)."""

    def __init__(self, config: Network, noise: int) -> None:
        """noise: numbers K that an utterance mean is made from"""
        super().__init__()
        self.config = config
        self.means = nn.Parameter(torch.zeros(config.classes, config.dim))
        self.factor = nn.Parameter(torch.zeros(noise, config.dim))

    def utterance_means(self, noise: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """noise: [B, K]; labels: [B] -> [B, D]"""
        return self.means[labels] + noise @ self.factor


class Gaussian(GaussianMeans):
    """No GAN: the same in every frame. Noise has D dimensions."""

    def __init__(self, config: Network) -> None:
        super().__init__(config, config.noise)

    def forward(self, noise: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """noise: [B, Z]; labels: [B] -> [B, T, D]"""
        return self.utterance_means(noise, labels)[:, None].expand(-1, self.config.frames, -1)


class GaussianFrames(GaussianMeans):
    """No GAN: an utterance mean as Gaussian's, the class's profile over time, and frames that remember the one before.

    Along each of a class's D directions the frames are a first-order autoregressive process, centred within the
    utterance, so that its mean is the Gaussian's. Noise: D numbers of the mean, then D of each frame.
    """

    def __init__(self, config: Network) -> None:
        super().__init__(config, config.dim)
        classes, frames, dim = config.classes, config.frames, config.dim
        self.profile = nn.Parameter(torch.zeros(classes, frames, dim))
        self.directions = nn.Parameter(torch.zeros(classes, dim, dim))
        self.memory = nn.Parameter(torch.zeros(classes, dim))

    def forward(self, noise: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """noise: [B, D + T * D]; labels: [B] -> [B, T, D]"""
        config = self.config
        of_mean, of_frames = noise.split([config.dim, config.frames * config.dim], dim=1)
        means = self.utterance_means(of_mean, labels)  # [B, D]
        process = autoregressive(of_frames.unflatten(1, (config.frames, config.dim)), self.memory[labels])
        process = process - process.mean(dim=1, keepdim=True)
        return means[:, None] + self.profile[labels] + process @ self.directions[labels]


def autoregressive(noise: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
    """Processes of unit variance x_t = memory x_{t-1} + sqrt(1 - memory^2) noise_t.

    noise: [B, T, D], standard normal; memory: [B, D] in (-1, 1) -> [B, T, D]
    """
    fresh = (1 - memory.square()).sqrt()
    frames = [noise[:, 0]]
    for now in noise[:, 1:].unbind(dim=1):
        frames.append(memory * frames[-1] + fresh * now)
    return torch.stack(frames, dim=1)


class Points(nn.Module):
    """No network: a list of points of each class, in order. Its noise [B, 1] is a point's place in its class's list."""

    def __init__(self, config: Network) -> None:
        super().__init__()
        assert config.points is not None
        self.config = config
        self.counts = torch.tensor(config.points, device="cpu")
        self.points = nn.Parameter(torch.zeros(sum(config.points), config.frames, config.dim))

    def forward(self, places: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """places: [B, 1], whole numbers from 0, below the class's number of points; labels: [B] -> [B, T, D]"""
        first = (self.counts.cumsum(0) - self.counts).to(labels.device)
        return self.points[first[labels] + places[:, 0].long()]


Rival = Gaussian | GaussianFrames | Points
"""A network that is no GAN."""


def build_generator(config: Network) -> ConditionalGenerator | Rival:
    """The network, with fresh weights from torch's global random state."""
    if config.architecture == "points":
        return Points(config)
    if config.architecture == "gaussian_frames":
        return GaussianFrames(config)
    if config.architecture == "gaussian":
        return Gaussian(config)
    return Generator1d(config) if config.architecture == "gan_1d" else Generator2d(config)

"""The distiller's configuration, read from downstream_configs/*.yaml: every setting with its meaning, unit and origin.

"Paper" names the equation or section that a setting comes from. "Chosen here" means that the paper leaves it open.
"""

from collections.abc import Mapping
from dataclasses import asdict, field
from typing import Annotated, Any, Literal

from pydantic import Field

from ..config import Count, Fraction, Number, Positive, Seed, Weight, settings
from ..generator import NetworkConfig
from ..generator.networks import GANS
from ..pool.frame_heads import Kind
from ..pool.kinds import HEADS

Folds = Annotated[int, Field(ge=0, le=100), Number]
"""Parts of the speakers."""

Learnt = Annotated[int, Field(ge=0, le=1000), Number]
"""Points of a class."""

Privacy = Annotated[float, Field(ge=0, le=1), Number]
"""From nothing, 0, to all of it, 1."""

Kinds = Annotated[tuple[Kind, ...], Field(min_length=1)]
"""Kinds of heads, at least one."""


@settings
class Lambdas:
    """The weight of each loss term, the lambdas of Eq. 1 to 8; 0 leaves a term out, and it is not computed.

    Critic and generator scores (Eq. 1 and 2) always weigh 1. But for gradient_penalty all weights are chosen here.
    """

    gradient_penalty: Weight = 0
    """Eq. 1, lambda_gp: pulls the norm of the critic's gradient to 1. The paper's is 10."""

    critic_class: Weight = 0
    """Eq. 4, lambda_CE: cross-entropy of the critic's class head on real data."""

    critic_class_fake: Weight = 0
    """The same on generated data, in the critic's total. The paper leaves open whether Eq. 4 has it."""

    feature_matching: Weight = 0
    """Eq. 3 and 5, lambda_FM: distance of the critic's feature maps on real and generated data."""

    generator_class: Weight = 0
    """Eq. 5, lambda_CE: cross-entropy of the critic's class head on generated data, in the generator's total."""

    softmax_matching: Weight = 0
    """Eq. 6 and 8, lambda_SML: the pool's softmax on real and on generated data."""

    diversity: Weight = 0
    """Eq. 7 and 8, lambda_DIV: distance of two samples of a class against the distance of their noise."""

    mmd: Weight = 0
    """Beyond the paper: maximum mean discrepancy of utterance means within each class."""

    frame_covariance: Weight = 0
    """Beyond the paper: covariance of frames within utterances, at lags 0 and 1, class by class."""

    modulation: Weight = 0
    """Beyond the paper: power of frames in each octave of modulation, class by class and dimension by dimension."""

    @property
    def hear_frames(self) -> bool:
        """Whether a term compares frames."""
        return self.frame_covariance > 0 or self.modulation > 0


def with_new_keys(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as JSON, of this version or one before: what its blocks lack was as it is by default."""
    blocks = {"network": asdict(NetworkConfig()), "lambdas": asdict(Lambdas())}
    return {key: {**blocks.get(key, {}), **value} if key in blocks else value for key, value in settings.items()}


@settings
class DistillConfig:
    """One distillation."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    """The GAN's architecture and sizes (paper, Sec. 5.1)."""

    lambdas: Lambdas = field(default_factory=Lambdas)
    """The weight of each loss term (Eq. 1 to 8); terms that are not named weigh 0."""

    steps: Count = 2000
    """Generator steps. Chosen here."""

    batch: Count = 64
    """Samples of a step over all ranks, rounded down to as many of each class on each rank. Chosen here, as WGAN-GP."""

    critic_steps: Count = 5
    """Critic updates before each generator update. Chosen here, as WGAN-GP."""

    penalty_every: Count = 1
    """Critic updates to each gradient penalty, which then weighs as many times as much. 1 is Eq. 1; more is the lazy
    regularisation of StyleGAN2 (Karras et al. 2020, App. B), which is cheaper and another training."""

    generator_lr: Positive = 3e-4
    """Adam's learning rate for the generator. Chosen here."""

    critic_lr: Positive = 3e-4
    """Adam's learning rate for the critic. Chosen here."""

    betas: tuple[Fraction, Fraction] = (0.0, 0.9)
    """Adam's decays of the first and second moment, for both networks. Chosen here, as WGAN-GP."""

    ema: Fraction = 0.999
    """Decay, per step, of the average of the generator's weights that is saved and measured; 0 takes the last weights.
    Chosen here."""

    framing: Literal["resample", "crop"] = "resample"
    """How an utterance becomes the network's T frames: resample, all of it averaged or stretched in time; crop, T
    frames from a random place. Chosen here."""

    feature_matching: Literal["class", "sample"] = "class"
    """What Eq. 3 compares: sample, the maps of paired samples (the paper); class, the mean maps of each class."""

    softmax_pairing: Literal["label", "assignment"] = "label"
    """The real partner of a sample in Eq. 6: label, any of its class (the paper); assignment, the optimal one-to-one
    assignment within the class on the pool's outputs."""

    softmax_heads: Count = 4
    """Heads m of Eq. 6 that are drawn from the pool at each step, of each kind. Chosen here."""

    softmax_kinds: Kinds = ("superb",)
    """Kinds of heads that Eq. 6 draws from: superb hears the utterance mean, attentive and cnn hear frames."""

    tau: Positive = 10.0
    """Eq. 7: bound of the ratio of distances, in standardised features per unit of noise. Chosen here."""

    calibrate: bool = False
    """Beyond the paper: give samples the real class means and within-class covariance (generator/calibrate.py)."""

    privacy: Privacy = 0
    """Beyond the paper: how much of the differences between speakers is removed from samples and from the heads in the
    file (distill/anonymous.py). 0: nothing. 1: all, in the covariance within classes and along the speakers' means.
    Needs calibrate: true."""

    teacher: bool = True
    """Beyond the paper: the file carries the pool's best heads as linear maps, for soft labels."""

    teacher_folds: Folds = 0
    """Beyond the paper: train the file's heads K times, each without one of K groups of speakers, so that they reveal
    less about who was in training. 0: the pool's heads (with `privacy`: one ridge head)."""

    teacher_hears: Literal["speech", "samples"] = "speech"
    """Beyond the paper: what the file's heads are trained on. speech: real speech. samples: the finished generator's
    samples with the soft labels of heads on speech; these heads reveal less about who was in training."""

    points: Learnt = 0
    """Beyond the paper: how many utterance means of each class are learnt for small sets and stored in the file
    (distill/points.py). 0: none."""

    seed: Seed = 0
    """Of weights, batches and noise."""

    eval_every: Count = 250
    """Steps between quick heads on dev; the last generator within one standard error of the best is kept."""

    eval_heads: Count = 3
    """Quick heads of an evaluation, each of its own seed."""

    eval_kinds: Kinds = ("superb",)
    """Kinds of quick heads; a generator is measured by the mean over them."""

    eval_labels: Literal["hard", "soft"] = "hard"
    """What quick heads learn: the class alone, or the teacher's soft labels of a centred set, as heads do in a run."""

    selection: Literal["dev", "speakers"] = "dev"
    """Whose speech chooses the generator: S3PRL's dev part, whose speakers are trained on too, or speakers that are
    held out of the GAN's training (a fifth of them, with all their utterances)."""

    log_every: Count = 25
    """Steps between lines of the log."""

    save_every: Count = 250
    """Steps between checkpoints; every evaluation saves one too."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the networks' passes; bfloat16 is autocast, for GPUs. Weights, statistics, losses and what they average stay
    in float32, the gradient penalty's norm too."""

    half_file: bool = False
    """Write the generator's weights as float16: half the file."""

    @property
    def weights(self) -> dict[str, float]:
        """Loss term -> its weight in the critic's or the generator's total."""
        weights = {"critic_score": 1.0, "generator_score": 1.0, **asdict(self.lambdas)}
        return {**weights, "gradient_penalty": self.lambdas.gradient_penalty * self.penalty_every}

    @property
    def needs_pool(self) -> bool:
        """Whether heads trained on real data are needed, for Eq. 6 or as a teacher."""
        of_the_pool = self.teacher and not (self.teacher_folds or self.privacy)
        return of_the_pool or self.lambdas.softmax_matching > 0

    @property
    def pool_kinds(self) -> tuple[Kind, ...]:
        """Kinds of heads that the pool must have beside SUPERB's."""
        wanted = self.softmax_kinds if self.lambdas.softmax_matching else ()
        return tuple(kind for kind in dict.fromkeys(wanted) if HEADS[kind].hears_frames)

    def __post_init__(self) -> None:
        if self.eval_labels == "soft" and not self.teacher:
            raise ValueError("eval_labels: soft labels are the teacher's, and this configuration has none "
                             "(teacher: false)")
        is_gan = self.network.architecture in GANS
        is_taught, network = self.teacher and is_gan, f"network.architecture {self.network.architecture}"
        found = f"teacher is {str(self.teacher).lower()}, {network}"
        if self.teacher_hears == "samples" and not is_taught:
            raise ValueError(f"teacher_hears: samples is for a GAN with teacher: true ({found})")
        if self.points and not is_taught:
            raise ValueError(f"points: {self.points} are learnt for a GAN with teacher: true ({found}); give points: 0")
        if self.teacher_folds == 1 or (self.teacher_folds and not is_taught):
            raise ValueError(f"teacher_folds: {self.teacher_folds}, expected 0, or 2 or more of a GAN with teacher: "
                             f"true ({found})")
        if self.privacy and not (self.calibrate and is_gan):
            raise ValueError(f"privacy: {self.privacy:g} is for calibrated GANs (calibrate: true), and calibrate is "
                             f"{str(self.calibrate).lower()}, {network}")

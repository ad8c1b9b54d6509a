"""The distiller's configuration, read from downstream_configs/*.yaml."""

from dataclasses import dataclass, field

from ..generator.networks import NetworkConfig

TERMS = {  # every loss term by name; a weight of 0 leaves it out
    "gradient_penalty": "Eq. 1, lambda_gp; the paper's 10",
    "critic_class": "Eq. 4, lambda_CE: cross-entropy of the critic's class head on real data",
    "critic_class_fake": "as critic_class, on generated data (unknown in the paper; 0 leaves real only)",
    "feature_matching": "Eq. 3 and 5",
    "generator_class": "Eq. 5, lambda_CE: the critic's class head on generated data",
    "softmax_matching": "Eq. 6 and 8, lambda_SML",
    "diversity": "Eq. 7 and 8, lambda_DIV",
    "mmd": "beyond the paper: maximum mean discrepancy of utterance means within the class",
}


@dataclass
class DistillConfig:
    """One distillation. Paper: settings it states; the rest is unknown there and chosen here on dev data."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    lambdas: dict[str, float] = field(default_factory=dict)  # weights of TERMS; what is not named is 0
    steps: int = 2000  # generator steps
    batch: int = 64  # samples of a step over all ranks, rounded down to as many of each class
    critic_steps: int = 5  # critic updates before each generator update (WGAN-GP)
    generator_lr: float = 3e-4  # Adam
    critic_lr: float = 3e-4
    betas: list[float] = field(default_factory=lambda: [0.0, 0.9])  # of Adam, as WGAN-GP
    schedule: str = "constant"  # constant | linear | cosine, down to 0 at the last step
    warm_steps: int = 0  # first steps on the baseline losses alone (Eq. 5)
    ema: float = 0.999  # of the generator's weights; 0 keeps the last weights
    framing: str = "resample"  # utterance -> T frames: resample in time | crop
    feature_matching: str = "class"  # Eq. 3 on paired samples ("sample") or on class means of the maps ("class")
    softmax_reduction: str = "sample"  # Eq. 6: "sample" | "class" (mean softmax of each class)
    softmax_pairing: str = "label"  # partner of a sample: any of its label (paper) | "assignment" within the class
    softmax_heads: int = 4  # m drawn from the pool at each step
    temperature: float = 1.0  # of the softmax in Eq. 6
    tau: float = 10.0  # Eq. 7, bound of the ratio
    diversity_of: str = "frames"  # Eq. 7 on "frames" | "means" of utterances
    calibrate: bool = False  # beyond the paper: see distill/calibrate.py
    teacher: bool = True  # carry the pool's mean linear heads for soft labels
    seed: int = 0
    eval_every: int = 250  # steps between quick heads on dev; the best generator on dev is kept
    eval_heads: int = 3  # quick heads of an evaluation
    eval_soft: bool = False  # quick heads learn the teacher's soft labels
    patience: int = 0  # evaluations without a better dev UAR before an early stop; 0 never stops
    log_every: int = 25
    save_every: int = 250  # steps between checkpoints
    precision: str = "float32"  # float32 | bfloat16 (GPU autocast)
    compile: bool = False  # torch.compile both networks
    half_file: bool = False  # write the generator's weights as float16

    def __post_init__(self):
        unknown = sorted(set(self.lambdas) - set(TERMS))
        if unknown:
            raise ValueError(f"lambdas: unknown term {unknown[0]!r}; known: {', '.join(TERMS)}")
        choices = {"schedule": ("constant", "linear", "cosine"), "feature_matching": ("sample", "class"),
                   "softmax_reduction": ("sample", "class"), "softmax_pairing": ("label", "assignment"),
                   "diversity_of": ("frames", "means"), "precision": ("float32", "bfloat16"),
                   "framing": ("resample", "crop")}
        for key, allowed in choices.items():
            if getattr(self, key) not in allowed:
                raise ValueError(f"{key} must be one of {', '.join(allowed)}, found {getattr(self, key)!r}")
        if min(self.steps, self.batch, self.critic_steps, self.eval_every, self.log_every, self.save_every) < 1:
            raise ValueError("steps, batch, critic_steps, eval_every, log_every and save_every must be positive")

    def weight(self, term):
        return self.lambdas.get(term, 0.0)

    @property
    def needs_pool(self):
        return self.teacher or self.weight("softmax_matching") > 0

"""The distiller: real features and a pool of heads in, a generator file out. Knows nothing of S3PRL.

Read config.py, then losses.py (the paper's equations), critic.py, data.py and trainer.py.
"""

from .config import DistillConfig, Lambdas
from .data import TrainingData
from .gaussian import fit_gaussian
from .parts import Parts
from .trainer import Trainer

__all__ = ["DistillConfig", "Lambdas", "Parts", "Trainer", "TrainingData", "fit_gaussian"]

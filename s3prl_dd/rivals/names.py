"""Names of rivals, for what need not load them."""

from typing import Literal

Name = Literal["random_real", "herding", "gaussian", "gaussian_frames", "gaussian_frames_any", "gradient_matching",
               "closed_form"]
"""Rivals that are files. random_real: with the teacher's labels, which S3PRL's own path has not. gaussian_frames_any:
gaussian_frames, each sample with the frame deviations of any class (generator/deviations.py)."""

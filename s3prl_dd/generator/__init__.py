"""The generator file: one `.safetensors` that replaces a corpus. Needs nothing else of s3prl_dd to be read and sampled."""

from .budget import class_counts
from .dataset import GeneratedDataset
from .file import Generator, Samples, index_labels
from .inspect import inspect
from .networks import NetworkConfig

__all__ = ["GeneratedDataset", "Generator", "NetworkConfig", "Samples", "class_counts", "index_labels", "inspect"]

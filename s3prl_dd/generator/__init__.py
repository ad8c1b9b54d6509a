"""The generator file: one `.safetensors` that replaces a corpus. Needs nothing else of s3prl_dd to be read and sampled."""

from .budget import class_counts
from .calibrate import Calibration
from .dataset import GeneratedDataset
from .file import Generator, Samples, Teacher, index_labels
from .header import CorpusInfo, Header, Provenance, read_header
from .inspect import inspect
from .networks import Network, NetworkConfig, build_generator
from .sampling import DEFAULTS, Sampling

__all__ = ["DEFAULTS", "Calibration", "CorpusInfo", "GeneratedDataset", "Generator", "Header", "Network", "NetworkConfig",
           "Provenance", "Sampling", "Samples", "Teacher", "build_generator", "class_counts", "index_labels", "inspect",
           "read_header"]

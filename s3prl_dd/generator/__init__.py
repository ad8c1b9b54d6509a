"""The generator file: one `.safetensors` that replaces a corpus. Read and sampled by this folder alone."""

from .budget import Budget, class_counts
from .calibrate import Calibration
from .dataset import GeneratedDataset, Item
from .file import Teacher
from .generator import Generator
from .header import CorpusInfo, Header, Provenance, read_header
from .inference import DrawOptions
from .inspect import inspect
from .networks import Network, NetworkConfig, build_generator
from .samples import Samples, index_labels
from .sampling import DEFAULTS, Sampling
from .store import SampleStore, StoredSet

__all__ = [
    "DEFAULTS", "Budget", "Calibration", "CorpusInfo", "DrawOptions", "GeneratedDataset", "Generator", "Header", "Item",
    "Network", "NetworkConfig", "Provenance", "SampleStore", "Sampling", "Samples", "StoredSet", "Teacher",
    "build_generator", "class_counts", "index_labels", "inspect", "read_header",
]

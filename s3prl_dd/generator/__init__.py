"""The generator file: one `.safetensors` that replaces a corpus. Read and sampled by this folder alone."""

from .budget import Budget, class_counts
from .calibrate import Calibration
from .dataset import GeneratedDataset, Item
from .generator import Generator
from .header import CorpusInfo, Header, Provenance, read_header
from .heads import LinearHeads
from .inference import DrawOptions
from .inspect import inspect
from .networks import Network, NetworkConfig, build_generator
from .samples import Samples, index_labels
from .sampling import DEFAULTS, Sampling
from .store import SampleStore, StoredSet

__all__ = [
    "DEFAULTS", "Budget", "Calibration", "CorpusInfo", "DrawOptions", "GeneratedDataset", "Generator", "Header", "Item",
    "LinearHeads", "Network", "NetworkConfig", "Provenance", "SampleStore", "Sampling", "Samples", "StoredSet",
    "build_generator", "class_counts", "index_labels", "inspect", "read_header",
]

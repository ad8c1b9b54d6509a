"""What a generator file says of the data behind it, and its header made from that."""

from dataclasses import asdict
from typing import Any, NamedTuple

from ..generator import CorpusInfo, Header, Network, Provenance
from .config import DistillConfig
from .data import TrainingData


class Parts(NamedTuple):
    """The parts of a generator file's header that the distiller only hands on."""

    labels: dict[str, int]
    """Class name -> index."""

    features: Provenance
    """How the features were made."""

    corpus: CorpusInfo
    """Where they came from, and whose speech they are: by name here, by digest in the file."""

    def header(self, network: Network, data: TrainingData, config: DistillConfig, **training: Any) -> Header:
        """The header of a generator distilled from `data`; training: what to keep beside the configuration."""
        return Header(network=network, labels=self.labels, class_counts=data.class_counts,
                      lengths=data.length_percentiles(), features=self.features,
                      corpus=self.corpus.hiding_names(), training={**asdict(config), **training})

"""FeatureSpec: which features of speech are meant, in one place; and the names of upstreams."""

from pathlib import Path
from typing import NamedTuple

from ..config import settings

OWN_FORMS = "FILE.py:FUNCTION or MODULE:FUNCTION"
"""How an upstream of the user's own is named."""


@settings
class FeatureSpec:
    """How audio becomes features: a frozen upstream of S3PRL's hub, and what of it is taken.

    The layer weights that a run learns are not part of it: they are numbers, kept beside it (Provenance).
    """

    upstream: str = "moonshine"
    """The frozen upstream, S3PRL's -u: a name of its hub, moonshine, or a function of yours, FILE.py:FUNCTION."""

    upstream_ckpt: str | None = None
    """Its checkpoint, S3PRL's -k: a file, a folder or a model's id, for upstreams that need one."""

    upstream_model_config: str | None = None
    """Its model configuration, S3PRL's -g, for upstreams that need one."""

    selection: str = "hidden_states"
    """Which of its outputs, S3PRL's -s."""

    layer: int | None = None
    """One layer of it, S3PRL's -l, counted from 0; without it all layers are weighted and summed."""

    normalize: bool = False
    """Layer-normalise each state first, S3PRL's --upstream_feature_normalize."""

    def flags(self) -> list[str]:
        """S3PRL's flags for these features."""
        flags = ["-u", self.upstream, "-s", self.selection]
        optional = {"-k": self.upstream_ckpt, "-g": self.upstream_model_config, "-l": self.layer}
        for flag, value in optional.items():
            if value is not None:
                flags += [flag, str(value)]
        if self.normalize:
            flags.append("--upstream_feature_normalize")
        return flags

    def words(self) -> str:
        """What of the upstream is taken, for people: two runs that differ here have other features."""
        layer = "all layers weighted" if self.layer is None else f"layer {self.layer}"
        file = "" if self.upstream_ckpt is None else f", checkpoint {Path(self.upstream_ckpt).name}"
        return f"{self.selection}, {layer}{', normalised' if self.normalize else ''}{file}"


class Own(NamedTuple):
    """An upstream that is a function of the user's."""

    place: str
    """Where it is: a file, or a module's name."""

    function: str
    """What is called."""

    @property
    def is_file(self) -> bool:
        """Whether the place is a file."""
        return self.place.endswith(".py")


def own_upstream(name: str) -> Own | None:
    """The parts of a -u FILE.py:FUNCTION or MODULE:FUNCTION; None for a name of the hub."""
    place, colon, function = name.rpartition(":")
    return Own(place, function) if colon else None


def absolute_name(name: str) -> str:
    """The same name with its file as an absolute path."""
    own = own_upstream(name)
    return f"{Path(own.place).resolve()}:{own.function}" if own and own.is_file else name


def public_name(name: str) -> str:
    """What a generator file says of an upstream: of a file its name alone, not where it is on this machine."""
    own = own_upstream(name)
    return f"{Path(own.place).name}:{own.function}" if own and own.is_file else name

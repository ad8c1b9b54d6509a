"""FeatureSpec: which features of speech are meant, in one place."""

from ..config import settings


@settings
class FeatureSpec:
    """How audio becomes features: a frozen upstream of S3PRL's hub, and what of it is taken.

    The layer weights that a run learns are not part of it: they are numbers, kept beside it (Provenance).
    """

    upstream: str = "moonshine"
    """The frozen upstream, S3PRL's -u: any name of its hub, or moonshine."""

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

"""Where S3PRL's Runner looks for -d distilled_emotion; in a clone, a link to this file stands there (plugin.link)."""

from s3prl_dd.plugin.distilled import DistilledExpert as DownstreamExpert

__all__ = ["DownstreamExpert"]

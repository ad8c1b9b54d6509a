"""The benchmarks of `s3prl-dd bench`: each layer measures its own, what needs several of them is measured here."""

from .verb import Bench, as_json

__all__ = ["Bench", "as_json"]

"""Several threads in one upstream of S3PRL at once, so that each core has an utterance of its own."""

import threading
from typing import Any

from torch import nn

MADE_OF_TORCH = ("hubert", "wav2vec2", "wavlm", "data2vec", "unispeech_sat")
"""S3PRL's upstreams whose models keep nothing of a call; what they give is collected by S3PRL's hooks."""


class PerThread:
    """A list for each thread, as S3PRL's UpstreamBase uses its list of hidden states."""

    def __init__(self) -> None:
        self.lists = threading.local()

    def _mine(self) -> list[Any]:
        return self.lists.__dict__.setdefault("list", [])

    def append(self, item: Any) -> None:
        """Behind this thread's others."""
        self._mine().append(item)

    def copy(self) -> list[Any]:
        """This thread's."""
        return self._mine().copy()

    def clear(self) -> None:
        """Forget this thread's."""
        self._mine().clear()

    def __len__(self) -> int:
        return len(self._mine())


def made_thread_safe(upstream: nn.Module) -> bool:
    """Let several threads call an upstream at once, where it is of a kind that can. returns: whether they may"""
    if getattr(upstream, "calls_at_once", False):  # our own say so
        return True
    from s3prl.upstream.interfaces import UpstreamBase

    parts = type(upstream).__module__.split(".")
    if not isinstance(upstream, UpstreamBase) or parts[:2] != ["s3prl", "upstream"] or parts[2] not in MADE_OF_TORCH:
        return False
    if not isinstance(upstream._hook_hiddens, PerThread):
        upstream._hook_hiddens = PerThread()
        for hook in upstream.hooks:  # they hold the list that was there
            hook.handler.remove()
            upstream._register_hook_handler(hook)
    return True

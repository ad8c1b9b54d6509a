"""Make S3PRL see what we add, in this process: our downstreams (-d) and our upstreams (-u)."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import UserError, did_you_mean
from .compat import INSTALL, mend

DOWNSTREAM = Path(__file__).parent / "downstream"
"""One folder for each downstream of ours, as S3PRL's own are."""

UPSTREAMS = {
    "moonshine": "s3prl_dd.plugin.upstream.moonshine:moonshine",
    "ser_projector": "s3prl_dd.plugin.upstream.ser_projector:ser_projector",
}
"""Name for -u -> module:function, called as S3PRL calls its hub: (ckpt=, model_config=, refresh=)."""


def register() -> ModuleType:
    """Mend S3PRL's libraries, add our downstreams to s3prl.downstream and our upstreams to s3prl.hub. Again is safe.

    The first call imports s3prl.hub, which takes 5 to 10 seconds. returns: the module s3prl.hub
    """
    mend()
    try:
        import s3prl.downstream
        import s3prl.hub
    except ImportError as error:
        raise UserError(f"s3prl cannot be imported ({error}). {INSTALL}") from None
    if str(DOWNSTREAM) not in s3prl.downstream.__path__:
        s3prl.downstream.__path__.append(str(DOWNSTREAM))
    for name, entry in UPSTREAMS.items():
        if not hasattr(s3prl.hub, name):
            setattr(s3prl.hub, name, _entry(entry))
    return s3prl.hub


def check_downstream(name: str) -> None:
    """Raise UserError, with the names that come close, unless -d `name` is S3PRL's or ours. Registers first."""
    register()
    import s3prl.downstream

    options = {path.parent.name for folder in s3prl.downstream.__path__ for path in Path(folder).glob("*/expert.py")}
    if name not in options:
        raise UserError(f"downstream {name!r}: neither in S3PRL nor in s3prl_dd." + did_you_mean(name, options) +
                        f" Downstreams of s3prl_dd: {', '.join(downstreams())}; it also runs S3PRL's own.")


def downstreams() -> list[str]:
    """Names of our downstreams."""
    return sorted(path.parent.name for path in DOWNSTREAM.glob("*/expert.py"))


def _entry(path: str) -> Callable[..., Any]:
    """An upstream of the hub that imports its module when it is first called."""
    module, _, function = path.partition(":")

    def upstream(*args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module(module), function)(*args, **kwargs)

    return upstream

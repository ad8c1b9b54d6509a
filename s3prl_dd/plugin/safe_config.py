"""Text of a configuration that S3PRL hands to Python's eval: it must be a name and no code.

A configuration may come from a stranger, in a YAML file or inside a checkpoint.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import UserError

NAME = re.compile(r"[A-Za-z_]\w*")
PLAIN = re.compile(r"[\w./:\\ +-]*")
"""No bracket, so that it calls nothing: names, paths, numbers."""


def check_no_code(config: Mapping[str, Any]) -> None:
    """Raise UserError where a configuration holds code in place of a name.

    config: S3PRL's, of any downstream. Evaluated are names of optimizer, scheduler and splits, and in modelrc what its
    downstream likes: there no text may hold a bracket or a quote.
    """
    for block in ("optimizer", "scheduler"):
        _check_name(f"{block}.name", _block(config, block).get("name", ""))
    splits = _block(config, "runner").get("eval_dataloaders", ())
    for split in splits if isinstance(splits, list | tuple) else [splits]:
        _check_name("runner.eval_dataloaders", split)
    modelrc = _block(_block(config, "downstream_expert"), "modelrc")
    for key, text in _texts(modelrc, "downstream_expert.modelrc"):
        if not PLAIN.fullmatch(text):
            raise _code(key, text)


def _block(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    block = config.get(name)
    return block if isinstance(block, Mapping) else {}


def _check_name(key: str, text: Any) -> None:
    if text and not NAME.fullmatch(str(text)):
        raise _code(key, str(text))


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """All text that stands in a value, keys included, and where it stands."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield key, str(name)
            yield from _texts(item, f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item, key)


def _code(key: str, text: str) -> UserError:
    return UserError(f"config.{key}: found {text!r:.60}, expected a name. S3PRL evaluates it as Python, so that a "
                     "configuration or a checkpoint could run code; take one from a source that you trust.")

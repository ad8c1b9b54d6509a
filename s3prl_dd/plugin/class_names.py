"""The names of a trained head's classes, which its checkpoint does not tell: found beside it, or where its run read."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from ..corpora.metadata import Metadata, session
from ..errors import UserError
from ..files import read_json
from ..generator import read_header
from .ser_checkpoint import Origin


def find_labels(folder: Path, origin: Origin, classes: int) -> dict[str, list[str]]:
    """Class names in their order, as far as a run has left any: the file that they stand in -> C names.

    folder: of the checkpoint, where our expert keeps confusion matrices. Of the corpus' metadata and the generator
    what is there and has as many classes counts.
    """
    orders: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*_confusion.json")):
        with contextlib.suppress(UserError, KeyError, TypeError):
            orders[str(path)] = [str(name) for name in read_json(path)["labels"]]
    if origin.metadata:
        lists = Path(origin.metadata) / session(origin.fold)
        with contextlib.suppress(UserError, OSError, ValueError):
            orders[str(lists)] = Metadata.read(lists / "test_meta_data.json").class_names
    if origin.generator:
        with contextlib.suppress(UserError, OSError, ValueError):
            orders[origin.generator] = read_header(origin.generator).names()
    return {source: names for source, names in orders.items() if len(names) == classes}


def name_classes(path: Path, origin: Origin, classes: int, given: Sequence[str] | None) -> tuple[str, ...] | None:
    """The C class names of a checkpoint's head, in order; None where nothing tells them.

    Raises UserError where two places tell different ones, and for given names of another number, or one twice.
    """
    if given is not None:
        if len(given) != classes or len(set(given)) != classes:
            raise UserError(f"labels {','.join(given)}: the head of {path} has {classes} classes. Give so many "
                            "different names, in the order of its training.")
        return tuple(given)
    orders = find_labels(path.parent, origin, classes)
    if len({tuple(names) for names in orders.values()}) > 1:
        told = "; ".join(f"{source}: {','.join(names)}" for source, names in orders.items())
        raise UserError(f"{path}: sources disagree about its class names ({told}). Choose with --labels.")
    return tuple(next(iter(orders.values()))) if orders else None

"""The generator file's header: what the file is and was made from, read without its tensors and checked whole.

It is JSON in the safetensors metadata, under the key `s3prl_dd`.
"""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open

from ..config import Count, Weight, explain, settings
from ..errors import UserError, one_line
from ..files import text_digest
from .hub import located
from .networks import Dim, Network

FORMAT_VERSION: Final = 1
"""The layout of the file that this package writes and reads."""

METADATA_KEY = "s3prl_dd"
"""Where the header stands in the safetensors metadata."""

Percentiles = Annotated[list[Weight], Field(min_length=101, max_length=101)]
"""The 0th, 1st, ... 100th percentile of lengths, in frames."""

Precision = Literal["float32", "float16"]

REMEDY = "Copy it again or distil anew."
"""What to do about a damaged file."""


@settings
class Provenance:
    """How features were made: two sets with the same provenance can stand for each other."""

    upstream: str
    """The frozen upstream, S3PRL's -u."""

    upstream_ckpt_digest: str | None
    """SHA-256 of its checkpoint; None where the upstream's name says it all."""

    selection: str
    """Which of its outputs, S3PRL's -s."""

    layer: int | None
    """One layer of it, S3PRL's -l; None where all layers are weighted and summed."""

    normalize: bool
    """Whether each state was layer-normalised first, S3PRL's --upstream_feature_normalize."""

    layer_weights: Annotated[list[Weight], Field(min_length=1)] | None
    """The layers' weights, softmaxed; None where there is nothing to weigh."""

    dim: Dim
    """D, numbers a frame."""

    rate: Count
    """Samples (at 16 kHz) a frame."""

    s3prl: str | None = None
    """S3PRL's version. Tells, and does not count as a difference."""

    def differences(self, other: "Provenance") -> dict[str, tuple[Any, Any]]:
        """What is not the same: field -> (here, in `other`). Layer weights may be 1e-4 apart."""
        pairs = {item.name: (getattr(self, item.name), getattr(other, item.name)) for item in dataclasses.fields(self)}
        del pairs["s3prl"]
        if _close(self.layer_weights, other.layer_weights):
            del pairs["layer_weights"]
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _close(one: list[float] | None, other: list[float] | None) -> bool:
    """Whether two lists of layer weights are the same up to 1e-4."""
    if one is None or other is None:
        return one is other
    return len(one) == len(other) and all(abs(a - b) <= 1e-4 for a, b in zip(one, other, strict=True))


@settings
class CorpusInfo:
    """The corpus that the file replaces, and who in it was heard."""

    name: str
    """The corpus."""

    fold: str
    """The fold that was left out, e.g. fold1."""

    synthetic: bool
    """Whether its speech is synthetic."""

    train_speakers: list[str]
    """Speakers of train and dev, heard by the distiller: their digests, in files of older versions their names."""

    test_speakers: list[str]
    """Speakers of the test fold, never heard: as `train_speakers`."""

    test_digest: str
    """SHA-256 of the test list."""

    hidden: bool = False
    """Whether speakers are told by their digests."""

    def hiding_names(self) -> "CorpusInfo":
        """The same with digests in place of the speakers' names, in an order that says nothing.

        They serve the check of folds and keep names out of sight; they are no secret. The salt (corpus, fold and test
        list) stands in the file: whoever guesses a name can see whether it was right, and of names such as Actor_07 all
        can be tried. Two files of one fold have the same digests, those of two folds have none in common.
        """
        if self.hidden:
            return self
        train, test = (sorted(map(self._digest, names)) for names in (self.train_speakers, self.test_speakers))
        return dataclasses.replace(self, train_speakers=train, test_speakers=test, hidden=True)

    def heard(self, speakers: Iterable[str]) -> list[str]:
        """Those of these speakers (their names) whom the distiller has heard, in their order."""
        known = set(self.train_speakers)
        return [name for name in speakers if (self._digest(name) if self.hidden else name) in known]

    def _digest(self, speaker: str) -> str:
        """A speaker's name as 16 hexadecimal digits."""
        return text_digest([self.name, self.fold, self.test_digest, speaker])[:16]


@settings
class Header:
    """A generator file's header. C, D: network.classes, network.dim."""

    network: Network
    """Architecture and sizes of the generator."""

    labels: dict[str, int]
    """Class name -> index, the indices 0 to C - 1."""

    class_counts: list[Count]
    """Training utterances per class that the file replaces, by class index [C]."""

    lengths: list[Percentiles]
    """Per class, 101 percentiles of the real lengths in frames [C, 101]."""

    features: Provenance
    """How the real features were made."""

    corpus: CorpusInfo
    """Where they came from."""

    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The distiller's whole configuration, and the step at which these weights were taken."""

    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What the trainer measured on dev, and when."""

    format_version: Literal[1] = FORMAT_VERSION
    """The layout of the file."""

    precision: Precision = "float32"
    """How the file stores the weights; `save` sets it."""

    def __post_init__(self) -> None:
        classes = self.network.classes
        if sorted(self.labels.values()) != list(range(classes)):
            raise ValueError(f"labels: expected the indices 0 to {classes - 1} once each (network.classes {classes}), "
                             f"found {sorted(self.labels.values())}")
        for name, items in (("class_counts", self.class_counts), ("lengths", self.lengths)):
            if len(items) != classes:
                raise ValueError(f"{name}: expected one for each of the {classes} classes, found {len(items)}")
        for label, percentiles in enumerate(self.lengths):
            if percentiles != sorted(percentiles):
                raise ValueError(f"lengths.{label}: expected percentiles that do not fall, found some that do")
        if self.features.dim != self.network.dim:
            raise ValueError(f"features.dim: expected network.dim {self.network.dim}, found {self.features.dim}")

    def names(self) -> list[str]:
        """Class names by index [C]."""
        return sorted(self.labels, key=self.labels.__getitem__)

    def to_json(self) -> str:
        """The text that stands in the file."""
        return json.dumps(dataclasses.asdict(self))


def read_header(path: str | Path) -> Header:
    """The header of a generator file, checked whole; no tensor is read.

    Raises UserError for a file that is missing, cut off, foreign, of another version, or whose header is damaged.
    """
    with open_file(path) as file:
        return header_of(path, file)


def refuse_generator(path: str | Path) -> None:
    """Raise UserError where a generator file lies at `path`, and something else is to be written there."""
    if not Path(path).is_file():
        return
    try:
        read_header(path)
    except UserError:
        return
    raise UserError(f"{path}: is a generator file, and what was asked for would take its place. Give another name for "
                    "what is written.")


def open_file(path: str | Path) -> Any:
    """The file as safetensors' safe_open gives it, a context manager. Raises UserError where it is none.

    path: also hf://USER/NAME[@REVISION], see hub.py
    """
    path = located(path)
    if not Path(path).is_file():
        raise UserError(f"{path}: no such generator file. `s3prl-dd distill` writes one.")
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({one_line(error)}). {REMEDY}") from None


def header_of(path: str | Path, file: Any) -> Header:
    """The header of an open file (see open_file)."""
    text = (file.metadata() or {}).get(METADATA_KEY)
    if text is None:
        raise UserError(f"{path}: a safetensors file, but not a generator of s3prl_dd (no s3prl_dd header).")
    try:
        return parse_header(text)
    except ValueError as error:
        raise UserError(f"{path}: {one_line(error)}") from None


def parse_header(text: str) -> Header:
    """A Header from its JSON. Raises ValueError that says what is wrong and what to do."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its header does not parse ({error}). {REMEDY}") from None
    if not isinstance(values, dict):
        raise ValueError(f"its header is {_kind(values)}, expected a JSON object. {REMEDY}")
    if values.get("format_version") != FORMAT_VERSION:
        raise ValueError(f"format version {values.get('format_version')!r:.40}, this s3prl_dd reads {FORMAT_VERSION}. "
                         "Install the version that wrote it, or distil anew.")
    try:
        return TypeAdapter(Header).validate_json(text, strict=True)
    except ValidationError as error:
        raise ValueError(f"its header {_complaint(error)}. {REMEDY}") from None


def _complaint(error: ValidationError) -> str:
    """What a damaged header lacks, or its first wrong value."""
    items = error.errors(include_url=False)
    missing = [_dotted(item["loc"]) for item in items if item["type"] == "missing"]
    if missing:
        return f"lacks {', '.join(missing)}"
    if items[0]["type"] == "json_invalid":
        return f"does not parse ({items[0]['msg']})"
    text = explain(error, Header).rstrip(".?")
    return "is damaged: " + (text if len(text) < 300 else f"{text[:200]} ... {text[-60:]}")


def _dotted(location: Iterable[int | str]) -> str:
    return ".".join(str(part) for part in location)


def _kind(value: object) -> str:
    """JSON's name of a value's type."""
    names = {list: "a list", str: "a string", bool: "true or false", int: "a number", float: "a number"}
    return "null" if value is None else names[type(value)]

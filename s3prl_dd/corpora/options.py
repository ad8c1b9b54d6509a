"""All that `prepare` can be told of a corpus, in one place: the command line and the recipe take it from here."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import Field

from ..config import Number, Positive, settings

Long = Literal["leave_out", "cut"]

EVERY = ("allow_shared_speakers", "allow_missing", "max_seconds", "long")
"""Options that every corpus has; the others are of those that say so."""


@settings
class CorpusOptions:
    """How a corpus is read, beside where it lies."""

    table: str | None = None
    """table: the file that lists the audio, where it is not the root itself (CSV, TSV, EmoBox JSONL, S3PRL JSON)."""

    columns: str | None = None
    """table: which column is what, file=FileName,emotion=EmoClass (an empty name: there is none); of file, emotion,
    speaker, fold, split, start, end."""

    folds: Annotated[int, Field(ge=2), Number] | None = None
    """table: how many folds to deal the speakers to, where the table names no folds and no splits (default 5)."""

    speaker: str | None = None
    """table, emobox: a regular expression whose first group is the speaker in a file's path."""

    emotions: str | None = None
    """table, emobox, msp_podcast, meld: renamed emotions, neutral=neu,fear= (an empty name leaves an emotion out)."""

    allow_shared_speakers: bool = False
    """Take a corpus' own train, dev and test lists even where they share speakers."""

    allow_missing: bool = False
    """Go on without files that are missing or unreadable, even if they are more than one in twenty."""

    max_seconds: Positive | None = None
    """The longest that an utterance may be."""

    long: Long = "leave_out"
    """What becomes of longer ones: they are left out, or cut after max_seconds."""

    def __post_init__(self) -> None:
        if self.long == "cut" and self.max_seconds is None:
            raise ValueError("long: cut needs max_seconds, after which utterances are cut")

    def options(self) -> dict[str, Any]:
        """The options that are not left as they are, as `prepare` takes them."""
        own = {name: value for name, value in asdict(self).items() if name in DEFAULTS}
        return {name: value for name, value in own.items() if value != DEFAULTS[name]}


DEFAULTS = {name: getattr(CorpusOptions(), name) for name in CorpusOptions.__dataclass_fields__}
"""Option -> its value where nothing is said."""

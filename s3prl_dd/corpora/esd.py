"""ESD: ten Mandarin and ten English speakers, 350 sentences each in 5 emotions; of those the four that S3PRL knows.

Files are 0011/Angry/0011_000351.wav, in some releases with train, test or evaluation between: those share their
speakers and are not used. Fold k of 5 tests on the speakers k, k + 5, k + 10 and k + 15. The folder says the emotion;
where a speaker's text list (0011.txt) says another, it is told.
"""

from collections.abc import Iterator
from pathlib import Path

from .base import Corpus, FileNames, Listing, some
from .text import read_text


def fold_of(speaker: str) -> int:
    """0001 -> 1, 0002 -> 2, ... 0006 -> 1."""
    return (int(speaker) - 1) % 5 + 1


NAMES = FileNames(
    pattern=r"(?P<emotion>Angry|Happy|Neutral|Sad|Surprise)/(?:(?:train|test|evaluation)/)?"
            r"(?P<name>(?P<speaker>00(?:0[1-9]|1\d|20))_\d{6})",
    emotions={"neutral": "neu", "happy": "hap", "angry": "ang", "sad": "sad"},
    others={"surprise": "surprise"},
    fold_of=fold_of,
    example="ESD files such as 0011/Angry/0011_000351.wav",
    any_case=True,
)

WRITTEN = {"中立": "neutral", "快乐": "happy", "生气": "angry", "伤心": "sad", "惊喜": "surprise"}
"""How the Mandarin text lists name an emotion -> how the folders do."""

ENCODINGS = ("gb18030", "latin-1")
"""Of text lists that are not Unicode: the release has several."""


def find(root: Path) -> Listing:
    """All files in a folder of an emotion whose names are ESD's."""
    listing = NAMES.find(root)
    label_of = {name: label for path in sorted(root.rglob("00[0-2][0-9].txt")) for name, label in _text_list(path)}
    other = [utterance.path for utterance in listing.utterances
             if label_of.get(Path(utterance.path).stem, utterance.label) != utterance.label]
    if other:
        listing.warnings.append(f"{len(other)} files lie in the folder of another emotion than their text list says, "
                                f"the folder counts: {some(other)}")
    return listing


def _text_list(path: Path) -> Iterator[tuple[str, str]]:
    """(file's name without ending, class or what stands in its place) of each line `name text emotion`."""
    for line in read_text(path, ENCODINGS).splitlines():
        fields = line.replace("\t", " ").split()
        if len(fields) > 1:
            emotion = WRITTEN.get(fields[-1], fields[-1].lower())
            yield fields[0], NAMES.emotions.get(emotion, emotion)


CORPUS = Corpus("esd", find, "Emotional Speech Database, licence of NUS for research (Zhou et al. 2022)")

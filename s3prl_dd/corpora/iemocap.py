"""IEMOCAP, exactly as S3PRL's preprocess script lists it: utterances, order and labels.

hap includes excited; other labels and utterances without a wav are left out; five sessions, fold k tests on Session k.
Within a session the label files come in the order of os.listdir, which the file system decides, as in S3PRL's script:
on the same tree the lists are the same. Two differences: S3PRL writes the dialog's first six letters as speaker, Ses01F
for the woman and the man of Session 1 alike, and reads it nowhere; ours says who speaks. And our paths start at the
root even where the root's own path has "Session" in it; S3PRL's would then not.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from .base import EMOTIONS, Corpus, Listing, find_audio, nothing_found, some
from .metadata import Utterance

LABELS = "dialog/EmoEvaluation"
WAVS = "sentences/wav"
CLASS_OF = {**{name: name for name in EMOTIONS}, "exc": "hap"}
"""IEMOCAP's label -> S3PRL's class; all other labels are left out."""

RELEASE = {"neu": 1708, "hap": 1636, "ang": 1103, "sad": 1084}
"""Utterances per class of the full release."""


class Turn(NamedTuple):
    """One labelled utterance of a dialog: its name, and its label as IEMOCAP writes it."""

    name: str
    label: str


def find(root: Path) -> Listing:
    """S3PRL's lists of the tree at `root`; folders that S3PRL would misread are a UserError."""
    listing = Listing([], {})
    for session in _sessions(root):
        utterances, unheard = _session(root, session)
        listing.utterances += utterances
        for speaker in {utterance.speaker for utterance in utterances}:
            if speaker in listing.fold_of:
                raise UserError(f"{root}: speaker {speaker} is in {session} and in Session{listing.fold_of[speaker]}; "
                                "sessions must not share speakers. Restore the original tree.")
            listing.fold_of[speaker] = int(session.removeprefix("Session"))
        if unheard:
            listing.warnings.append(f"{session}: {len(unheard)} labelled utterances have no wav and are left out, "
                                    f"as S3PRL does: {some(unheard)}")
    listed = Counter(utterance.label for utterance in listing.utterances)
    counts = {label: listed[label] for label in EMOTIONS}
    if counts != RELEASE:
        listing.warnings.append(f"not the whole release: found {counts}, the full release has {RELEASE}")
    return listing


def _sessions(root: Path) -> list[str]:
    """The folders Session1, Session2, ... of the root."""
    sessions = sorted(name for name in os.listdir(root) if name.startswith("Session"))
    odd = [name for name in sessions if not re.fullmatch(r"Session[1-9]\d*", name)]
    if odd:
        raise UserError(f"{root}: found {some(odd)} beside the sessions; expected only Session1 .. Session5. "
                        "Move it elsewhere: S3PRL would take it for a session.")
    if not sessions:
        raise nothing_found(root, find_audio(root), "the folders Session1 .. Session5 of IEMOCAP_full_release")
    return sessions


def _session(root: Path, session: str) -> tuple[list[Utterance], list[str]]:
    """(utterances, names of labelled utterances without a wav) of one session, in S3PRL's order."""
    labels, wavs = root / session / LABELS, root / session / WAVS
    for folder in (labels, wavs):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; expected it in every session of IEMOCAP. Check --root.")
    paths = {Path(path).stem: f"{session}/{WAVS}/{path}" for path in find_audio(wavs)}
    utterances, unheard = [], []
    for turn in _turns(labels):
        if turn.label not in CLASS_OF:
            continue
        if turn.name not in paths:
            unheard.append(turn.name)
            continue
        path = paths[turn.name]
        utterances.append(Utterance(path, CLASS_OF[turn.label], _speaker(turn.name)))
    return utterances, unheard


def _speaker(turn: str) -> str:
    """Ses01F_impro01_M000 -> Ses01M: the turn's letter says who speaks, the dialog's only who wears the markers."""
    match = re.fullmatch(r"(Ses\d\d)[FM]_.*_([FM])[^_]*", turn)
    return match[1] + match[2] if match else turn.split("_")[0]


def _turns(labels: Path) -> Iterator[Turn]:
    """The turns of all label files of a session; a turn is a line `[times] name label [attributes]`, tabs between."""
    for name in os.listdir(labels):
        if os.path.splitext(name)[1] != ".txt":
            continue
        with open(labels / name, encoding="utf-8", errors="replace") as file:
            for line in file:
                if not line.startswith("["):
                    continue
                fields = [part for part in re.split("[\t\n]", line) if part]
                if len(fields) < 3:
                    raise UserError(f"{labels / name}: expected [times], name and label, found {line!r}. "
                                    "Restore the file from the release.")
                yield Turn(fields[1], fields[2])


CORPUS = Corpus("iemocap", find, "IEMOCAP, licence of the SAIL laboratory, USC (Busso et al. 2008)", exact=True)

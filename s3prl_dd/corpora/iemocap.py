"""IEMOCAP, exactly as S3PRL's preprocess script lists it: utterances, order and labels.

hap includes excited; other labels and utterances without a wav are left out; five sessions, fold k tests on Session k.
Within a session the label files come in the order of os.listdir, which the file system decides, as in S3PRL's script:
on the same tree the lists are the same. (One difference: our paths start at the root even where the root's own path
has "Session" in it; S3PRL's would then not.)
"""

import os
import re

from ..errors import UserError
from .base import EMOTIONS, Corpus, Listing, find_audio, nothing_found, some
from .metadata import Utterance

LABELS = "dialog/EmoEvaluation"
WAVS = "sentences/wav"
RELEASE = {"neu": 1708, "hap": 1636, "ang": 1103, "sad": 1084}  # of the full release


def find(root):
    sessions = sorted(name for name in os.listdir(root) if name.startswith("Session"))
    odd = [name for name in sessions if not re.fullmatch(r"Session[1-9]\d*", name)]
    if odd:
        raise UserError(f"{root}: found {some(odd)} beside the sessions; expected only Session1 .. Session5. "
                        "Move it elsewhere: S3PRL would take it for a session.")
    if not sessions:
        raise nothing_found(root, find_audio(root), "the folders Session1 .. Session5 of IEMOCAP_full_release")
    listing = Listing([], {})
    for session in sessions:
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
    counts = {label: sum(utterance.label == label for utterance in listing.utterances) for label in EMOTIONS}
    if counts != RELEASE:
        listing.warnings.append(f"not the whole release: found {counts}, the full release has {RELEASE}")
    return listing


def _session(root, session):
    """(utterances, names of labelled utterances without a wav) of one session, in S3PRL's order."""
    labels, wavs = os.path.join(root, session, LABELS), os.path.join(root, session, WAVS)
    for folder in (labels, wavs):
        if not os.path.isdir(folder):
            raise UserError(f"{folder}: no such folder; expected it in every session of IEMOCAP. Check --root.")
    paths = {os.path.splitext(os.path.basename(path))[0]: f"{session}/{WAVS}/{path}" for path in find_audio(wavs)}
    utterances, unheard = [], []
    for name in os.listdir(labels):
        if os.path.splitext(name)[1] != ".txt":
            continue
        with open(os.path.join(labels, name), encoding="utf-8", errors="replace") as file:
            for line in file:
                if not line.startswith("["):
                    continue
                fields = [part for part in re.split("[\t\n]", line) if part]
                if len(fields) < 3:
                    raise UserError(f"{os.path.join(labels, name)}: expected [times], name and label, found {line!r}. "
                                    "Restore the file from the release.")
                if fields[2] not in (*EMOTIONS, "exc"):
                    continue
                if fields[1] not in paths:
                    unheard.append(fields[1])
                    continue
                path = paths[fields[1]]
                label = fields[2].replace("exc", "hap")
                utterances.append(Utterance(path, label, os.path.basename(path).split("_")[0]))
    return utterances, unheard


CORPUS = Corpus("iemocap", find, "IEMOCAP, licence of the SAIL laboratory, USC (Busso et al. 2008)", exact=True)

"""Short tones, damaged files, and a small tree in the shape of IEMOCAP_full_release, for tests of corpora."""

import random
from pathlib import Path

import numpy as np
import soundfile

from s3prl_dd.corpora import metadata

LABELS = ("neu", "hap", "ang", "sad", "exc", "fru", "xxx", "sur", "oth")


def tone(path, seconds=0.2, rate=16000, channels=1, pitch=200.0, loudness=0.1, **options):
    """Write a sine of `pitch` Hz to `path` (folders are made) and return the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = loudness * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)
    soundfile.write(path, np.stack([wave] * channels, axis=1), rate, **options)
    return path


def written(path, content):
    """Write bytes to `path` and return it."""
    path.write_bytes(content)
    return path


def cut_in_half(path):
    """Leave the first half of a file's bytes; returns the path."""
    return written(path, path.read_bytes()[:path.stat().st_size // 2])


def lists(out, fold):
    """(train, test) of a metadata folder, as Metadata."""
    folder = out / metadata.session(fold)
    return [metadata.Metadata.read(folder / f"{part}_meta_data.json") for part in ("train", "test")]


def iemocap_tree(root, sessions=5, per_dialog=10):
    """Write the tree under `root` and return it. Every session has each label; some labelled utterances have no wav."""
    root, draw = Path(root), random.Random(0)
    pitch = 100.0
    for session in range(1, sessions + 1):
        base = root / f"Session{session}"
        labels = base / "dialog" / "EmoEvaluation"
        labels.mkdir(parents=True)
        (labels / "Attribute").mkdir()
        (labels / "annotation-notes.rtf").write_text("not a label file")
        for dialog in (f"Ses{session:02d}F_impro01", f"Ses{session:02d}M_script01_1", f"Ses{session:02d}F_script02_2"):
            lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n", "\n"]
            for turn in range(per_dialog):
                name = f"{dialog}_{draw.choice('FM')}{turn:03d}"
                label = LABELS[turn % len(LABELS)]
                start = round(6.29 + 4.1 * turn, 4)
                lines += [f"[{start:.4f} - {start + 1.95:.4f}]\t{name}\t{label}\t[2.5000, 2.5000, 2.5000]\n",
                          "C-E2:\tNeutral;\t()\n", "A-E3:\tval 3; act 2; dom  2;\t()\n", "\n"]
                if turn != per_dialog - 1:  # the last one has no wav
                    tone(base / "sentences" / "wav" / dialog / f"{name}.wav", pitch=pitch)
                    pitch += 1.0
            (labels / f"{dialog}.txt").write_text("".join(lines))
    return root

"""What the lists of a run's fold were when it went on from them: <out>/lists.json, name of a list -> SHA-256.

Heads, features and generator are made of these lists. Where `prepare` wrote others in their place, nothing that is
there fits what would be made next.
"""

from pathlib import Path

from ..corpora.metadata import CORPUS_FILE, Fold, read_corpus
from ..errors import UserError
from ..files import file_digest, read_object, text_digest, write_json
from .settings import CorpusSettings

FILE = "lists.json"

Digests = dict[str, str]
"""What it is, in words -> SHA-256 of it, in its order."""


def digests_of(fold: Fold) -> Digests:
    """Of the fold's classes, and of the utterances, labels and speakers of each part."""
    found = {"classes": text_digest(fold.train.class_names)}
    for name, part in (("train", fold.train), ("dev", fold.dev), ("test", fold.test)):
        found[f"utterances of {name}"] = text_digest(item.id for item in part.utterances)
        found[f"labels of {name}"] = text_digest(item.label for item in part.utterances)
        found[f"speakers of {name}"] = text_digest(item.speaker for item in part.utterances)
    return found


def read_kept(out: Path) -> Digests:
    """lists.json of a run's folder; empty where there is none, as in runs of older versions and new ones."""
    path = out / FILE
    if not path.is_file():
        return {}
    return read_object(path, "file of a run's lists by digest", "Delete it if the lists are as they were: they are "
                       "then taken as they are.")


def went_on(metadata: Path) -> bool:
    """Whether a metadata folder is that of a run that has made something of its lists, of whatever version."""
    out = metadata.parent
    is_run = metadata.name == "metadata" and (out / "run.json").is_file()
    return is_run and any((out / made).exists() for made in ("exp", "features"))


def changed_table(metadata: Path, corpus: CorpusSettings) -> Path | None:
    """The table of a corpus, where it was edited since the metadata was made of it; None of all else."""
    file = Path(corpus.table or corpus.root or "")
    if not (metadata / CORPUS_FILE).is_file() or not file.is_file():
        return None
    before = read_corpus(metadata).table
    return file if before and file_digest(file) != before else None


def keep(out: Path, fold: Fold) -> None:
    """Write lists.json of a run's folder."""
    write_json(out / FILE, digests_of(fold))


def check_unchanged(out: Path, metadata: Path, fold: Fold) -> None:
    """UserError where the run of the folder `out` went on from other lists than `fold`, read from `metadata`."""
    kept = read_kept(out)
    if not kept:
        return
    for name, digest in digests_of(fold).items():
        if kept.get(name) != digest:
            raise UserError(f"{metadata}: the {name} in {fold.name} are others than those that {out} went on from, and "
                            "what was made there would not fit. Give another --out, or delete that folder to start "
                            "anew.")

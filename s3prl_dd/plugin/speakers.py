"""S3PRL's speaker identification (-d voxceleb1): its data checked, and a list of files for each tree of its own."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config import build
from ..corpora.sid_check import check_voxceleb1
from ..errors import UserError
from ..files import text_digest
from .datarc import DATARC, SpeakerData


def own_file_list(config: Mapping[str, Any], expdir: str) -> None:
    """Check the tree of a configuration, and let S3PRL keep its file list in `expdir`.

    S3PRL pickles the list inside its package and never renews it; here there is one for each root and list.
    """
    import s3prl.downstream.voxceleb1.dataset as dataset

    data = read_speaker_data(config)
    for key in ("file_path", "meta_data"):
        path = getattr(data, key)
        if not path or not Path(path).exists():
            raise UserError(f"{DATARC}.{key}: {path}: not found. Set it with -o or in the configuration (file_path: "
                            "the tree with */wav/id10001/, meta_data: S3PRL's veri_test_class.txt).")
    root, listed = Path(str(data.file_path)), Path(str(data.meta_data))
    digest = text_digest([str(root.resolve()), listed.read_text()])
    cache = Path(expdir) / f"file_list_{digest[:16]}"
    dataset.CACHE_PATH = str(cache)
    if not cache.exists():  # S3PRL makes it next, so a run that goes on does not check again
        print("[s3prl_dd] - speaker identification:", check_voxceleb1(root, listed))


def read_speaker_data(config: Mapping[str, Any]) -> SpeakerData:
    """The datarc's keys that we know; others are S3PRL's business."""
    datarc = config["downstream_expert"]["datarc"]
    known = {item.name for item in dataclasses.fields(SpeakerData)}
    return build(SpeakerData, {key: value for key, value in datarc.items() if key in known}, DATARC)

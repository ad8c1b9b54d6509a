"""What may stand in a configuration's `downstream_expert.datarc`, for each downstream of which we ship one."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from ..config import Count, Seed, Share, Whole, build, settings
from ..corpora.metadata import VALID_RATIO, folds_in, session
from ..errors import UserError
from ..generator.sampling import Sampling

DATARC = "config.downstream_expert.datarc"
"""Where these settings stand for S3PRL's -o."""

SelectBy = Literal["acc", "uar"]


@settings
class EmotionData:
    """datarc of -d emotion. All but the last two are S3PRL's own."""

    root: str | None = None
    """The corpus; the metadata's paths are relative to it."""

    meta_data: str | None = None
    """Folder of Session1/{train,test}_meta_data.json, ..., written by `s3prl-dd prepare`."""

    test_fold: str | None = None
    """fold1, ...; None takes S3PRL's -v, else fold1."""

    pre_load: bool = True
    """Keep the audio in memory."""

    train_batch_size: Count = 4
    """Utterances a step."""

    eval_batch_size: Count = 4
    """Utterances a batch of dev and test."""

    num_workers: Whole = 4
    """Processes that load audio."""

    valid_ratio: Share = VALID_RATIO
    """Part of the training list that is dev."""

    select_by: SelectBy = "acc"
    """dev-best.ckpt by accuracy, as S3PRL, or by UAR."""

    budget: Any = None
    """A random real subset of train, drawn by --seed: points per class, {total: N}, balanced, original; None is all."""


@settings
class DistilledData(Sampling, EmotionData):
    """datarc of -d distilled_emotion: EmotionData's keys, those of Sampling, and the generator."""

    generator: str | None = None
    """The .safetensors that `s3prl-dd distill` wrote."""

    sample_seed: Seed | None = None
    """Of the samples; None is --seed."""

    budget: Any = "original"
    """Samples per class, {ppc: N}, {total: N}, balanced, original, or {counts: [...]}."""

    sample_folder: str | None = None
    """Where drawn sets are kept for other runs (generator.store); without it each run draws its own."""

    select_by: SelectBy = "uar"
    """dev-best.ckpt by accuracy or by UAR."""


@settings
class SpeakerData:
    """datarc of -d voxceleb1. All keys are S3PRL's own."""

    file_path: str | None = None
    """The tree with */wav/id10001/<video>/00001.wav."""

    meta_data: str | None = None
    """Lines `1|2|3 id10001/<video>/00001.wav` (train, dev, test), as S3PRL's veri_test_class.txt."""

    num_workers: Whole = 4
    """Processes that load audio."""

    train_batch_size: Count = 8
    """Utterances a step."""

    eval_batch_size: Count = 1
    """Utterances a batch of dev and test."""

    max_timestep: Count | None = 128000
    """Longest training utterance in samples; of a longer one a random part is taken."""


Data = TypeVar("Data", bound=EmotionData)


def read_datarc(cls: type[Data], datarc: Mapping[str, Any], variant: str | None) -> Data:
    """The settings of an emotion expert, its test fold resolved. variant: S3PRL's -v."""
    data = build(cls, datarc, DATARC)
    return dataclasses.replace(data, test_fold=data.test_fold or variant or "fold1")


def check_folders(data: EmotionData) -> None:
    """Raise UserError where the corpus' folder, that of its metadata, or the test fold in it is not there."""
    for key, value in (("root", data.root), ("meta_data", data.meta_data)):
        if not value or not Path(value).is_dir():
            origin = " (written by `s3prl-dd prepare`)" if key == "meta_data" else ""
            raise UserError(f"{DATARC}.{key}: {value}: no such folder. Set it in the configuration or with "
                            f'-o "{DATARC}.{key}=FOLDER"{origin}.')
    lists = Path(str(data.meta_data)) / session(str(data.test_fold))
    if not lists.is_dir():
        raise UserError(f"{lists}: no such folder. {DATARC}.test_fold is {data.test_fold}, found "
                        f"{', '.join(folds_in(lists.parent)) or 'no fold'}.")

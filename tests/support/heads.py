"""SER checkpoints as S3PRL's Runner writes them, with a random head that S3PRL's own classes made."""

import json
from argparse import Namespace

import torch

from support.experts import ARGUMENTS
from support.runs import LABELS

UTTERANCE_LEVEL = {"projector_dim": 16, "select": "UtteranceLevel", "UtteranceLevel": {"pooling": "MeanPooling"}}


def write_ser(path, dim=240, classes=4, modelrc=UTTERANCE_LEVEL, datarc=None, weights=None, scale=1.0, **arguments):
    """A checkpoint; arguments: S3PRL's, where they are not the defaults. weights: logits of the Featurizer."""
    from s3prl_dd.plugin.ser_head import Head

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = Head(dim, classes, modelrc).state_dict()
    head = {name: scale * value if value.is_floating_point() else value for name, value in head.items()}
    config = {"downstream_expert": {"modelrc": modelrc, "datarc": datarc or {}}, "runner": {}, "optimizer": {}}
    args = Namespace(**{**ARGUMENTS, "hub": "torch", "downstream": "emotion", **arguments})
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"Downstream": {"best_score": torch.zeros(1), **head}, "Args": args, "Config": config, "Step": 8,
                "Featurizer": {} if weights is None else {"weights": torch.tensor(weights)}}, path)
    return path


def datarc_of(corpus, fold="fold1"):
    """What a run on the corpus says of it."""
    return {"root": str(corpus / "audio"), "meta_data": str(corpus / "metadata"), "test_fold": fold}


def write_confusion(expdir, labels=tuple(LABELS)):
    """The file in which our expert leaves the order of the classes."""
    (expdir / "test_fold1_confusion.json").write_text(json.dumps({"labels": list(labels), "matrix": []}))

"""A recipe's folder without the recipe, for the measures of privacy."""

import torch

from s3prl_dd.corpora.metadata import Utterance
from s3prl_dd.features.store import StoreWriter
from s3prl_dd.files import write_json
from support.runs import LABELS, features_of, make_generator, write_head, write_metadata

SPEAKERS, TAKES = 4, 5


def write_score(exp, arm, seed=0, uar=0.8):
    """A trained head's folder, and what it was worth."""
    expdir = exp / f"{arm}_seed{seed}"
    expdir.mkdir(parents=True)
    write_head(expdir / "dev-best.ckpt")
    write_json(expdir / "run.json", {
        "arm": arm, "seed": seed, "lr": 1e-3, "expdir": expdir.name, "seconds": 1.0, "step": 10, "dev_uar": 0.5,
        "uar": uar, "accuracy": uar, "command": "python ...", "predicted": None})


def write_run(out, heads=(("real", 0.8), ("distilled_full", 0.7)), seed=0, upstream="fbank"):
    """Random features of 4 speakers, a random generator of `seed`, random heads. heads: (arm, UAR) of its seed 0"""
    utterances = [{"path": f"s{speaker}/{label}{take}.wav", "label": label, "speaker": f"s{speaker}"}
                  for speaker in range(SPEAKERS) for label in LABELS for take in range(TAKES)]
    write_metadata(out / "metadata", utterances)
    write_json(out / "metadata/corpus.json", {"name": "tones", "root": str(out / "audio"), "synthetic": False})
    features = features_of(upstream, 240, 160)
    draw = torch.Generator().manual_seed(0)
    with StoreWriter(out / "features", features) as writer:
        for utterance in utterances:
            writer.add(Utterance(**utterance), torch.randn(12, 240, generator=draw))
    make_generator(out / "generator.safetensors", features, train_speakers=("s1", "s2", "s3"), seed=seed)
    write_json(out / "run.json", {"corpus": "table", "root": str(out / "audio"), "upstream": upstream, "device": "cpu"})
    for arm, uar in heads:
        write_score(out / "exp", arm, uar=uar)
    return out

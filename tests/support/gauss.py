"""A tiny corpus of Gaussian classes in feature space, and what the distiller needs around it."""

import json
import multiprocessing
import multiprocessing.forkserver
import os
import socket
import sys
from pathlib import Path

import torch

from s3prl_dd.config import build, merge
from s3prl_dd.corpora.metadata import Metadata, Utterance, read_fold
from s3prl_dd.distill.config import DistillConfig
from s3prl_dd.distill.data import TrainingData
from s3prl_dd.distill.distributed import end_group, start_group
from s3prl_dd.distill.parts import Parts
from s3prl_dd.distill.trainer import Trainer
from s3prl_dd.features.store import FeatureStore, StoreWriter
from s3prl_dd.generator import CorpusInfo, Provenance
from s3prl_dd.pool.pool import train_pool
from s3prl_dd.rng import keyed

ROOT = Path(__file__).parent.parent.parent
DIM, LABELS = 10, {"neu": 0, "ang": 1, "sad": 2}
FEATURES = Provenance(upstream="made", upstream_ckpt_digest=None, selection="hidden_states", layer=None, normalize=False,
                      layer_weights=[0.25, 0.75], dim=DIM, rate=320)
CORPUS = CorpusInfo(name="gauss", synthetic=True, fold="fold1", train_speakers=["s1", "s2"], test_speakers=["s0"],
                    test_digest="0")
PARTS = Parts(LABELS, FEATURES, CORPUS)
ALL_TERMS = {"gradient_penalty": 10, "critic_class": 1, "critic_class_fake": 0.5, "feature_matching": 1, "generator_class": 1,
             "softmax_matching": 1, "diversity": 0.3, "mmd": 1}


def utterances(labels, key, dim=DIM):
    """Frames [T_i, D] of unit spread around a centre per class and a small shift per utterance."""
    generator = keyed("gauss", key)
    centres = 0.8 * torch.randn(max(labels) + 1, dim, generator=keyed("centres"))
    lengths = torch.randint(8, 25, (len(labels),), generator=generator).tolist()
    return [3 + 2 * (centres[label] + 0.2 * torch.randn(dim, generator=generator)
                     + torch.randn(length, dim, generator=generator)) for label, length in zip(labels, lengths)]


def tiny_data(framing="resample", frames=8, counts=(20, 16, 24)):
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    dev_labels = [label for label in range(len(counts)) for _ in range(15)]
    dev = torch.stack([item.mean(dim=0) for item in utterances(dev_labels, "dev")]), torch.tensor(dev_labels)
    return TrainingData.build(utterances(labels, "train"), labels, dev, framing, frames)


def tiny_pool(data, seeds=3, lr=1e-2):
    return train_pool((data.means, data.labels), data.dev, seeds=seeds, steps=60, snapshots=4, lr=lr,
                      classes=len(data.class_counts), progress=False)


def tiny_config(**changes):
    values = {"network": {"architecture": "gan_1d", "frames": 8, "noise": 6, "channels": 12, "critic_channels": 12,
                          "utterance_branch": True},
              "lambdas": dict(ALL_TERMS), "batch": 24, "critic_steps": 2, "steps": 12, "eval_every": 6, "save_every": 3,
              "log_every": 1, "eval_heads": 2, "softmax_pairing": "assignment", "generator_lr": 1e-3, "critic_lr": 1e-3}
    return build(DistillConfig, merge(values, changes), "tiny_config")


class TinyTrainer(Trainer):
    head_steps = 60


def tiny_trainer(out, data=None, pool=None, **changes):
    data = data or tiny_data()
    return TinyTrainer(tiny_config(**changes), data, out, PARTS, pool or tiny_pool(data))


def train_tiny(out, changes):
    """A whole run in a process of its own."""
    torch.set_num_threads(1)
    tiny_trainer(out, **changes).train(progress=False)


def write_run(out, each=12):
    """A recipe's run folder up to the experts: metadata of four speakers, feature store, and a pool of unsure
    heads (sure ones have tiny gradients on real data, the unit of gradient matching, which then outweighs all else)."""
    items = [(Utterance(f"s{speaker}/{name}{take}.wav", name, f"s{speaker}"), label)
             for speaker in range(4) for name, label in LABELS.items() for take in range(each)]
    part = {True: [], False: []}
    for item, _ in items:
        part[item.speaker == "s0"].append(item)
    for test, name in ((False, "train"), (True, "test")):
        Metadata(LABELS, tuple(part[test])).write(Path(out) / "metadata/Session1" / f"{name}_meta_data.json")
    (Path(out) / "metadata/corpus.json").write_text(json.dumps({"name": "gauss", "root": str(out), "synthetic": True}))
    with StoreWriter(Path(out) / "features", FEATURES) as writer:
        for (item, _), frames in zip(items, utterances([label for _, label in items], "store")):
            writer.add(item, frames)
    data = TrainingData.from_store(FeatureStore(Path(out) / "features"), read_fold(Path(out) / "metadata", "fold1"))
    tiny_pool(data, lr=3e-4).save(Path(out) / "pool.safetensors")
    return Path(out)


def forked():
    """A multiprocessing context whose processes have torch and the distiller imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["support.gauss"])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before
    return context


def on_two_ranks(function, *arguments):
    """Call function(*arguments) in two processes with torchrun's variables; returns their exit codes."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    ranks = [forked().Process(target=_as_rank, args=(rank, port, function, arguments)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
        process.kill()
    return [process.exitcode for process in ranks]


def _as_rank(rank, port, function, arguments):
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    sys.exit(function(*arguments))

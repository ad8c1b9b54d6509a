"""A tiny corpus of Gaussian classes in feature space, and what the distiller needs around it."""

import json
import multiprocessing
import multiprocessing.context
import multiprocessing.forkserver
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from s3prl_dd.config import build, merge
from s3prl_dd.corpora.metadata import Metadata, Utterance, read_fold
from s3prl_dd.distill.config import DistillConfig
from s3prl_dd.distill.data import Framing, TrainingData
from s3prl_dd.distill.distributed import end_group, start_group
from s3prl_dd.distill.parts import Parts
from s3prl_dd.distill.selection import HeadSteps
from s3prl_dd.distill.trainer import Trainer
from s3prl_dd.features.store import FeatureStore, StoreWriter
from s3prl_dd.generator import CorpusInfo, Provenance
from s3prl_dd.pool.heads import Heads
from s3prl_dd.pool.pool import Pool, train_pool
from s3prl_dd.rng import keyed

ROOT = Path(__file__).parent.parent.parent
DIM, LABELS = 10, {"neu": 0, "ang": 1, "sad": 2}
FEATURES = Provenance(upstream="made", upstream_ckpt_digest=None, selection="hidden_states", layer=None,
                      normalize=False, layer_weights=[0.25, 0.75], dim=DIM, rate=320)
CORPUS = CorpusInfo(name="gauss", synthetic=True, fold="fold1", train_speakers=["s1", "s2"], test_speakers=["s0"],
                    test_digest="0")
PARTS = Parts(LABELS, FEATURES, CORPUS)
FEW_STEPS = HeadSteps(quick=60, quick_frames=12, teacher=60)
ALL_TERMS = {"gradient_penalty": 10, "critic_class": 1, "critic_class_fake": 0.5, "feature_matching": 1,
             "generator_class": 1, "softmax_matching": 1, "diversity": 0.3, "mmd": 1}


def utterances(labels: list[int], key: str, dim: int = DIM) -> list[torch.Tensor]:
    """Frames [T_i, D] of unit spread around a centre per class and a small shift per utterance."""
    generator = keyed("gauss", key)
    centres = 0.8 * torch.randn(max(labels) + 1, dim, generator=keyed("centres"))
    lengths = torch.randint(8, 25, (len(labels),), generator=generator).tolist()
    return [3 + 2 * (centres[label] + 0.2 * torch.randn(dim, generator=generator)
                     + torch.randn(length, dim, generator=generator))
            for label, length in zip(labels, lengths, strict=True)]


def tiny_data(framing: Framing = "resample", frames: int = 8, counts: tuple[int, ...] = (20, 16, 24)) -> TrainingData:
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    dev_labels = [label for label in range(len(counts)) for _ in range(15)]
    dev = torch.stack([item.mean(dim=0) for item in utterances(dev_labels, "dev")]), torch.tensor(dev_labels)
    return TrainingData.build(utterances(labels, "train"), labels, dev, framing, frames)


def tiny_pool(data: TrainingData, seeds: int = 3, lr: float = 1e-2) -> Pool:
    return train_pool((data.means, data.labels), data.dev, seeds=seeds, steps=60, snapshots=4, lr=lr,
                      classes=len(data.class_counts), progress=False)


def exact_data() -> TrainingData:
    """As tiny_data, in steps of 1/256, so that no machine rounds its numbers otherwise."""
    labels = [label for label, count in enumerate((20, 16, 24)) for _ in range(count)]
    rounded = [(item * 256).round() / 256 for item in utterances(labels, "train")]
    return TrainingData.build(rounded, labels, tiny_data().dev, "resample", 8)


def exact_pool() -> Pool:
    """Six untrained heads of three seeds with made-up scores."""
    return Pool(Heads.create(range(6), DIM, 3), [1, 1, 1, 2, 2, 2], [0, 1, 2] * 2, [0.25, 0.5, 0.75, 0.5, 0.25, 0.75])


def tiny_config(**changes: object) -> DistillConfig:
    values = {"network": {"architecture": "gan_1d", "frames": 8, "noise": 6, "channels": 12, "critic_channels": 12,
                          "utterance_branch": True},
              "lambdas": dict(ALL_TERMS), "batch": 24, "critic_steps": 2, "steps": 12, "eval_every": 6, "save_every": 3,
              "log_every": 1, "eval_heads": 2, "softmax_pairing": "assignment", "generator_lr": 1e-3, "critic_lr": 1e-3}
    return build(DistillConfig, merge(values, changes), "tiny_config")


def tiny_trainer(out: Path, data: TrainingData | None = None, pool: Pool | None = None, **changes: object) -> Trainer:
    data = data or tiny_data()
    pool = tiny_pool(data) if pool is None else pool
    return Trainer(tiny_config(**changes), data, out, PARTS, pool, head_steps=FEW_STEPS)


def train_tiny(out: Path, changes: dict) -> None:
    """A whole run, in a process or a rank of its own."""
    torch.set_num_threads(1)
    tiny_trainer(out, **changes).train(progress=False)


def write_run(out: Path, each: int = 12) -> Path:
    """A recipe's run folder up to the pool: metadata of four speakers, feature store, and a pool of unsure heads."""
    items = [(Utterance(f"s{speaker}/{name}{take}.wav", name, f"s{speaker}"), label)
             for speaker in range(4) for name, label in LABELS.items() for take in range(each)]
    part = {True: [], False: []}
    for item, _ in items:
        part[item.speaker == "s0"].append(item)
    for test, name in ((False, "train"), (True, "test")):
        Metadata(LABELS, tuple(part[test])).write(Path(out) / "metadata/Session1" / f"{name}_meta_data.json")
    (Path(out) / "metadata/corpus.json").write_text(json.dumps({"name": "gauss", "root": str(out), "synthetic": True}))
    with StoreWriter(Path(out) / "features", FEATURES) as writer:
        frames_of = utterances([label for _, label in items], "store")
        for (item, _), frames in zip(items, frames_of, strict=True):
            writer.add(item, frames)
    data = TrainingData.from_store(FeatureStore(Path(out) / "features"), read_fold(Path(out) / "metadata", "fold1"))
    tiny_pool(data, lr=3e-4).save(Path(out) / "pool.safetensors")
    return Path(out)


def forked() -> multiprocessing.context.ForkServerContext:
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


def on_two_ranks(function: Callable, *arguments: object) -> list[int | None]:
    """Call function(*arguments) in two processes that joined a group as under torchrun; returns their exit codes."""
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


def _as_rank(rank: int, port: int, function: Callable, arguments: tuple) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    start_group("cpu")
    try:
        code = function(*arguments)
    finally:
        end_group()
    sys.exit(code)

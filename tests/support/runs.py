"""Corpora, generator files and S3PRL runs for tests."""

import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

TESTS = Path(__file__).parent.parent
ROOT = TESTS.parent
LABELS = {"neu": 0, "hap": 1, "ang": 2, "sad": 3}
DATARC = "config.downstream_expert.datarc"


def write_metadata(folder, utterances, labels=LABELS, name="tones"):
    for number, speaker in enumerate(sorted({utterance["speaker"] for utterance in utterances}), start=1):
        session = folder / f"Session{number}"
        session.mkdir(parents=True, exist_ok=True)
        for part, chosen in (("train", [u for u in utterances if u["speaker"] != speaker]),
                             ("test", [u for u in utterances if u["speaker"] == speaker])):
            (session / f"{part}_meta_data.json").write_text(json.dumps({"labels": labels, "meta_data": chosen}))
    (folder / "corpus.json").write_text(json.dumps({"name": name, "synthetic": False}))


def make_generator(path, features, labels=LABELS, train_speakers=("speaker1", "speaker2"), fold="fold1", corpus="tones",
                   seed=0, teacher=True, **header):
    """A generator file with random weights. features: an Encoder's provenance."""
    import torch

    from s3prl_dd.generator import Generator
    from s3prl_dd.generator.networks import NetworkConfig, build_generator

    torch.manual_seed(seed)
    classes, dim = len(labels), features["dim"]
    config = NetworkConfig(architecture="gan_1d", classes=classes, dim=dim, frames=8, noise=8, channels=16)
    from dataclasses import asdict

    header = {"network": asdict(config), "labels": labels, "class_counts": [5] * classes, "lengths": [list(range(10, 111))] * classes,
              "features": features,
              "corpus": {"name": corpus, "fold": fold, "synthetic": False, "train_speakers": list(train_speakers),
                         "test_speakers": ["speaker0"], "test_digest": "0"}, **header}
    heads = (torch.randn(3, classes, dim), torch.zeros(3, classes)) if teacher else None
    Generator(build_generator(config), torch.randn(dim), torch.ones(dim), torch.randn(len(header["labels"]), dim), header, heads).save(path)
    return path


def features_of(upstream, dim, rate, layers=None, digest=None, **changes):
    """The block `features` of a header as Encoder.provenance gives it; layers: uniform weights over so many states."""
    return {"upstream": upstream, "upstream_ckpt_digest": digest, "selection": "hidden_states", "layer": None, "normalize": False,
            "layer_weights": [1 / layers] * layers if layers else None, "dim": dim, "rate": rate, **changes}


def data_options(corpus, **datarc):
    """-o for S3PRL: the corpus, small steps, and further keys of datarc."""
    options = {f"{DATARC}.root": corpus / "audio", f"{DATARC}.meta_data": corpus / "metadata", f"{DATARC}.num_workers": 0}
    options.update({f"{DATARC}.{key}": value for key, value in datarc.items()})
    return options


STEPS = {"config.runner.total_steps": 8, "config.runner.log_step": 4, "config.runner.eval_step": 4, "config.runner.save_step": 4,
         "config.runner.gradient_accumulate_steps": 1, "config.runner.max_keep": 4, "config.optimizer.lr": 0.01}


def override(*options):
    """The text for S3PRL's -o; the runner's steps are few unless given."""
    merged = dict(STEPS)
    for item in options:
        merged.update(item)
    return ",,".join(f"{key}={value}" for key, value in merged.items())


def run_python(code, cwd=ROOT, check=True, env=None):
    """Run Python `code` in a process of its own, one thread; returns the CompletedProcess with text output."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **(env or {})}
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=environment, text=True, capture_output=True, timeout=300)
    if check and done.returncode:
        raise AssertionError(f"exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done


def run_launcher(*arguments, cwd=ROOT, check=True, env=None):
    """`python -m s3prl_dd.run_downstream ARGUMENTS`."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **(env or {})}
    done = subprocess.run([sys.executable, "-m", "s3prl_dd.run_downstream", *map(str, arguments)], cwd=cwd, env=environment,
                          text=True, capture_output=True, timeout=300)
    if check and done.returncode:
        raise AssertionError(f"exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done


def write_head(path, upstream="fbank", ckpt=None, dim=240, downstream="emotion", weights=None, **changes):
    """A checkpoint as S3PRL's Runner writes it, with a random head."""
    import torch

    draw = torch.Generator().manual_seed(0)
    head = {"projector.weight": torch.randn(256, dim, generator=draw), "projector.bias": torch.randn(256, generator=draw)}
    arguments = {"downstream": downstream, "upstream": upstream, "upstream_ckpt": str(ckpt) if ckpt else None, "upstream_model_config": None,
                 "upstream_feature_selection": "hidden_states", "upstream_layer_selection": None, "upstream_feature_normalize": False,
                 "hub": "torch", **changes}
    torch.save({"Downstream": head, "Featurizer": {} if weights is None else {"weights": weights}, "Args": Namespace(**arguments)}, path)
    return path, head

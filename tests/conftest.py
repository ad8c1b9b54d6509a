"""Shared fixtures: a small corpus of tones in S3PRL's metadata form, tiny upstreams, and generator files without training."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parent.parent
LABELS = {"neu": 0, "hap": 1, "ang": 2, "sad": 3}
DATARC = "config.downstream_expert.datarc"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Folder with audio/ and metadata/: 3 speakers x 4 emotions x 3 takes of 0.4 to 0.7 s, one fold a speaker."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    utterances = []
    for speaker in range(3):
        for label, index in LABELS.items():
            for take in range(3):
                path = f"speaker{speaker}/{label}{take}.wav"
                time = np.arange(int(16000 * (0.4 + 0.1 * take + 0.01 * index))) / 16000
                wav = 0.3 * np.sin(2 * np.pi * (150 * (index + 1) + 20 * speaker) * time) + 0.02 * rng.standard_normal(len(time))
                (folder / "audio" / path).parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(folder / "audio" / path, wav.astype(np.float32), 16000)
                utterances.append({"path": path, "label": label, "speaker": f"speaker{speaker}"})
    write_metadata(folder / "metadata", utterances)
    return folder


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

    from s3prl_dd.distill.networks import NetworkConfig, build_generator
    from s3prl_dd.generator import Generator

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


@pytest.fixture(scope="session")
def fbank_generator(tmp_path_factory):
    return make_generator(tmp_path_factory.mktemp("generator") / "fbank.safetensors", features_of("fbank", 240, 160))


@pytest.fixture(scope="session")
def hubert_file(tmp_path_factory):
    from tiny_hubert import write_hubert_local

    path = tmp_path_factory.mktemp("hubert") / "tiny.pt"
    run_python(f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
               f"from tiny_hubert import write_hubert_local; write_hubert_local({str(path)!r})")
    return path


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

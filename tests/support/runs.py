"""Corpora, generator files and S3PRL runs for tests."""

import json
import os
import subprocess
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from s3prl_dd.features.spec import FeatureSpec
from s3prl_dd.generator import CorpusInfo, Generator, Header, LinearHeads, NetworkConfig, Provenance, build_generator
from s3prl_dd.plugin import workers

TESTS = Path(__file__).parent.parent
ROOT = TESTS.parent
LABELS = {"neu": 0, "hap": 1, "ang": 2, "sad": 3}
DATARC = "config.downstream_expert.datarc"


def write_metadata(folder, utterances, labels=LABELS, name="tones"):
    """S3PRL's metadata, one fold a speaker."""
    for number, speaker in enumerate(sorted({utterance["speaker"] for utterance in utterances}), start=1):
        session = folder / f"Session{number}"
        session.mkdir(parents=True, exist_ok=True)
        for part, is_test in (("train", False), ("test", True)):
            chosen = [utterance for utterance in utterances if (utterance["speaker"] == speaker) is is_test]
            (session / f"{part}_meta_data.json").write_text(json.dumps({"labels": labels, "meta_data": chosen}))
    (folder / "corpus.json").write_text(json.dumps({"name": name, "synthetic": False}))


def features_of(upstream, dim, rate, layers=None, digest=None, **changes):
    """A Provenance as Encoder gives it; layers: uniform weights over so many states."""
    values = {"upstream": upstream, "upstream_ckpt_digest": digest, "selection": "hidden_states", "layer": None,
              "normalize": False, "layer_weights": [1 / layers] * layers if layers else None, "dim": dim, "rate": rate}
    return Provenance(**{**values, **changes})


def make_generator(path, features, labels=LABELS, train_speakers=("speaker1", "speaker2"), fold="fold1", corpus="tones",
                   seed=0, teacher=True, class_means=None, std=1.0):
    """A generator file with random weights. features: a Provenance; class_means: [C, D], std: of all dimensions."""
    classes, dim = len(labels), features.dim
    network = NetworkConfig(architecture="gan_1d", frames=8, noise=8, channels=16).sized(classes, dim)
    about = CorpusInfo(name=corpus, fold=fold, synthetic=False, train_speakers=list(train_speakers),
                       test_speakers=["speaker0"], test_digest="0")
    header = Header(network=network, labels=labels, class_counts=[5] * classes,
                    lengths=[list(range(10, 111))] * classes, features=features, corpus=about)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build_generator(network)
        heads = LinearHeads(torch.randn(3, classes, dim), torch.zeros(3, classes)) if teacher else None
        mean, means = torch.randn(dim), torch.randn(classes, dim)
    means = means if class_means is None else class_means
    Generator(module, mean, torch.full((dim,), std), means, header, heads).save(path)
    return path


def class_means_of(corpus, spec=None):
    """Mean over the utterance means of each class of the tone corpus' train and dev part, [C, D], by an Encoder."""
    from s3prl_dd.corpora.audio import load_audio
    from s3prl_dd.corpora.metadata import Metadata
    from s3prl_dd.plugin.encoder import Encoder

    encoder = Encoder(spec or FeatureSpec("fbank_no_cmvn"))
    metadata = Metadata.read(corpus / "metadata" / "Session1" / "train_meta_data.json")
    means = {name: [] for name in metadata.class_names}
    for utterance in metadata.utterances:
        means[utterance.label].append(encoder.encode([load_audio(corpus / "audio" / utterance.path)])[0].mean(dim=0))
    return torch.stack([torch.stack(items).mean(dim=0) for items in means.values()])


def data_options(corpus, **datarc):
    """-o for S3PRL, paths as text: the corpus, and further keys of datarc."""
    values = {"root": corpus / "audio", "meta_data": corpus / "metadata", "num_workers": 0, **datarc}
    return {f"{DATARC}.{key}": str(value) if isinstance(value, Path) else value for key, value in values.items()}


STEPS = {"config.runner.total_steps": 8, "config.runner.log_step": 4, "config.runner.eval_step": 4,
         "config.runner.save_step": 4, "config.runner.gradient_accumulate_steps": 1, "config.runner.max_keep": 4,
         "config.optimizer.lr": 0.01}


def override(*options):
    """The text for S3PRL's -o; the runner's steps are few unless given."""
    merged = dict(STEPS)
    for item in options:
        merged.update(item)
    return ",,".join(f"{key}={value}" for key, value in merged.items())


class Done(NamedTuple):
    """A process that has ended: its exit code, and what it wrote to stdout and stderr together."""

    code: int
    output: str


def run_launcher(*arguments, check=True):
    """`python -m s3prl_dd.run_downstream ARGUMENTS`, one thread, forked from a process that has imported S3PRL."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        code = workers.run_downstream([str(argument) for argument in arguments], log, 1)
        done = Done(code, log.read_text(errors="replace"))
    if check and done.code:
        raise AssertionError(f"exit {done.code}\n{done.output[-6000:]}")
    return done


def run_command(*words, cwd=ROOT, check=True, path=()):
    """Run a command in a process of its own, one thread. path: folders before ROOT in PYTHONPATH."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, (*path, ROOT)))}
    done = subprocess.run([str(word) for word in words], cwd=cwd, env=environment, text=True, capture_output=True,
                          timeout=300)
    if check and done.returncode:
        raise AssertionError(f"exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done


def run_python(code, cwd=ROOT, check=True, path=()):
    """Run Python `code` in a process of its own."""
    return run_command(sys.executable, "-c", code, cwd=cwd, check=check, path=path)


def write_head(path, upstream="fbank", ckpt=None, dim=240, downstream="emotion", weights=None, **changes):
    """A checkpoint as S3PRL's Runner writes it, with a random head."""
    draw = torch.Generator().manual_seed(0)
    head = {"projector.weight": torch.randn(256, dim, generator=draw),
            "projector.bias": torch.randn(256, generator=draw)}
    arguments = {"downstream": downstream, "upstream": upstream, "upstream_ckpt": str(ckpt) if ckpt else None,
                 "upstream_model_config": None, "upstream_feature_selection": "hidden_states",
                 "upstream_layer_selection": None, "upstream_feature_normalize": False, "hub": "torch", **changes}
    featurizer = {} if weights is None else {"weights": weights}
    torch.save({"Downstream": head, "Featurizer": featurizer, "Args": Namespace(**arguments)}, path)
    return path, head


def write_tones(folder, speakers=3, takes=3, shuffled=False):
    """Tones, folder/audio and folder/metadata: speakers x 4 emotions x takes of 0.4 to 0.7 s; the pitch tells emotions.

    shuffled: the labels are drawn anew, without regard to the pitch.
    """
    import soundfile

    rng, labels = np.random.default_rng(0), np.random.default_rng(1)
    utterances = []
    for speaker in range(speakers):
        for name, index in LABELS.items():
            for take in range(takes):
                path = f"speaker{speaker}/{name}{take}.wav"
                time = np.arange(int(16000 * (0.4 + 0.1 * (take % 3) + 0.01 * index))) / 16000
                tone = 0.3 * np.sin(2 * np.pi * (150 * (index + 1) + 20 * (speaker % 3)) * time)
                wav = tone + 0.02 * rng.standard_normal(len(time))
                (folder / "audio" / path).parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(folder / "audio" / path, wav.astype(np.float32), 16000)
                label = str(labels.choice(list(LABELS))) if shuffled else name
                utterances.append({"path": path, "label": label, "speaker": f"speaker{speaker}"})
    write_metadata(folder / "metadata", utterances)
    return folder

"""Fixtures: a small corpus of tones in S3PRL's metadata form, a tiny upstream, a generator file without training."""

import numpy as np
import pytest
import soundfile
from support.runs import LABELS, TESTS, features_of, make_generator, run_python, write_metadata


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


@pytest.fixture(scope="session")
def fbank_generator(tmp_path_factory):
    return make_generator(tmp_path_factory.mktemp("generator") / "fbank.safetensors", features_of("fbank", 240, 160))


@pytest.fixture(scope="session")
def hubert_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("hubert") / "tiny.pt"
    run_python(f"import sys; sys.path.insert(0, {str(TESTS)!r})\n"
               f"from support.tiny_hubert import write_hubert_local; write_hubert_local({str(path)!r})")
    return path

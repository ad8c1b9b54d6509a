"""The whole way of the data, from a table of audio files to results.json, through the command line and S3PRL's runner."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from s3prl_dd.metrics import uar

ROOT = Path(__file__).parent.parent.parent
SMALL = ["network.channels=8", "network.critic_channels=8", "network.frames=4", "network.noise=4", "batch=8", "steps=4",
         "critic_steps=1", "eval_every=2", "save_every=2", "log_every=1"]


def s3prl_dd(*arguments, check=True):
    done = subprocess.run([sys.executable, "-m", "s3prl_dd.cli", *map(str, arguments)], text=True, capture_output=True, timeout=600,
                          env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})
    if check and done.returncode:
        raise AssertionError(f"exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done


@pytest.fixture(scope="module")
def table(corpus):
    """A CSV of the tone corpus: what `prepare table` reads."""
    path = corpus / "audio" / "table.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "emotion", "speaker"])
        for wav in sorted((corpus / "audio").glob("*/*.wav")):
            writer.writerow([wav.relative_to(corpus / "audio"), wav.stem[:3], wav.parent.name])
    return path


def run(table, out, *flags):
    return s3prl_dd("run", "--corpus", "table", "--root", table, "--out", out, "--head-steps", 20, "--experts", 2, *flags,
                    "--overrides", *SMALL)


def test_every_stage_and_a_second_run(table, tmp_path):
    out = tmp_path / "run"
    first = run(table, out, "--upstream", "fbank", "--budgets", 2)
    results = json.loads((out / "results.json").read_text())
    assert set(results["arms"]) == {"real", "distilled_full", "distilled_2ppc", "random_real_2ppc"}
    for name, points in (("real", 19), ("distilled_full", 16), ("distilled_2ppc", 8), ("random_real_2ppc", 8)):
        arm = results["arms"][name]
        assert arm["points"] == points and 0 <= arm["uar"] <= 1 and len(arm["uar_per_seed"]) == 1 and arm["train_seconds"] > 0
        assert uar(results["test"]["truth"], arm["predicted"][0]) == pytest.approx(arm["uar"])  # S3PRL's predictions are kept
    assert results["upstream"] == "fbank" and results["fold"] == "fold1" and results["versions"]["s3prl"] == "0.4.18"
    assert results["bytes"]["generator"] == (out / "generator.safetensors").stat().st_size
    assert "GAN samples, 2 a class" in first.stdout and (out / "results.png").read_bytes()[:4] == b"\x89PNG"

    before = {path: path.stat().st_mtime_ns for path in (out / "exp").glob("*/run.json")}
    second = run(table, out, "--upstream", "fbank", "--budgets", 2)
    assert before == {path: path.stat().st_mtime_ns for path in (out / "exp").glob("*/run.json")}
    assert first.stdout.splitlines()[-12:-3] == second.stdout.splitlines()[-12:-3]  # the same table

    refused = s3prl_dd("report", "--out", out, "--upstream", "mfcc", check=False)
    assert refused.returncode == 2 and "upstream is 'fbank', now 'mfcc'" in refused.stderr

    shown = s3prl_dd("inspect", out / "generator.safetensors").stdout
    assert "fbank -s hidden_states" in shown and "gan_1d" in shown
    s3prl_dd("sample", out / "generator.safetensors", "--budget", 3, "--out", tmp_path / "set.safetensors")
    from safetensors.torch import load_file

    assert load_file(tmp_path / "set.safetensors")["features"].shape == (12, 4, 240)


@pytest.mark.parametrize("upstream", ["hubert_local", "hf_hubert_custom"])
def test_a_hubert_checkpoint(upstream, table, hubert_file, tmp_path):
    checkpoint, out = hubert_file, tmp_path / "run"
    if upstream == "hf_hubert_custom":
        from support.tiny_hubert import write_hf_hubert

        checkpoint = tmp_path / "hf"
        write_hf_hubert(checkpoint)
    run(table, out, "--upstream", upstream, "--upstream-ckpt", checkpoint, "--budgets")
    results = json.loads((out / "results.json").read_text())
    assert set(results["arms"]) == {"real", "distilled_full"}
    header = json.loads(s3prl_dd("inspect", out / "generator.safetensors", "--json").stdout)
    assert header["features"]["dim"] == 64 and len(header["features"]["layer_weights"]) == 3
    assert header["corpus"]["test_speakers"] == ["speaker0"] and "speaker0" not in header["corpus"]["train_speakers"]


def test_a_stage_before_its_time_says_which_is_missing(table, tmp_path):
    s3prl_dd("run", "--corpus", "table", "--root", table, "--out", tmp_path, "--upstream", "fbank", "--stop-stage", 1)
    done = s3prl_dd("train", "--out", tmp_path, check=False)
    assert done.returncode == 2 and "Run `s3prl-dd distill` first" in done.stderr and "Traceback" not in done.stderr


def test_a_configuration_without_a_teacher_refuses_soft_labels_before_any_work(table, tmp_path):
    done = s3prl_dd("run", "--corpus", "table", "--root", table, "--out", tmp_path / "run", "--config", "gan_cnn_small", check=False)
    assert done.returncode == 2 and "--labels hard" in done.stderr
    assert not (tmp_path / "run" / "run.json").exists()
    done = s3prl_dd("run", "--out", tmp_path / "other", "--overrides", "sepst=3", check=False)
    assert done.returncode == 2 and "Did you mean 'steps'?" in done.stderr

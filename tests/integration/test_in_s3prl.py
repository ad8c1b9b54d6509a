"""S3PRL's literal command where users give it: in a clone, under torchrun, with paths of any name, own upstreams."""

import json
import os
import shutil
import socket
import sys
from pathlib import Path

import pytest
import torch
from support.runs import (
    DATARC,
    data_options,
    override,
    run_command,
    run_launcher,
    write_tones,
)
from support.upstreams import OWN

from s3prl_dd.plugin.featurizer import read_checkpoint
from s3prl_dd.plugin.overrides import write_overrides
from s3prl_dd.plugin.runs import start_s3prl

pytestmark = pytest.mark.slow

FEW = {"config.runner.total_steps": 4, "config.runner.eval_step": 2, "config.runner.log_step": 2,
       "config.runner.save_step": 2, "config.runner.max_keep": 1, "config.runner.gradient_accumulate_steps": 1}


def times(expdir, what):
    """How many lines of a run's log begin with this."""
    return sum(line.startswith(what) for line in (expdir / "log.log").read_text().splitlines())


def write_table(folder):
    """A corpus of tones and a table of it."""
    write_tones(folder)
    rows = [f"{path},{path.stem.rstrip('0123456789')},{path.parent.name}" for path in sorted(folder.rglob("*.wav"))]
    (folder / "corpus.csv").write_text("\n".join(["file,emotion,speaker", *rows]) + "\n")
    return folder / "corpus.csv"


# a clone


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A fresh clone of S3PRL with nothing but `s3prl-dd link` run; what that said."""
    import s3prl

    folder = tmp_path_factory.mktemp("a clone")
    shutil.copytree(Path(s3prl.__file__).parent, folder / "s3prl", ignore=shutil.ignore_patterns("__pycache__"))
    done = run_command(sys.executable, "-m", "s3prl_dd", "link", folder)
    return folder, done.stdout


def in_clone(clone, *words, check=True):
    """Its own run_downstream.py, in an environment where an S3PRL is installed too."""
    return run_command(sys.executable, "run_downstream.py", *words, cwd=clone[0] / "s3prl", check=check)


def test_link_says_what_it_did_and_what_to_run(clone):
    folder, said = clone
    assert f"linked into {folder}/s3prl:\n  downstream/distilled_emotion\n  torchaudio.py" in said
    assert f"  cd '{folder}/s3prl'\n  python run_downstream.py -d distilled_emotion -u hubert\n" in said
    assert f"undo: s3prl-dd unlink '{folder}'" in said


def test_the_literal_command_in_a_clone(clone):
    """Without data: what to run, and no upstream is loaded. With -m and -n the same."""
    for more in ((), ("-m", "train", "-n", "mine")):
        done = in_clone(clone, "-d", "distilled_emotion", "-u", "hubert", *more, check=False)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert "error: -d distilled_emotion: generator, root, meta_data not set. Three lines make them:" in done.stderr
    done = in_clone(clone, "-d", "distilled_emotion", "-u", "hubret", check=False)
    error, = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2 and "Did you mean hubert" in error and "Traceback" not in done.stderr


def test_a_run_in_a_clone(clone, corpus, tmp_path, fbank_generator):
    """It trains as our launcher does, by the clone's own code."""
    runner = clone[0] / "s3prl/downstream/runner.py"
    runner.write_text(runner.read_text() + "\nprint('the clone itself')\n")
    options = override(data_options(corpus, generator=fbank_generator, budget=2))
    words = ("-d", "distilled_emotion", "-u", "fbank", "--device", "cpu", "-o", options)
    done = in_clone(clone, *words, "-p", tmp_path / "run")
    assert "the clone itself" in done.stdout
    assert "training on 8 generated points" in (tmp_path / "run/log.log").read_text()
    run_launcher(*words, "-p", tmp_path / "launched")
    for name, value in read_checkpoint(tmp_path / "run/states-8.ckpt")["Downstream"].items():
        assert torch.equal(value, read_checkpoint(tmp_path / "launched/states-8.ckpt")["Downstream"][name])


def test_the_clones_own_configuration_counts(clone, corpus, tmp_path):
    """As S3PRL takes ./downstream/emotion/config.yaml."""
    own = clone[0] / "s3prl/downstream/emotion/config.yaml"
    own.write_text("runner: {}\nmine: 1\n")
    done = in_clone(clone, "-d", "emotion", "-u", "fbank", "-p", tmp_path / "run", "-o", override(data_options(corpus)),
                    check=False)
    own.unlink()
    assert done.returncode == 2 and "config: unknown key 'mine'" in done.stderr


def test_another_script_of_the_clone_gets_torchaudio(clone):
    (clone[0] / "s3prl/other.py").write_text("import torchaudio, s3prl.hub\nprint(torchaudio.__file__)\n")
    done = run_command(sys.executable, "other.py", cwd=clone[0] / "s3prl")
    assert done.stdout.strip().endswith("torchaudio/__init__.py") and "site-packages" in done.stdout


def test_without_our_package_the_link_says_so(clone, tmp_path):
    """As where the clone is used from another environment."""
    (tmp_path / "s3prl_dd.py").write_text("raise ModuleNotFoundError('gone', name='s3prl_dd')")
    done = run_command(sys.executable, "run_downstream.py", cwd=clone[0] / "s3prl", check=False, path=[tmp_path])
    assert "is linked to s3prl_dd, which this Python" in done.stderr and "Traceback" not in done.stderr


# torchrun


@pytest.mark.parametrize("ranks", [1, 2])
def test_torchrun_without_a_gpu(ranks, corpus, tmp_path):
    """S3PRL's distributed training by gloo; it goes on, and is evaluated by one process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", ranks, "--master_port", port, "-m",
                "s3prl_dd.run_downstream", "-m", "train", "-d", "emotion", "-u", "fbank", "-p", tmp_path / "run", "-a",
                "--device", "cpu", "-o")
    run_command(*torchrun, override(data_options(corpus), FEW))
    state = read_checkpoint(tmp_path / "run/states-4.ckpt")
    assert state["WorldSize"] == ranks and state["Args"].local_rank == 0
    run_command(*torchrun, override(data_options(corpus), FEW, {"config.runner.total_steps": 6}))
    assert [path.name for path in (tmp_path / "run").glob("states-*")] == ["states-6.ckpt"]
    assert times(tmp_path / "run", "dev at step 4:") == times(tmp_path / "run", "test at step 6:") == 1
    done = run_launcher("-m", "evaluate", "-e", tmp_path / "run/dev-best.ckpt", "--device", "cpu")
    assert "test: " in done.output or "test at step" in done.output


# paths


NASTY = "-a=b,,c *[x] it's \"y\"\n日本 😀 {z}$HOME"


@pytest.fixture
def nasty(tmp_path, monkeypatch):
    """A working folder; audio, metadata, generator and expdirs have names with all that parsers split at."""
    monkeypatch.chdir(tmp_path)
    folder = Path(NASTY)
    write_tones(folder / "lr=1e-4")
    return folder


def test_a_run_among_paths_of_any_name(nasty, fbank_generator):
    """Started as the recipe starts it; a second call goes on, and only max_keep states stay."""
    shutil.copy(fbank_generator, nasty / "g=1,,2.safetensors")
    corpus = nasty / "lr=1e-4"
    data = data_options(corpus, generator=nasty / "g=1,,2.safetensors", budget=2)
    expdir = nasty / "exp" / "lr=1e-4 r*"
    other = nasty / "exp" / "lr=1e-4 rest"  # the expdir's name, read as a pattern, would match this too
    other.mkdir(parents=True)
    (other / "states-9.ckpt").write_text("of another run")
    flags = ["-u", "fbank", "--device", "cpu"]
    start_s3prl(expdir, "distilled_emotion", flags, {**data, **FEW}, seed=0)
    assert [path.name for path in expdir.glob("states-*")] == ["states-4.ckpt"]
    start_s3prl(expdir, "distilled_emotion", flags, {**data, **FEW, "config.runner.total_steps": 6}, seed=0)
    assert (expdir / "states-6.ckpt").is_file() and (other / "states-9.ckpt").is_file()
    assert times(expdir, "dev at step 2:") == times(expdir, "test at step 6:") == 1
    done = run_launcher("-m", "evaluate", f"--past_exp={expdir}", "--device", "cpu")
    assert "Traceback" not in done.output


def test_bytes_that_are_no_text(tmp_path, corpus):
    """A name that a file system allows and no encoding does."""
    folder = os.fsencode(tmp_path) + b"/\xff\xfe"
    shutil.copytree(corpus, os.fsdecode(folder))
    options = data_options(Path(os.fsdecode(folder)))
    run_launcher("-m", "train", "-d", "emotion", "-u", "fbank", "--device", "cpu",
                 f"--expdir={os.fsdecode(folder)}/run", "-o", write_overrides({**options, **FEW}))
    assert Path(os.fsdecode(folder), "run", "dev-best.ckpt").is_file()


# an upstream of one's own


def test_ones_own_upstream_in_a_whole_run(tmp_path):
    """All stages by `-u FILE.py:FUNCTION` from another folder; then predict and ser_projector, if the user names it."""
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "beside_mine.py").write_text("RATE = 160\n")
    name = f"{tmp_path}/mine.py:energy"
    verb = (sys.executable, "-m", "s3prl_dd")
    table = write_table(tmp_path / "corpus")
    run_command(*verb, "run", "--corpus", "table", "--root", table, "--upstream", "./mine.py:energy", "--out", "run",
                "--seeds", 1, "--budgets", "original", "--head-lrs", "1e-3", "--head-steps", 20, "--pool-seeds", 1,
                "--overrides", "steps=10", "eval_every=5", "--device", "cpu", cwd=tmp_path)
    assert json.loads((tmp_path / "run/run.json").read_text())["upstream"] == name
    inspected = run_command(*verb, "inspect", "run/generator.safetensors", cwd=tmp_path).stdout
    assert "mine.py:energy" in inspected and str(tmp_path) not in inspected.replace("run/generator", "")
    expdir = next((tmp_path / "run/exp").glob("real_seed0*"))
    wav = next(tmp_path.rglob("*.wav"))
    refused = run_command(*verb, "predict", expdir, wav, cwd=tmp_path, check=False)
    assert f"If you trust it, name it: --upstream {name}" in refused.stderr + refused.stdout
    run_command(*verb, "predict", expdir, wav, "--upstream", name, cwd=tmp_path)
    code = tmp_path / "mine.py"
    code.write_text(code.read_text() + "\n# changed\n")
    done = run_command(sys.executable, "-m", "s3prl_dd.run_downstream", "-d", "distilled_emotion", "-u", name, "-p",
                       tmp_path / "again", "-o", f"{DATARC}.generator=run/generator.safetensors,,"
                       "config.runner.eval_dataloaders=['dev']", cwd=tmp_path, check=False)
    assert done.returncode == 2 and "its features have upstream_ckpt_digest" in done.stderr

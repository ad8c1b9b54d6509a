"""S3PRL's checkpoints whole or not at all, a resume from the newest whole one, and a full disk in one line."""

import errno
import os
import signal
import threading
from argparse import Namespace

import pytest
import torch
from support.disks import limit_files, resize, small_disk
from support.gauss import forked
from support.runs import data_options, override, run_launcher, run_python, write_head

from s3prl_dd.errors import DiskError, UserError
from s3prl_dd.plugin.checkpoints import NO_ROOM, newest_whole, telling_of_the_disk, whole_checkpoints
from s3prl_dd.plugin.launcher import complete
from s3prl_dd.plugin.runner import Bridge
from s3prl_dd.plugin.runs import start_s3prl

STATE = {"Step": 4, "Downstream": {"weight": torch.zeros(100_000)}}
TRAIN = ("-m", "train", "--device", "cpu", "-d", "emotion", "-u", "fbank")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def half(path, of):
    path.write_bytes(of.read_bytes()[:of.stat().st_size // 2])


def test_a_failure_leaves_the_old_file(tmp_path, monkeypatch):
    def fail(value, file):
        file.write(b"half")
        raise RuntimeError("torch's")

    before = torch.save
    with whole_checkpoints(tmp_path):
        torch.save({"a": 1}, tmp_path / "states-4.ckpt")
    assert torch.save is before and torch.load(tmp_path / "states-4.ckpt", weights_only=True) == {"a": 1}
    monkeypatch.setattr(torch, "save", fail)
    with whole_checkpoints(tmp_path), pytest.raises(RuntimeError, match="torch's"):
        torch.save({"a": 2}, str(tmp_path / "states-4.ckpt"))
    assert torch.load(tmp_path / "states-4.ckpt", weights_only=True) == {"a": 1}
    assert names(tmp_path) == ["states-4.ckpt"]


def test_the_runner_trains_so(tmp_path):
    class Plain:
        def train(self):
            torch.save({"Step": 1}, str(tmp_path / "states-1.ckpt"))
            self.saved_by = torch.save

    runner = type("Runner", (Bridge, Plain), {"__init__": lambda self: None})()
    runner.args, before = Namespace(expdir=tmp_path), torch.save
    runner.train()
    assert runner.saved_by is not before and torch.save is before and names(tmp_path) == ["states-1.ckpt"]


def save_with_little_room(folder, nbytes):
    limit_files(nbytes)
    try:
        with whole_checkpoints(folder):
            torch.save(STATE, folder / "states-4.ckpt")
    except DiskError as error:
        os._exit(3 if "states-4.ckpt: could not be written (File too large)" in str(error) else 4)
    os._exit(0)


@pytest.mark.parametrize("nbytes, code", [(0, 3), (100, 3), (200_000, 3), (10**6, 0)])
def test_no_room_is_told_and_leaves_nothing(tmp_path, nbytes, code):
    process = forked().Process(target=save_with_little_room, args=(tmp_path, nbytes))
    process.start()
    process.join(60)
    assert process.exitcode == code and names(tmp_path) == ([] if code else ["states-4.ckpt"])


def save_and_die(folder):
    class Dying:
        def __reduce__(self):
            os.kill(os.getpid(), signal.SIGKILL)

    with whole_checkpoints(folder):
        torch.save({**STATE, "last": Dying()}, folder / "states-8.ckpt")


def test_a_kill_in_the_middle(tmp_path):
    process = forked().Process(target=save_and_die, args=(tmp_path,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert len(names(tmp_path)) == 1 and names(tmp_path)[0].startswith(".states-8.ckpt.")
    with whole_checkpoints(tmp_path):
        assert names(tmp_path) == []


@pytest.fixture
def states(tmp_path):
    """An expdir of three states, of which the newest two are halves."""
    write_head(tmp_path / "states-4.ckpt")
    for step in (8, 12):
        half(tmp_path / f"states-{step}.ckpt", tmp_path / "states-4.ckpt")
    return [tmp_path / f"states-{step}.ckpt" for step in (4, 8, 12)]


def test_the_newest_that_is_whole(states, capsys):
    assert newest_whole(states) == states[0] and newest_whole(states[1:]) is None
    told = capsys.readouterr().err.splitlines()
    assert "skipped: " in told[0] and "states-12.ckpt: not a checkpoint of S3PRL, or cut off" in told[0]
    assert "states-8.ckpt" in told[1]


def test_a_resume_names_it_to_s3prl(states):
    folder = str(states[0].parent)
    resumed = complete(["-m", "train", "-e", folder, "--device", "cpu"]).argv
    assert f"--past_exp={states[0]}" in resumed
    resumed = complete([*TRAIN, "-p", folder, "-a"]).argv
    assert f"--past_exp={states[0]}" in resumed and "--auto_resume" not in resumed
    states[0].unlink()
    anew = complete([*TRAIN, "-p", folder, "-a"]).argv
    assert not any(word.startswith(("--past_exp", "--auto_resume")) for word in anew)
    with pytest.raises(UserError, match="none of its 2 states-.*.ckpt is whole"):
        complete(["-m", "train", "-e", folder])


def test_what_the_disk_refuses_is_told_with_the_folder(tmp_path):
    before = threading.excepthook
    with pytest.raises(DiskError, match=f"{tmp_path}: could not be written .No space left on device.. Make room"):
        with telling_of_the_disk(tmp_path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(FileNotFoundError), telling_of_the_disk(tmp_path):
        raise FileNotFoundError(errno.ENOENT, "no such file")
    assert threading.excepthook is before


def test_a_thread_without_room_ends_the_process(tmp_path):
    code = f"""
import errno, threading, time
from s3prl_dd.plugin.checkpoints import telling_of_the_disk
def write():
    raise OSError(errno.ENOSPC, "No space left on device")
with telling_of_the_disk({str(tmp_path)!r}):
    threading.Thread(target=write).start()
    time.sleep(60)
"""
    done = run_python(code, check=False)
    assert done.returncode == NO_ROOM and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: {tmp_path}: could not be written (No space left on device)")


@pytest.mark.slow
def test_runs_on_a_disk_that_is_full_at_every_level(corpus, tmp_path):
    """One line of ours, whatever was written last; with room again the same call ends well."""
    changes = {**data_options(corpus), "config.runner.total_steps": 8, "config.runner.save_step": 2,
               "config.runner.eval_step": 4, "config.runner.log_step": 2, "config.runner.gradient_accumulate_steps": 1}
    flags = ["-u", "fbank", "--device", "cpu", "--feature_folder", str(tmp_path / "disk/means")]
    for kilobytes in (12, 40, 900, 1500):
        with small_disk(tmp_path / "disk", kilobytes) as disk:
            try:
                start_s3prl(disk / "run", "emotion", flags, changes, 0)
            except DiskError as error:
                assert "\n" not in str(error) and f"{disk}" in str(error)
            resize(disk, 20_000)
            start_s3prl(disk / "run", "emotion", flags, changes, 0)
            assert (disk / "run/states-8.ckpt").is_file() and (disk / "run/dev-best.ckpt").is_file()


@pytest.mark.slow
def test_a_run_goes_on_from_the_state_before_a_half_one(corpus, tmp_path):
    words = (*TRAIN, "-p", tmp_path / "run", "-a", "-o", override(data_options(corpus)))
    run_launcher(*words)
    half(tmp_path / "run/states-8.ckpt", tmp_path / "run/states-4.ckpt")
    output = run_launcher(*words).output
    assert "skipped:" in output and f"Resume from {tmp_path}/run/states-4.ckpt" in output
    assert torch.load(tmp_path / "run/states-8.ckpt", weights_only=False)["Step"] == 8

"""S3PRL's SID recipe on heads: what is asked of it, what is kept; its stale file list."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from support.runs import write_head

from s3prl_dd.corpora.sid import prepare_sid
from s3prl_dd.errors import UserError
from s3prl_dd.features.spec import FeatureSpec
from s3prl_dd.privacy import sid
from s3prl_dd.privacy.rows import Head, Row
from s3prl_dd.privacy.settings import Settings
from s3prl_dd.privacy.sid import Job, SidSetup, Tree, run_rows, run_sid


@pytest.fixture
def setup(tree, tmp_path):
    listed = tmp_path / "copied.txt"
    listed.write_text((tree / "list.txt").read_text())
    settings = Settings(steps=20, batch=8, seeds=2)
    return SidSetup(Tree.open(tree, listed), tmp_path, FeatureSpec("fbank", layer=0), settings, "cpu")


@pytest.fixture
def started(monkeypatch):
    """What was asked of S3PRL, which does not run: its log says that accuracy on dev is best at step 2."""
    calls = []

    def start_s3prl(expdir, downstream, flags, overrides, seed, threads):
        calls.append((expdir.name, downstream, list(flags), dict(overrides), seed))
        expdir.mkdir(parents=True, exist_ok=True)
        lines = [f"{part} at step {step}: {value}" for step in (1, 2)
                 for part, value in (("dev", 0.2 * step), ("train", 0.9), ("test", 0.3 * step))]
        (expdir / "log.log").write_text("\n".join(lines) + "\n")
        return "python ..."

    monkeypatch.setattr(sid.runs, "start_s3prl", start_s3prl)
    return calls


# trees


def test_tree(tree, corpus):
    opened = Tree.open(tree)
    assert (opened.speakers, opened.train + opened.dev + opened.test) == (3, 36)
    assert opened.source == (corpus / "audio").resolve() and opened.split_by is None
    utterances = opened.utterances()
    assert Counter(utterances.parts.tolist()) == {1: opened.train, 2: opened.dev, 3: opened.test}
    assert all(path.is_file() for path in utterances.paths)
    assert [int(path.parts[-3][2:]) - 10001 for path in utterances.paths] == utterances.speakers.tolist()
    assert set(utterances.speakers.tolist()) == {0, 1, 2}


def test_another_list_is_another_tree(tree, tmp_path):
    lines = (tree / "list.txt").read_text().splitlines(keepends=True)
    (tmp_path / "fewer.txt").write_text("".join(lines[:-1]))
    fewer = Tree.open(tree, tmp_path / "fewer.txt")
    assert fewer.name != Tree.open(tree).name and fewer.test == Tree.open(tree).test - 1
    with pytest.raises(UserError, match="no such list"):
        Tree.open(tree, tmp_path / "no.txt")


# runs


def test_what_is_asked_of_s3prl(setup, started, tmp_path):
    path, _ = write_head(tmp_path / "dev-best.ckpt")
    score = run_sid(setup, Job(Row.REAL, 1, 1e-2, Head(path, 0.8)))
    (name, downstream, flags, overrides, seed), = started
    assert (name, downstream, seed) == ("real_seed1_lr0.01", "voxceleb1", 1)
    assert flags[:4] == ["-u", "ser_projector", "-k", str(path)] and flags[flags.index("--device") + 1] == "cpu"
    data = {key.removeprefix("config.downstream_expert.datarc."): value for key, value in overrides.items()}
    assert (data["file_path"], data["meta_data"]) == (str(setup.tree.root), str(tmp_path / "copied.txt"))
    assert (data["train_batch_size"], data["max_timestep"], data["config.optimizer.lr"]) == (8, None, 1e-2)
    assert (data["config.runner.total_steps"], data["config.runner.eval_step"]) == (20, 2)
    assert (score.step, score.dev, score.test, score.train) == (2, 0.4, 0.6, 0.9)
    assert (score.lr, score.seed, score.checkpoint) == (1e-2, 1, str(path))


def test_the_plain_upstream_is_the_runs_own(setup, started):
    run_sid(setup, Job(Row.UPSTREAM, 0, 1e-3, Head(None, None)))
    assert started[0][2][:6] == ["-u", "fbank", "-s", "hidden_states", "-l", "0"]


def test_what_is_there_is_not_run_again(setup, started, tmp_path):
    one, two = (write_head(tmp_path / name)[0] for name in ("one.ckpt", "two.ckpt"))
    job = Job(Row.REAL, 0, 1e-3, Head(one, 0.8))
    score = run_sid(setup, job)
    assert run_sid(setup, job) == score and len(started) == 1
    for other, told in ((setup._replace(settings=Settings(steps=21, batch=8)), "steps 20, now 21"),
                        (setup._replace(settings=Settings(steps=20, batch=9)), "batch 8, now 9")):
        with pytest.raises(UserError, match=f"was run with {told} is asked for. Delete the folder"):
            run_sid(other, job)
    with pytest.raises(UserError, match="was run with checkpoint .*one.ckpt"):
        run_sid(setup, job._replace(head=Head(two, 0.8)))
    write_head(one, dim=80)
    with pytest.raises(UserError, match="was run with digest .* now .* is asked for"):
        run_sid(setup, job)


def test_a_killed_run_of_other_settings_does_not_count_as_this_one(setup, started, tmp_path, monkeypatch):
    """Its lines of log.log would."""
    job = Job(Row.UPSTREAM, 0, 1e-3, Head(None, None))

    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(sid.runs, "start_s3prl", killed)
        with pytest.raises(KeyboardInterrupt):
            run_sid(setup, job)
    with pytest.raises(UserError, match="was run with steps 20, now 21 is asked for"):
        run_sid(setup._replace(settings=Settings(steps=21, batch=8)), job)
    assert run_sid(setup, job).steps == 20 and len(started) == 1


def test_each_row_takes_the_learning_rate_that_its_dev_prefers(setup, tmp_path, monkeypatch):
    """Real prefers the larger one, the upstream the smaller; the second seed follows, on the second head."""
    done = []

    def run_one(setup, job, threads):
        done.append((job.row, job.seed, job.lr, job.head.uar))
        dev = job.lr if job.row == Row.REAL else 1 - job.lr
        return sid.SidScore(20, 8, job.lr, "None", job.seed, 1, dev, 1.0, 0.5 + 0.1 * job.seed, "python ...")

    monkeypatch.setattr(sid, "run_sid", run_one)
    rows = {Row.UPSTREAM: [Head(None, None)] * 2, Row.REAL: [Head(tmp_path, 0.8), Head(tmp_path, 0.7)]}
    scores = run_rows(setup, rows)
    assert list(scores) == [Row.UPSTREAM, Row.REAL]
    assert [[score.lr for score in row] for row in scores.values()] == [[1e-3, 1e-3], [1e-2, 1e-2]]
    assert [[score.test for score in row] for row in scores.values()] == [[0.5, 0.6], [0.5, 0.6]]
    assert sorted(done, key=str) == sorted(
        [(Row.UPSTREAM, 0, 1e-3, None), (Row.UPSTREAM, 0, 1e-2, None), (Row.UPSTREAM, 1, 1e-3, None),
         (Row.REAL, 0, 1e-3, 0.8), (Row.REAL, 0, 1e-2, 0.8), (Row.REAL, 1, 1e-2, 0.7)], key=str)


def test_s3prls_own_runner_on_a_head(setup, tmp_path):
    """Twice in a process of its own: --seed counts, the tree is checked, and a score is in [0, 1]."""
    path, _ = write_head(tmp_path / "dev-best.ckpt")
    weights = []
    for seed in (0, 1):
        score = run_sid(setup, Job(Row.REAL, seed, 1e-3, Head(path, 0.8)))
        expdir = tmp_path / f"exp/real_seed{seed}_lr0.001"
        assert 0 <= score.test <= 1 and "-d voxceleb1 -u ser_projector -k" in score.command
        assert "'speakers': 3" in (expdir / "stdout.log").read_text()
        state = torch.load(expdir / "states-20.ckpt", weights_only=False)
        weights.append(state["Downstream"]["projector.weight"])
    assert weights[0].shape == (256, 256) and not torch.allclose(*weights, atol=1e-3)


# S3PRL's file list


def test_s3prls_stale_file_list_never_serves_another_tree(tree, tmp_path):
    """The same expdir, two trees and two lists: S3PRL's data set gives the files of the one that is asked for."""
    from s3prl_dd.plugin.registration import register

    register()
    prepare_sid(tree / "data/wav", tmp_path / "second", speaker="(id[0-9]*)", seed=3)
    fewer = tmp_path / "fewer.txt"
    fewer.write_text("".join(sorted((tree / "list.txt").read_text().splitlines(keepends=True))[:-1]))
    whole = tree / "list.txt"
    tested = {}
    for root, listed in ((tree, whole), (tmp_path / "second", tmp_path / "second/list.txt"), (tree, fewer)) * 2:
        for part, number in (("train", "1"), ("dev", "2"), ("test", "3")):
            files = files_of(root, listed, part, tmp_path / "expdir")
            assert all(file.startswith(f"{root}/") for file in files)
            wanted = [line.split()[1] for line in listed.read_text().splitlines() if line[0] == number]
            assert [file.split("/wav/")[1] for file in files] == wanted
        tested[listed] = len(files)
    assert tested[whole] == tested[fewer] + 1
    bad = tmp_path / "bad.txt"
    bad.write_text("1 id10001/0/99999.wav\n2 id10001/0/00002.wav\n3 id10001/0/00003.wav\n")
    with pytest.raises(UserError, match="id10001/0/99999.wav is in the list, but found in no"):
        files_of(tree, bad, "train", tmp_path / "expdir")


def files_of(root: Path, listed: Path, part: str, expdir: Path) -> list[str]:
    """The files of S3PRL's data set after our launcher has looked at the configuration."""
    import s3prl.downstream.voxceleb1.dataset as dataset

    from s3prl_dd.plugin.speakers import own_file_list

    datarc = {"file_path": str(root), "meta_data": str(listed)}
    own_file_list({"downstream_expert": {"datarc": datarc}}, expdir)
    return list(np.asarray(dataset.SpeakerClassifiDataset(part, root, str(listed)).dataset))

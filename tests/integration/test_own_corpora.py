"""Tables as the field has them, end to end by the command line; then the run is moved, made read-only, and serves."""

import json
import shutil

import pytest
from support.disks import read_only, small_disk
from support.iemocap_tree import tone

from s3prl_dd import cli
from s3prl_dd.recipe.folder import Run
from s3prl_dd.recipe.results import Results

pytestmark = pytest.mark.slow

SMALL = ["network.channels=8", "network.critic_channels=8", "network.frames=4", "network.noise=4", "batch=4", "steps=2",
         "critic_steps=1", "eval_every=2", "save_every=2", "log_every=1"]
FLAGS = ["--device", "cpu", "--jobs", "1", "--head-steps", "20", "--upstream", "fbank_no_cmvn", "--overrides", *SMALL]
PARTS = {"a": "train", "b": "dev", "c": "test"}


def recordings(folder):
    """A dozen tones, file name -> (speaker, emotion): three speakers, two emotions, two takes."""
    made = {}
    for number, speaker in enumerate(PARTS):
        for place, emotion in enumerate(("neutral", "angry")):
            for take in range(2):
                name = f"{speaker}_{emotion}_{take}.wav"
                tone(folder / name, seconds=0.3 + 0.05 * take, pitch=150 + 200 * place + 30 * number + 10 * take)
                made[name] = speaker, emotion
    return made


def emobox_lines(folder):
    """EmoBox' JSONL: no speakers, which the file names have."""
    lines = [{"key": name[:-4], "dataset": "mine", "wav": f"downloads/mine/{name}", "type": "raw", "sr": 16000,
              "length": 0.3, "task": "category", "emo": emotion, "channel": 1}
             for name, (_, emotion) in recordings(folder / "downloads/mine").items()]
    (folder / "mine_all.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return ["--root", folder / "mine_all.jsonl", "--speaker", r"mine/(\w)_"]


def msp_podcast(folder):
    """MSP-Podcast's labels_consensus.csv, its letters, and its own splits; the audio in another folder."""
    splits = {"train": "Train", "dev": "Development", "test": "Test1"}
    letters = {"neutral": "N", "angry": "A"}
    lines = ["FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"]
    for name, (speaker, emotion) in recordings(folder / "Audios").items():
        lines.append(f"{name},{letters[emotion]},4.2,3.8,4.0,{speaker},Female,{splits[PARTS[speaker]]}")
    (folder / "Labels").mkdir()
    (folder / "Labels/labels_consensus.csv").write_text("\r\n".join(lines))
    return ["--table", folder / "Labels/labels_consensus.csv", "--root", folder / "Audios", "--emotions", "N=neu,A=ang"]


def hugging_face(folder):
    """Hugging Face's AudioFolder: metadata.csv beside the audio."""
    lines = ["file_name,label,speaker_id"]
    lines += [f"data/{name},{emotion},{speaker}" for name, (speaker, emotion) in recordings(folder / "data").items()]
    (folder / "metadata.csv").write_text("\n".join(lines))
    return ["--root", folder / "metadata.csv"]


def tab_separated(folder):
    """A TSV from a spreadsheet on Windows: UTF-16, backslashes, folds."""
    lines = ["Path\tEmotion\tSpeaker\tFold"]
    for name, (speaker, emotion) in recordings(folder / "wavs").items():
        lines.append(f"wavs\\{name}\t{emotion.title()}\t{speaker}\t{list(PARTS).index(speaker) + 1}")
    (folder / "list.tsv").write_bytes("\r\n".join(lines).encode("utf-16"))
    return ["--root", folder / "list.tsv"]


def run(out, *words):
    """`s3prl-dd run`; the real head is the whole pool, which takes no time to train."""
    flags = [*FLAGS, "--pool-from", out / "exp/real_seed0", *words]
    assert cli.main(["run", "--corpus", "table", "--out", str(out), "--budgets", "2", *map(str, flags)]) == 0
    return Run.open(out)


@pytest.mark.parametrize("kind, name, sizes", [
    (emobox_lines, "mine_all", (6, 2, 4)),
    (msp_podcast, "labels_consensus", (4, 4, 4)),
    (hugging_face, "corpus", (6, 2, 4)),
    (tab_separated, "corpus", (6, 2, 4)),
])
def test_a_table_end_to_end(kind, name, sizes, tmp_path):
    made = run(tmp_path / "run", *kind(tmp_path / "corpus"))
    fold, results = made.fold, Results.read(made.results)
    assert tuple(len(part.utterances) for part in (fold.train, fold.dev, fold.test)) == sizes
    assert (results.corpus, fold.train.labels) == (name, {"neu": 0, "ang": 1})
    assert list(results.arms) == ["real", "distilled_full", "distilled_2ppc", "random_real_2ppc"]
    assert all(0 <= arm.uar <= 1 for arm in results.arms.values())


def message(capsys, *words):
    """The one line of an error."""
    capsys.readouterr()
    assert cli.main([*map(str, words)]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1, told
    return told[0]


def test_a_finished_run_moves_and_may_only_be_read(tmp_path, capsys):
    """The corpus lies elsewhere, the run on a disk that may only be read."""
    words = hugging_face(tmp_path / "corpus")
    run(tmp_path / "run", *words)
    heads = {path: path.stat().st_mtime_ns for path in (tmp_path / "run/exp").rglob("run.json")}
    (tmp_path / "corpus").rename(tmp_path / "moved")
    moved = run(tmp_path / "run", "--root", tmp_path / "moved/metadata.csv")
    assert moved.corpus.root == str(tmp_path / "moved") and moved.settings.corpus.root.endswith("moved/metadata.csv")
    assert {path: path.stat().st_mtime_ns for path in heads} == heads  # nothing was trained again
    assert cli.main(["run", "--out", str(tmp_path / "run"), "--budgets", "1"]) == 0  # this reads the audio there
    assert "distilled_1ppc" in Results.read(moved.results).arms

    wav = tmp_path / "moved/data/a_angry_0.wav"
    shutil.copytree(tmp_path / "moved", tmp_path / "other")
    (tmp_path / "other/data/a_angry_0.wav").write_bytes(wav.read_bytes()[:-2])
    told = message(capsys, "run", "--out", tmp_path / "run", "--root", tmp_path / "other/metadata.csv")
    assert "data/a_angry_0.wav has" in told and "bytes there, it had" in told

    with small_disk(tmp_path / "disk", 40_000) as disk:
        shutil.copytree(tmp_path / "run", disk / "run")
        read_only(disk)
        there, head = disk / "run", disk / "run/exp/real_seed0"
        capsys.readouterr()
        for verb in (["report", "--out", there], ["report", "--out", there, "--to", tmp_path / "reported"],
                     ["compare", there], ["compare", there, "--to", tmp_path / "compared"],
                     ["inspect", there / "generator.safetensors"], ["run", "--out", there],
                     ["sample", there / "generator.safetensors", "--to", tmp_path / "set.safetensors"],
                     ["predict", head, wav, "--device", "cpu"]):
            assert cli.main([str(word) for word in verb]) == 0, verb
        told = capsys.readouterr().out
        assert f"{there} may only be read: the results are not written" in told and "GAN samples" in told
        assert (tmp_path / "reported/results.json").is_file() and (tmp_path / "set.safetensors").is_file()
        for verb in (["compare", there, "--to", there / "compared"],
                     ["sample", there / "generator.safetensors", "--to", there / "set.safetensors"],
                     ["run", "--out", there, "--seeds", "2"]):
            assert "read-only" in message(capsys, *verb).lower()

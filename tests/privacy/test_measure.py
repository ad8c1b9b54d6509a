"""`s3prl-dd privacy`: Table 4's rows through S3PRL's own SID recipe, resumed, printed; S3PRL's stale file list."""

import json

import numpy as np
import pytest
import torch
from support.runs import LABELS, features_of, make_generator, write_head, write_metadata

from s3prl_dd.corpora.metadata import Utterance
from s3prl_dd.corpora.sid import prepare_sid
from s3prl_dd.errors import UserError
from s3prl_dd.features.store import StoreWriter
from s3prl_dd.files import read_json, write_json
from s3prl_dd.privacy import measure as privacy
from s3prl_dd.privacy.measure import Settings, Tree, measure
from s3prl_dd.recipe.stages import Run


@pytest.fixture(scope="module")
def tree(corpus, tmp_path_factory):
    """A SID tree of the tones' three speakers, 12 utterances each."""
    out = tmp_path_factory.mktemp("sid") / "tones"
    prepare_sid(corpus / "audio", out)
    return out


def make_run(out, arms=("real", "distilled_full"), uars=(0.8, 0.7), seed=0, upstream="fbank"):
    """A recipe's folder without the recipe: random features of 4 speakers, a random generator and random heads."""
    write_metadata(out / "metadata", utterances := [
        {"path": f"s{speaker}/{label}{take}.wav", "label": label, "speaker": f"s{speaker}"}
        for speaker in range(4) for label in LABELS for take in range(5)])
    write_json(out / "metadata" / "corpus.json", {"name": "tones", "root": str(out / "audio"), "synthetic": False})
    features = features_of(upstream, 240, 160)
    draw = np.random.default_rng(0)
    with StoreWriter(out / "features", features) as writer:
        for item in utterances:
            writer.add(Utterance(**item), torch.from_numpy(draw.standard_normal((12, 240), dtype=np.float32)))
    make_generator(out / "generator.safetensors", features, train_speakers=("s1", "s2", "s3"), seed=seed)
    write_json(out / "run.json", {"corpus": "table", "root": str(out / "audio"), "upstream": upstream, "device": "cpu"})
    for arm, uar in zip(arms, uars):
        expdir = out / "exp" / f"{arm}_seed0"
        expdir.mkdir(parents=True)
        write_head(expdir / "dev-best.ckpt")
        write_json(expdir / "run.json", {"arm": arm, "seed": 0, "dev_uar": 0.5, "uar": uar, "expdir": expdir.name})
    return out


def test_s3prls_sid_recipe_on_a_head(tree, tmp_path):
    """The real runner in a subprocess, twice: --seed counts, and what is there is not run again."""
    run = Run.open(make_run(tmp_path / "run"))
    (checkpoint, uar), = privacy.heads_of(run, "real")
    assert uar == 0.8
    settings = Settings(steps=20, batch=8, feature_cache=0.1)
    one, other = (privacy.run_sid(run, checkpoint, Tree.open(tree), tmp_path / f"seed{seed}", seed, 1e-3, settings, "cpu", 1) for seed in (0, 1))
    for score in (one, other):
        assert 0 <= score["test"] <= 1 and "-d voxceleb1 -u ser_projector -k" in score["command"]
    weights = [torch.load(tmp_path / f"seed{seed}" / "states-20.ckpt", weights_only=False)["Downstream"]["projector.weight"] for seed in (0, 1)]
    assert weights[0].shape == (256, 256) and not torch.allclose(*weights, atol=1e-3)
    assert "'speakers': 3" in (tmp_path / "seed0" / "stdout.log").read_text()  # the tree was checked

    before = (tmp_path / "seed0" / "log.log").read_text()
    assert privacy.run_sid(run, checkpoint, Tree.open(tree), tmp_path / "seed0", 0, 1e-3, settings, "cpu", 1) == one
    assert (tmp_path / "seed0" / "log.log").read_text() == before
    with pytest.raises(UserError, match="was run with lr 0.001, now 0.01 is asked for"):
        privacy.run_sid(run, checkpoint, Tree.open(tree), tmp_path / "seed0", 0, 1e-2, settings, "cpu", 1)


def test_table_of_both_gans(tree, tmp_path, monkeypatch, capsys):
    """Everything but S3PRL's process: rows, UARs, probe, attacks, files, and again with nothing run twice."""
    ran = []

    def run_sid(run, checkpoint, tree, expdir, seed, lr, settings, device, threads):
        ran.append((expdir.name, checkpoint and checkpoint.name))
        return {"test": 0.9 if checkpoint is None else 0.5 + 0.1 * seed, "dev": lr, "train": 1.0, "lr": lr, "command": "python ..."}

    monkeypatch.setattr(privacy, "run_sid", run_sid)
    proposed = make_run(tmp_path / "proposed")
    baseline = make_run(tmp_path / "baseline", ("distilled_full",), (0.6,), seed=1)
    results = measure(proposed, [tree], baseline=baseline, settings=Settings(seeds=2, lrs=[1e-3, 1e-2], samples=100))
    sid, = results["sid"].values()
    rows = sid["rows"]
    assert list(rows) == ["upstream", "untrained", "real", "baseline", "proposed"]
    assert [rows[name]["ser_uar"] for name in rows] == [None, None, 0.8, 0.6, 0.7]
    assert rows["upstream"]["sid_accuracy"][0] == pytest.approx(0.9) and rows["real"]["per_seed"] == [0.5, 0.6]
    assert sid["chance"] == pytest.approx(1 / 3) and "as in Table 4" in sid["measure"]
    assert all(row["lr"] == 1e-2 for row in rows.values())  # the one that dev prefers, also at the second seed
    assert ("real_seed1_lr0.01", "dev-best.ckpt") in ran and ("real_seed1_lr0.001", "dev-best.ckpt") not in ran
    assert ("untrained_seed1_lr0.01", "untrained_seed1.ckpt") in ran and ("upstream_seed0_lr0.001", None) in ran
    assert rows["real"]["probe_utterances"] == 36 and rows["real"]["probe_minus_real"] == [0, 0, 0]
    assert rows["real"]["probe_accuracy"] == rows["proposed"]["probe_accuracy"]  # these heads are the same

    assert set(results["attacks"]) == {"mean", "frames"}
    assert {"proposed", "baseline", "copied", "held_out"} <= set(results["attacks"]["mean"])
    assert all(results["attacks"][view]["copied"]["membership"]["caught"] for view in ("mean", "frames"))
    assert read_json(proposed / "privacy" / "results.json") == json.loads(json.dumps(results))
    assert (proposed / "privacy" / "privacy.png").stat().st_size > 1000
    text = capsys.readouterr().out
    assert "SER head on the baseline GAN" in text and "Not caught is no guarantee" in text and "chance 33.3 %" in text


def test_refused(tree, tmp_path):
    with pytest.raises(UserError, match="run.json: not there yet"):
        measure(tmp_path / "nothing")
    proposed = make_run(tmp_path / "proposed", ("real",), (0.8,))
    with pytest.raises(UserError, match="no head of arm 'distilled_full'"):
        measure(proposed, [tree])
    with pytest.raises(UserError, match="its upstream is 'mfcc', that of .* is 'fbank'"):
        measure(proposed, baseline=make_run(tmp_path / "baseline", upstream="mfcc"))
    with pytest.raises(UserError, match="no such list"):
        measure(proposed, [tree], list_file=tmp_path / "no.txt")


def test_an_untrained_head_replaces_projector_and_layer_weights(tmp_path):
    path, head = write_head(tmp_path / "dev-best.ckpt", dim=64, weights=torch.tensor([0.3, -1.0, 0.7]))
    made = torch.load(privacy.untrained(path, tmp_path / "untrained.ckpt", 0), weights_only=False)
    assert made["Downstream"]["projector.weight"].shape == (256, 64) and made["Args"].upstream == "fbank"
    assert not torch.allclose(made["Downstream"]["projector.weight"], head["projector.weight"])
    assert made["Downstream"]["projector.weight"].abs().max() <= 1 / 8 and not made["Featurizer"]["weights"].any()


def test_s3prls_stale_file_list_never_serves_another_tree(tree, tmp_path):
    """The same expdir, two trees and two lists: S3PRL's data set gives the files of the one that is asked for."""
    from s3prl_dd.plugin.launcher import _own_file_list
    from s3prl_dd.plugin.registration import register

    register()
    import s3prl.downstream.voxceleb1.dataset as dataset

    prepare_sid(tree.parent / "tones" / "data" / "wav", tmp_path / "second", speaker="(id[0-9]*)", seed=3)
    (tmp_path / "fewer.txt").write_text("".join(sorted((tree / "list.txt").read_text().splitlines(keepends=True))[:-1]))
    sizes = {}
    for root, meta in ((tree, tree / "list.txt"), (tmp_path / "second", tmp_path / "second" / "list.txt"), (tree, tmp_path / "fewer.txt")) * 2:
        _own_file_list({"downstream_expert": {"datarc": {"file_path": str(root), "meta_data": str(meta)}}}, tmp_path / "expdir")
        for part in ("train", "dev", "test"):
            files = dataset.SpeakerClassifiDataset(part, root, str(meta)).dataset
            assert all(file.startswith(str(root) + "/") for file in files)
            wanted = [line.split()[1] for line in meta.read_text().splitlines() if line[0] == {"train": "1", "dev": "2", "test": "3"}[part]]
            assert [file.split("/wav/")[1] for file in files] == wanted
            sizes.setdefault((str(meta), part), len(files))
    assert sizes[str(tree / "list.txt"), "test"] == sizes[str(tmp_path / "fewer.txt"), "test"] + 1
    (tmp_path / "bad.txt").write_text("1 id10001/0/99999.wav\n2 id10001/0/00002.wav\n3 id10001/0/00003.wav\n")
    with pytest.raises(UserError, match="id10001/0/99999.wav is in the list, but found in no"):
        _own_file_list({"downstream_expert": {"datarc": {"file_path": str(tree), "meta_data": str(tmp_path / "bad.txt")}}}, tmp_path / "expdir")

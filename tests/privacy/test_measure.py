"""`s3prl-dd privacy` as a whole: rows, probe, attacks, files; all but S3PRL's own process."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.privacy import write_run
from support.tiny_generator import loaded, tiny_generator, tiny_suppression

from s3prl_dd.corpora.metadata import Metadata, Utterance
from s3prl_dd.distill.data import resample
from s3prl_dd.errors import UserError
from s3prl_dd.features.store import FeatureStore
from s3prl_dd.files import read_json
from s3prl_dd.generator import Generator
from s3prl_dd.privacy import attacks, sid
from s3prl_dd.privacy import measure as privacy
from s3prl_dd.privacy.attacks import View
from s3prl_dd.privacy.intervals import wilson
from s3prl_dd.privacy.measure import Settings, measure
from s3prl_dd.privacy.results import PrivacyResults
from s3prl_dd.privacy.rows import GanRuns, Row, path_text
from s3prl_dd.privacy.table import table
from s3prl_dd.recipe.folder import Run

UPSTREAM = "fbank_no_cmvn"  # fbank's utterance means are zero, they tell no speaker
ROW_KEYS = {"sid_accuracy", "per_seed", "lr", "train_accuracy", "ser_uar", "heads", "command"}
PROBE_KEYS = {"probe_accuracy", "probe_utterances", "probe_minus_real"}
TREE_KEYS = {"root", "list", "speakers", "train", "dev", "test", "chance", "majority", "split_by", "synthetic",
             "measure", "rows"}


def run_sid(setup, job, threads):
    """SID without S3PRL: the plain upstream gets 0.9, heads 0.5 and 0.6; dev prefers the larger learning rate."""
    test = 0.9 if job.row == Row.UPSTREAM else 0.5 + 0.1 * job.seed
    return sid.SidScore(300, 20, job.lr, path_text(job.head.checkpoint), job.seed, 30, job.lr, 1.0, test, "python ...")


def write_two(folder):
    """Folders of a proposed and a baseline run; their generators differ, and the proposed head hears one dimension."""
    proposed = write_run(folder / "proposed", upstream=UPSTREAM)
    path = proposed / "exp/distilled_full_seed0/dev-best.ckpt"
    head = torch.load(path, weights_only=False)
    head["Downstream"]["projector.weight"][:, 1:] = 0
    torch.save(head, path)
    return proposed, write_run(folder / "baseline", [("distilled_full", 0.6)], seed=1, upstream=UPSTREAM)


@pytest.fixture(scope="module")
def measured(tree, tmp_path_factory):
    """(folders of the two runs, what was measured of them)"""
    two = write_two(tmp_path_factory.mktemp("measured"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sid, "run_sid", run_sid)
        return two, measure(two[0], [tree], baseline=two[1], settings=Settings(seeds=2, samples=100))


def test_table_4_of_both_gans(measured, tree):
    two, results = measured
    tree_result, = results.sid.values()
    rows = tree_result.rows
    assert list(rows) == ["upstream", "untrained", "real", "baseline", "proposed"]
    assert [row.ser_uar for row in rows.values()] == [None, None, 0.8, 0.6, 0.7]
    assert rows[Row.UPSTREAM].sid_accuracy == wilson(0.9, tree_result.test) and rows[Row.REAL].per_seed == [0.5, 0.6]
    assert rows[Row.UPSTREAM].heads == [None] * 2 and str(two[1]) in rows[Row.BASELINE].heads[0]
    assert {row.lr for row in rows.values()} == {1e-2}
    assert tree_result.chance == pytest.approx(1 / 3) and "as in Table 4" in tree_result.measure
    tested = [line.split()[1][:7] for line in (tree / "list.txt").read_text().splitlines() if line[0] == "3"]
    assert tree_result.majority == pytest.approx(max(map(tested.count, tested)) / len(tested))
    assert rows[Row.REAL].probe_utterances == 36 and rows[Row.REAL].probe_minus_real == (0, 0, 0)
    assert rows[Row.BASELINE].probe_accuracy == rows[Row.REAL].probe_accuracy  # these heads are the same
    assert rows[Row.PROPOSED].probe_accuracy.value < rows[Row.REAL].probe_accuracy.value - 0.1


def test_what_is_attacked(measured):
    _, results = measured
    assert set(results.attacks) == {View.MEAN, View.FRAMES}
    assert {"proposed", "baseline", "copied", "held_out"} <= set(results.attacks[View.MEAN])
    assert all(results.attacks[view]["copied"].membership.caught for view in View)
    assert results.attacks[View.MEAN]["baseline"].speakers_from_real
    assert results.attacks[View.FRAMES]["baseline"].speakers_from_real is None


def test_files(measured):
    (proposed, _), results = measured
    path = proposed / "privacy/results.json"
    written = read_json(path)
    assert written == json.loads(json.dumps(results.as_json())) and PrivacyResults.read(path) == results
    tree, = written["sid"].values()
    assert set(written) == {"sid", "attacks", "teachers", "within"} and set(tree) == TREE_KEYS
    assert {frozenset(row) for row in tree["rows"].values()} == {frozenset(ROW_KEYS | PROBE_KEYS)}
    assert tree["rows"]["upstream"]["ser_uar"] is None and len(tree["rows"]["real"]["sid_accuracy"]) == 3
    frames = written["attacks"]["frames"]
    assert set(frames["proposed"]) == {"membership", "nearest"} and "caught_rounds" not in frames["proposed"]["nearest"]
    assert frames["held_out"]["nearest"]["caught_rounds"].endswith("/5")
    assert (proposed / "privacy/privacy.png").read_bytes()[:4] == b"\x89PNG"


def test_what_is_printed(measured):
    _, results = measured
    lines = table(results).splitlines()
    proposed = next(line for line in lines if line.startswith("SER head on the proposed GAN"))
    row = next(iter(results.sid.values())).rows[Row.PROPOSED]
    probe = f"{100 * row.probe_accuracy.value:.1f}"
    assert proposed.split()[6] == "55.0" and probe in proposed and proposed.split()[-1] == "70.0"
    real = next(line for line in lines if line.startswith("SER head on real data"))
    assert real.split()[-2:] == ["-", "80.0"]
    copied = next(line for line in lines if line.startswith("copied"))
    assert "memorised" in lines[lines.index(next(line for line in lines if line.startswith("heads "))) + 4]
    assert copied.count("*") == sum(result.caught for result in vars(results.attacks[View.MEAN]["copied"]).values())
    text = "\n".join(lines)
    assert "chance 33.3 %" in text and "2 seeds" in text and "Not caught is no guarantee" in text


def test_trees_of_earlier_calls_are_kept(measured, tmp_path):
    (proposed, _), results = measured
    shutil.copytree(proposed, tmp_path / "copy")
    again = measure(tmp_path / "copy", settings=Settings(samples=50))
    assert again.sid == results.sid and "baseline" not in again.attacks[View.MEAN]


def test_a_large_tree_is_not_probed(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(sid, "run_sid", run_sid)
    monkeypatch.setattr(privacy, "MOST_UTTERANCES", 35)
    results = measure(write_run(tmp_path), [tree], settings=Settings(seeds=1, samples=50))
    assert {row.probe_accuracy for tree_result in results.sid.values() for row in tree_result.rows.values()} == {None}
    written, = read_json(tmp_path / "privacy/results.json")["sid"].values()
    assert {frozenset(row) for row in written["rows"].values()} == {frozenset(ROW_KEYS)}


def test_each_generator_is_attacked_under_its_name_against_train_and_dev(tmp_path, monkeypatch):
    """The wires into the attacks: whose samples, which utterances are train, which are dev, which controls."""
    seen = []
    monkeypatch.setattr(attacks, "attack", lambda *given, **options: seen.append((given, options)) or {})
    runs = GanRuns(*map(Run.open, write_two(tmp_path)))
    privacy.attack_generators(runs, privacy.draw_all(runs, 60), 60)
    (real, samples, number, ), options = seen[0]
    assert [given[1]["speakers"] for given in seen] == [True, False] and number == 60 and options["speakers"]

    fold, draws = runs.proposed.fold, {}
    for name, run in runs.by_row().items():
        for center, kind in ((False, ""), (True, "_centred")):
            drawn = Generator.load(run.generator).sample({"total": 60}, seed=0, center=center).features.numpy()
            draws[name + kind] = drawn.mean(axis=1)
    train = store_means(runs.proposed, fold.train)
    mean, spread = train.mean(axis=0), train.std(axis=0) + 1e-8
    assert list(samples) == ["proposed", "proposed_centred", "baseline", "baseline_centred"]
    for name, values in draws.items():
        assert np.allclose(samples[name], (values - mean) / spread, atol=1e-3)
    assert np.allclose(real.train, (train - mean) / spread, atol=1e-3)
    assert np.allclose(real.dev, (store_means(runs.proposed, fold.dev) - mean) / spread, atol=1e-3)
    for part, speakers in ((fold.train, real.train_speakers), (fold.dev, real.dev_speakers)):
        assert [utterance.speaker for utterance in part.utterances] == speakers.tolist()


def test_learnt_points_are_attacked_by_themselves(tmp_path):
    tiny_generator(points=3).save(tmp_path / "generator.safetensors")
    run = SimpleNamespace(generator=tmp_path / "generator.safetensors")
    drawn = privacy.draw(run, "proposed", 50)
    assert {name: len(samples.frames) for name, samples in drawn.items()} == {
        "proposed": 50, "proposed_centred": 50, "proposed_learnt": 9}
    points = Generator.load(run.generator).points.flatten(0, 1).numpy()
    assert np.allclose(drawn["proposed_learnt"].frames.mean(axis=1), points, atol=1e-4)
    assert drawn["proposed_learnt"].labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_who_knows_the_file_gets_its_samples_their_classes_and_what_it_leaves_of_speech(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(privacy, "attack_within", lambda *given: seen.append(given) or {})
    runs = GanRuns(*map(Run.open, write_two(tmp_path)))
    suppressed = Generator.load(runs.proposed.generator)
    suppressed.suppression = tiny_suppression(suppressed.header.features.dim)
    suppressed = loaded(suppressed, runs.proposed.generator)
    privacy.attack_speakers_within(runs, privacy.draw_all(runs, 60), 60)
    (train, dev, files, number), fold = seen[0], runs.proposed.fold
    assert number == 60 and list(files) == ["proposed", "proposed_centred", "baseline", "baseline_centred"]
    store = FeatureStore(runs.proposed.features)
    for part, known in ((fold.train, train), (fold.dev, dev)):
        assert np.allclose(known.means, store.means(store.select(part)))
        assert [part.class_names[label] for label in known.labels] == [item.label for item in part.utterances]
        assert known.speakers.tolist() == [item.speaker for item in part.utterances]
    drawn = Generator.load(runs.proposed.generator).sample({"total": 60}, seed=0, center=True)
    samples, heard = files["proposed_centred"]
    assert np.allclose(samples.means, drawn.features.mean(dim=1), atol=1e-5)
    assert samples.labels.tolist() == drawn.labels.tolist() and samples.speakers is None
    left = suppressed.suppression.of(torch.from_numpy(dev.means))
    assert np.allclose(heard(dev.means), left) and not np.allclose(heard(dev.means), dev.means)
    assert np.array_equal(files["baseline"].heard(dev.means), dev.means)


def test_the_heads_in_the_file_are_attacked_with_train_and_dev(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(privacy, "attack_teachers", lambda *given: seen.append(given) or {})
    runs = GanRuns(*map(Run.open, write_two(tmp_path)))
    privacy.attack_heads(runs)
    (data, teachers), fold = seen[0], runs.proposed.fold
    assert list(teachers) == ["proposed", "baseline"]
    store = FeatureStore(runs.proposed.features)
    for part, means, labels in ((fold.train, data.train, data.train_labels), (fold.dev, data.dev, data.dev_labels)):
        assert np.allclose(means, store.means(store.select(part)))
        assert [part.class_names[label] for label in labels] == [item.label for item in part.utterances]
    for name, run in runs.by_row().items():
        generator = Generator.load(run.generator)
        heard = teachers[name](data.dev)
        assert heard.shape == (len(generator.teacher.weight), len(data.dev), len(generator.header.labels))
        assert np.allclose(heard.mean(axis=0), generator.soften(torch.from_numpy(data.dev)), atol=1e-5)


def test_a_file_of_the_version_before_is_read(measured, tmp_path):
    (proposed, _), results = measured
    written = read_json(proposed / "privacy/results.json")
    del written["teachers"], written["within"]
    for sets in written["attacks"].values():
        for result in sets.values():
            del result["membership"]["found_at_1_percent_false"]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(written))
    before = PrivacyResults.read(path)
    assert before.teachers == before.within == {} and before.sid == results.sid
    assert "attacks on generated features" in table(before)


def store_means(run, part):
    """Utterance means of 12 frames that were averaged to the samples' 8."""
    store = FeatureStore(run.features)
    return np.stack([resample(store[place], 8).mean(dim=0).numpy() for place in store.select(part)])


def test_refused_before_anything_is_run(tree, tmp_path):
    proposed = write_run(tmp_path / "proposed")
    with pytest.raises(UserError, match="run.json: not there yet"):
        measure(tmp_path / "nothing")
    with pytest.raises(UserError, match="its upstream is 'mfcc', that of .* is 'fbank'"):
        measure(proposed, baseline=write_run(tmp_path / "mfcc", upstream="mfcc"))
    with pytest.raises(UserError, match="no such list"):
        measure(proposed, [tree], list_file=tmp_path / "no.txt")
    with pytest.raises(UserError, match="no head of arm 'distilled_full'"):
        measure(write_run(tmp_path / "untrained", [("real", 0.8)]), [tree])
    (proposed / "generator.safetensors").unlink()
    with pytest.raises(UserError, match="generator.safetensors: not there yet. Run `s3prl-dd distill`"):
        measure(proposed, [tree])
    assert not (proposed / "privacy").exists()


def test_a_foreign_results_file_is_told(tmp_path):
    path = tmp_path / "results.json"
    for text in ("[]", '{"arms": {}}'):
        path.write_text(text)
        with pytest.raises(UserError, match="results.json: "):
            PrivacyResults.read(path)


def test_of_a_large_fold_a_part_is_attacked():
    utterances = tuple(Utterance(f"{number}.wav", "neu", f"speaker{number // 10}") for number in range(100))
    part = Metadata({"neu": 0}, utterances)
    few = privacy._some(part, 20)
    assert len(few.utterances) == 20 and len(few.speakers) == 10 and privacy._some(part, 100) == part


def test_whose_speakers_a_tree_has(tree, tmp_path):
    run = Run.open(write_run(tmp_path / "run"))
    assert "not known" in privacy._kind_of_measure(run, own=None)
    assert "as in Table 4" in privacy._kind_of_measure(run, own=False)
    assert "in-corpus" in privacy._kind_of_measure(run, own=True)
    assert privacy._overlap(tmp_path / "corpus/audio", tmp_path / "corpus")
    assert privacy._overlap(tmp_path, tmp_path) and not privacy._overlap(tmp_path / "one", tmp_path / "other")


def test_members_of_a_teacher_made_for_the_file_are_those_whom_the_gan_heard(tmp_path, monkeypatch):
    """The pool's heads heard S3PRL's train; a teacher by `privacy` or `teacher_folds` is trained on the GAN's."""
    run = Run.open(write_run(tmp_path / "run"))
    asked = []
    store = SimpleNamespace(select=asked.append, means=lambda places: torch.zeros(1, 1))
    monkeypatch.setattr(privacy, "FeatureStore", lambda folder: store)
    monkeypatch.setattr(privacy.Generator, "load", lambda path: SimpleNamespace(teacher=object()))
    monkeypatch.setattr(privacy, "attack_teachers", lambda known, teachers: {})

    def members(*overrides):
        settings = run.settings.changed(overrides=("selection=speakers", *overrides))
        made = SimpleNamespace(settings=settings, fold=run.fold, generator="", features="")
        privacy.attack_heads(SimpleNamespace(proposed=made, by_row=lambda: {"proposed": made}))
        return asked[-2]

    assert members() == run.fold.train
    assert members("privacy=1") == members("teacher_folds=2") != run.fold.train
    assert not set(members("privacy=1").speakers) >= set(run.fold.train.speakers)


def test_members_are_those_whom_the_gan_heard(tmp_path, monkeypatch):
    """With `selection: speakers` train and dev are other parts than the lists'."""
    run = Run.open(write_run(tmp_path / "run"))
    parts = []
    monkeypatch.setattr(privacy, "real_of", lambda store, fold, *others: parts.append((fold.train, fold.dev)))
    for selection in ("dev", "speakers"):
        held = run.settings.changed(overrides=(f"selection={selection}",))
        privacy.real_utterances(SimpleNamespace(settings=held, fold=run.fold, features=run.features), 2, View.MEAN)
    (train, dev), (heard, others) = parts
    assert set(train.speakers) & set(dev.speakers) and not set(heard.speakers) & set(others.speakers)

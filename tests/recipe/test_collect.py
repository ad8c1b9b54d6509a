"""Results of a run's folder, and results.json as a type."""

import json

import numpy as np
import pytest
from support.recipe import IN_ORDER, keep_score
from support.tiny_generator import tiny_generator

from s3prl_dd.errors import UserError
from s3prl_dd.generator import NetworkConfig
from s3prl_dd.recipe.collect import collect
from s3prl_dd.recipe.results import Results


def test_collect(run):
    results = collect(run)
    counts = run.fold.train.class_counts
    assert list(results.arms) == IN_ORDER
    assert results.features == run.settings.upstream.words() and results.recipe == run.settings.heads.words()
    real = results.arms["real"]
    assert real.uar == pytest.approx(0.82) and real.uar_per_seed == [0.80, 0.84] and real.train_seconds == 60.5
    assert real.spread == pytest.approx(np.std([0.80, 0.84], ddof=1)) and real.seeds == 2 and real.predictions is None
    points = {name: arm.points for name, arm in results.arms.items()}
    assert points == {
        "real": sum(counts),
        "distilled_full": sum(counts) // 3 * 3,
        "distilled_100ppc": 300,
        "distilled_6ppc": 18,
        "random_real_100ppc": sum(counts),
        "random_real_6ppc": 18,
    }
    assert results.bytes.audio == 1000 * sum(counts) and results.bytes.generator == 5000
    lines = (run.features / "index.jsonl").read_text().splitlines()
    frames = {entry["id"]: entry["frames"] for entry in map(json.loads, lines)}
    assert results.bytes.features_float32 == sum(frames[item.path] for item in run.fold.train.utterances) * 10 * 4
    assert results.distill_seconds == 123.4 and results.test_utterances == 36 and results.fold == "fold1"
    assert {"torch", "s3prl", "s3prl_dd"} <= set(results.versions)
    assert results.variant == "gan_1d hard labels" and not results.gaussian


def test_network_and_frame_deviations_are_the_generator_files(run):
    assert (collect(run).architecture, collect(run).deviations) == (None, "own")
    tiny_generator(NetworkConfig(frames=8, noise=6, channels=8, movement="any")).save(run.generator)
    assert (collect(run).architecture, collect(run).deviations) == ("gan_1d", "any")


def test_learnt_points_of_the_generator_file(run):
    assert collect(run).learnt_points == 0
    tiny_generator(points=4).save(run.generator)
    assert collect(run).learnt_points == 4


def test_collect_keeps_predictions(run):
    keep_score(run.out, "real", 0, 0.8, predicted=[0, 1]), keep_score(run.out, "real", 1, 0.84, predicted=[1, 1])
    keep_score(run.out, "distilled_full", 0, 0.8, predicted=[0, 1])
    arms = collect(run).arms
    assert arms["real"].predictions.tolist() == [[0, 1], [1, 1]] and arms["distilled_full"].predictions is None


def test_truth_is_that_of_the_test_list(run):
    results = collect(run)
    assert results.test.speakers == ["s0"] * 36 and results.test.truth == [0] * 12 + [1] * 12 + [2] * 12


def test_written_and_read(run):
    results = collect(run)
    results.write(run.results)
    assert Results.read(run.results) == results
    values = json.loads(run.results.read_text())
    for key in ("resample", "test"):
        del values[key]  # a file of the version before
    run.results.write_text(json.dumps(values))
    assert Results.read(run.results).test is None


def test_results_of_former_names_read_the_same(run):
    """Of development versions, which called frame deviations a movement."""
    tiny_generator(NetworkConfig(frames=8, noise=6, channels=8, movement="any")).save(run.generator)
    results = collect(run)
    results.write(run.results)
    values = json.loads(run.results.read_text())
    values["movement"] = values.pop("deviations")
    run.results.write_text(json.dumps(values))
    assert Results.read(run.results) == results and results.deviations == "any"


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda values: [], "expected results of a run, found list"),
        (lambda values: {**values, "folds": 3}, "unknown key 'folds'"),
        (lambda values: {**values, "arms": {"reel": values["arms"]["real"]}}, "arm 'reel': expected real"),
        (lambda values: {**values, "classes": 0}, "classes: expected greater"),
    ],
)
def test_foreign_results(run, change, told):
    collect(run).write(run.results)
    run.results.write_text(json.dumps(change(json.loads(run.results.read_text()))))
    with pytest.raises(UserError, match=told):
        Results.read(run.results)


def test_nothing_is_reported_before_a_head_is_trained(run):
    for path in run.out.glob("exp/*/run.json"):
        path.unlink()
    with pytest.raises(UserError, match="no head is trained yet.*`s3prl-dd run --out"):
        collect(run)

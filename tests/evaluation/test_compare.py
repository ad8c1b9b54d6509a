"""Runs side by side: each row against all real data of the same folds and head, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest

from s3prl_dd.errors import UserError
from s3prl_dd.evaluation.compare import compare, save, table
from s3prl_dd.recipe import results as recorded
from s3prl_dd.recipe.results import ArmResult, Results, Sizes

OLD = Path(__file__).parent / "assets/results_2991ac6.json"
TRUTH, SPEAKERS = [0, 1] * 8, ["a", "b", "c", "d"] * 4


def heads(*uars: float, predicted: list | None = None) -> ArmResult:
    """An arm with a head of each of these UARs."""
    return ArmResult(uar=sum(uars) / len(uars), uar_per_seed=list(uars), dev_uar=0.5, accuracy=0.5, points=48,
                     train_seconds=7.0, lr_per_seed=[1e-3] * len(uars), command="python ...", predicted=predicted or [])


def write_run(folder: Path, arms: dict[str, ArmResult], fold: str = "fold1", **changes: object) -> Path:
    """A finished run's folder: results.json alone."""
    values = {"corpus": "tones", "synthetic": False, "upstream": "fbank", "fold": fold, "config": "gan_1d",
              "overrides": [], "classes": 2, "test_utterances": len(TRUTH), "bytes": Sizes(audio=1000),
              "test": recorded.TestList(TRUTH, SPEAKERS), **changes}
    Results(arms=arms, **values).write(folder / "results.json")
    return folder


def row_of(comparison, arm, head="superb"):
    """The one row of an arm and head."""
    row, = (row for row in comparison.rows if (row.arm.name, row.head) == (arm, head))
    return row


# a run of revision 2991ac6


def test_figures_of_an_old_run(tmp_path):
    """results.json of the version before, and what that version's compare printed of it, but for intervals: its own, of
    as many draws as speakers, were too narrow."""
    shutil.copyfile(OLD, tmp_path / "results.json")
    lines = table(compare([tmp_path])).splitlines()
    figures = {line[:32].strip(): line.split()[-9:] for line in lines[5:]}
    assert lines[0] == "ravdess, moonshine: UAR % on real test speech of held-out speakers"
    assert lines[4].split()[-5:] == ["81.2", "81.2", "3.4", "3", "100.0%"]
    assert {name: cells[:5] + cells[8:] for name, cells in figures.items()} == {
        "GAN samples, full size": ["76.0", "3.5", "3", "93.6%", "-5.2", "0.052"],
        "GAN samples, original mix": ["78.1", "2.1", "3", "96.2%", "-3.1", "0.36"],
        "GAN samples, 12 a class": ["69.3", "4.3", "3", "85.3%", "-12.0", "0.00049"],
        "GAN samples, 6 a class": ["71.1", "1.6", "3", "87.5%", "-10.2", "0.0044"],
        "random real subset, 12 a class": ["68.8", "5.6", "3", "84.6%", "-12.5", "0.0036"],
        "random real subset, 6 a class": ["54.9", "6.0", "3", "67.6%", "-26.3", "7.1e-07"]}
    low, _, high = figures["GAN samples, 12 a class"][5:8]
    assert float(low) < -12.0 < float(high)


# rows


def test_rows_stand_by_head_arm_and_variant(tmp_path):
    arms = dict.fromkeys(["real", "distilled_full", "distilled_6ppc", "distilled_12ppc", "distilled_original",
                          "random_real_6ppc", "random_real_12ppc"], heads(0.5))
    few = {name: arms[name] for name in ("distilled_full", "real")}
    folders = [write_run(tmp_path / "attentive", few, head="attentive"), write_run(tmp_path / "one", arms),
               write_run(tmp_path / "other", few, config="conf/ablation.yaml", labels="hard", center=False)]
    rows = compare(folders).rows
    ours = "gan_1d soft labels at class means"
    fixed = f"{ours} one fixed set"
    assert [(row.arm.name, row.variant) for row in rows if row.head == "superb"] == [
        ("real", ""), ("distilled_full", "ablation hard labels uncentred one fixed set"),
        ("distilled_full", fixed), ("distilled_original", fixed),
        ("distilled_12ppc", ours), ("random_real_12ppc", ""), ("distilled_6ppc", ours),
        ("random_real_6ppc", "")]
    assert [row.head for row in rows] == ["superb"] * 8 + ["attentive"] * 2
    assert "gan_1d soft labels at class means one fixed set attentive head" in table(compare(folders))


def test_samples_of_the_closed_form_are_no_gan_samples(tmp_path):
    arms = {"real": heads(0.5), "distilled_full": heads(0.4), "random_real_6ppc": heads(0.3)}
    comparison = compare([write_run(tmp_path / "gaussian", arms, config="configs/gaussian.yaml")])
    assert [row.trained_on for row in comparison.rows] == ["all real data", "Gaussian samples, full size",
                                                           "random real subset, 6 a class"]


@pytest.mark.parametrize("changes, gaussian", [
    ({"config": "gaussian_frames"}, True), ({"config": "gan_1d", "architecture": "gaussian_frames"}, True),
    ({"config": "my/gaussian.yaml", "architecture": "gan_1d"}, False)])
def test_what_is_no_gan_is_told_by_the_file_and_in_old_results_by_the_name(changes, gaussian, tmp_path):
    run = write_run(tmp_path / "run", {"real": heads(0.8), "distilled_full": heads(0.7)}, **changes)
    title = "Gaussian samples, full size" if gaussian else "GAN samples, full size"
    assert row_of(compare([run]), "distilled_full").trained_on == title


def test_other_frame_deviations_are_another_row_for_heads_that_hear_them(tmp_path):
    arms = {"real": heads(0.8), "distilled_full": heads(0.7)}
    for head, rows in (("superb", 2), ("attentive", 3)):
        own, other = (write_run(tmp_path / f"{head}-{fold}", arms, fold, head=head, deviations=deviations)
                      for fold, deviations in (("fold1", "own"), ("fold2", "any")))
        found = compare([own, other]).rows
        assert len(found) == rows
    as_usual = "gan_1d soft labels at class means one fixed set"
    assert {row.variant for row in found} == {"", as_usual, f"{as_usual} frame deviations of any class"}


def test_a_small_set_of_fixed_frames_is_another_row_for_heads_that_hear_them(tmp_path):
    """With resample: auto its frames deviate in turn."""
    arms = {"real": heads(0.8), "distilled_6ppc": heads(0.7)}
    for head, rows in (("superb", 2), ("attentive", 3)):
        folders = [write_run(tmp_path / f"{head}-{fold}", arms, fold, head=head, resample=resample)
                   for fold, resample in (("fold1", "auto"), ("fold2", False))]
        found = compare(folders).rows
        assert len(found) == rows
    assert {row.variant for row in found} == {"", "gan_1d soft labels at class means",
                                              "gan_1d soft labels at class means one fixed set"}


def test_mean_over_folds_and_spread_over_seeds(tmp_path):
    """Seeds of a fold lie 0.2 apart in both folds, the folds' means far more."""
    folders = [write_run(tmp_path / "1", {"real": heads(0.7, 0.9)}, "fold1"),
               write_run(tmp_path / "2", {"real": heads(0.1, 0.3)}, "fold2")]
    row, = compare(folders).rows
    assert row.mean == pytest.approx(0.5) and row.uar == {"fold1": [0.7, 0.9], "fold2": [0.1, 0.3]}
    assert row.spread == pytest.approx(0.2 / 2**0.5)
    single, = compare([write_run(tmp_path / "3", {"real": heads(0.7)})]).rows
    assert single.spread is None


def test_of_real_is_on_the_same_folds_and_head(tmp_path):
    folders = [write_run(tmp_path / "1", {"real": heads(1.0)}, "fold1"),
               write_run(tmp_path / "2", {"real": heads(0.5), "distilled_full": heads(0.25)}, "fold2"),
               write_run(tmp_path / "3", {"real": heads(0.2), "distilled_full": heads(0.25)}, "fold2", head="cnn"),
               write_run(tmp_path / "4", {"distilled_full": heads(0.25)}, "fold1", head="attentive")]
    comparison = compare(folders)
    assert row_of(comparison, "distilled_full").of_real == pytest.approx(0.5)
    assert row_of(comparison, "distilled_full", head="cnn").of_real == pytest.approx(1.25)
    assert row_of(comparison, "distilled_full", head="attentive").of_real is None
    assert row_of(comparison, "real").of_real == pytest.approx(1)


# chance or difference

RIGHT, WRONG = TRUTH, [1 - label for label in TRUTH]


def test_each_row_is_tested_against_all_real_data(tmp_path):
    """Real heads are right, those on samples wrong, those on random subsets right: against real, not each other."""
    arms = {"real": heads(1.0, 1.0, predicted=[RIGHT, RIGHT]),
            "distilled_full": heads(0.0, 0.0, predicted=[WRONG, WRONG]),
            "random_real_6ppc": heads(1.0, 1.0, predicted=[RIGHT, RIGHT])}
    comparison = compare([write_run(tmp_path, arms)])
    real, full, random = comparison.rows
    assert real.minus_real is None and real.mcnemar is None
    assert full.minus_real == (-1, -1, -1) and full.mcnemar == pytest.approx(2 / 2**16)
    assert random.minus_real == (0, 0, 0) and random.mcnemar == 1
    lines = table(comparison).splitlines()
    assert lines[5].split()[-6:] == ["0.0%", "-100.0", "-100.0", "..", "-100.0", "3.1e-05"]
    assert lines[4].split()[-1] == "100.0%"


def test_each_fold_is_tested_against_its_own_real_heads(tmp_path):
    """In each fold the row says what all real data says; in one all is wrong, in the other all is right."""
    folders = []
    for fold, said, uar in (("fold1", RIGHT, 1.0), ("fold2", WRONG, 0.0)):
        arms = {name: heads(uar, predicted=[said]) for name in ("real", "distilled_full")}
        folders.append(write_run(tmp_path / fold, arms, fold))
    row = row_of(compare(folders), "distilled_full")
    assert row.minus_real == (0, 0, 0) and row.mcnemar == 1


def test_a_rival_is_tested_against_the_samples_of_its_size(tmp_path):
    """Of 6 a class the generator's samples are right and the Gaussian's wrong; those of 12 have no rival."""
    arms = {"real": heads(1.0, predicted=[RIGHT]), "distilled_6ppc": heads(1.0, predicted=[RIGHT]),
            "gaussian_6ppc": heads(0.0, predicted=[WRONG]), "distilled_12ppc": heads(0.0, predicted=[WRONG])}
    folder = write_run(tmp_path / "run", arms)
    comparison = compare([folder])
    assert row_of(comparison, "gaussian_6ppc").below_samples == (1, 1, 1)
    assert {row.below_samples for row in comparison.rows if row.arm.name != "gaussian_6ppc"} == {None}
    others = write_run(tmp_path / "others", arms | {"distilled_6ppc": heads(0.0, predicted=[WRONG])}, config="other")
    assert row_of(compare([folder, others]), "gaussian_6ppc").below_samples is None  # against which of the two?


def test_untested_where_predictions_were_not_kept(tmp_path):
    arms = {"real": heads(1.0, 1.0, predicted=[RIGHT, RIGHT]),
            "distilled_full": heads(0.0, 0.0, predicted=[WRONG, None])}
    folder = write_run(tmp_path / "partly", arms)
    assert row_of(compare([folder]), "distilled_full").minus_real is None
    assert "McNemar" not in table(compare([folder]))
    arms["distilled_full"] = heads(0.0, predicted=[WRONG])
    other = write_run(tmp_path / "other", {"distilled_full": arms["distilled_full"]}, "fold2")
    row = row_of(compare([write_run(tmp_path / "whole", arms), other]), "distilled_full")
    assert row.minus_real is None and row.of_real == 0  # of a fold without all real data nothing can be said
    unknown = write_run(tmp_path / "no list", arms, test=None)
    assert row_of(compare([unknown]), "distilled_full").minus_real is None


# what is written


def test_comparison_files(tmp_path):
    arms = {"real": heads(0.8, 1.0, predicted=[RIGHT, RIGHT]), "distilled_6ppc": heads(0.3, predicted=[WRONG])}
    comparison = compare([write_run(tmp_path / "run", arms)])
    save(comparison, tmp_path / "out")
    written = json.loads((tmp_path / "out/comparison.json").read_text())
    assert list(written) == ["corpus", "upstream", "folds", "rows"] and written["folds"] == ["fold1"]
    assert written["rows"][1] == {
        "trained_on": "GAN samples, 6 a class", "arm": "distilled_6ppc", "head": "superb",
        "variant": "gan_1d soft labels at class means", "uar": {"fold1": [0.3]}, "mean": 0.3, "spread": None,
        "of_real": pytest.approx(1 / 3), "of_real_interval": [0, 0, 0], "minus_real": [-1, -1, -1],
        "mcnemar": pytest.approx(2 / 2**16), "below_samples": None}
    assert (tmp_path / "out/comparison.txt").read_text() == table(comparison) + "\n"
    assert (tmp_path / "out/comparison.png").read_bytes()[:4] == b"\x89PNG"


# what is refused


def test_heads_of_other_features_or_of_another_recipe_have_no_mean(tmp_path):
    arms = {"real": heads(0.5)}
    one = write_run(tmp_path / "1", arms, features="all layers", recipe="600 steps")
    older = write_run(tmp_path / "2", arms, fold="fold2")
    other = write_run(tmp_path / "3", arms, fold="fold3", features="layer 3", recipe="600 steps")
    longer = write_run(tmp_path / "4", arms, fold="fold4", features="all layers", recipe="900 steps")
    cnn = write_run(tmp_path / "5", arms, head="cnn", features="all layers", recipe="900 steps")
    compare([one, older, cnn])
    with pytest.raises(UserError, match="runs of different features: all layers; and layer 3"):
        compare([one, older, other])
    with pytest.raises(UserError, match="different superb heads trained for: 600 steps; and 900 steps"):
        compare([one, longer])


def test_refused(tmp_path):
    arms = {"real": heads(0.8), "distilled_full": heads(0.7)}
    first = write_run(tmp_path / "first", arms)
    with pytest.raises(UserError, match="results.json: not there"):
        compare([tmp_path])
    for key, value in (("corpus", "songs"), ("upstream", "mfcc")):
        with pytest.raises(UserError, match=f"runs of tones, fbank and of .*{value}"):
            compare([first, write_run(tmp_path / key, arms, **{key: value})])
    with pytest.raises(UserError, match="the row 'all real data' of fold1 differs"):
        compare([first, write_run(tmp_path / "changed", {"real": heads(0.81)})])
    with pytest.raises(UserError, match="the row 'GAN samples, full size' of fold1 differs"):
        compare([first, write_run(tmp_path / "twice", {"distilled_full": heads(0.71)})])
    with pytest.raises(UserError, match="its test utterances of fold1 are others"):
        compare([first, write_run(tmp_path / "dealt anew", arms, test=recorded.TestList(TRUTH, SPEAKERS[::-1]))])
    with pytest.raises(UserError, match="head 'tail', expected superb or"):
        compare([write_run(tmp_path / "tail", arms, head="tail")])
    compare([first, write_run(tmp_path / "fold2", {"real": heads(0.81)}, "fold2")])
    compare([first, write_run(tmp_path / "variant", {**arms, "distilled_full": heads(0.71)}, labels="hard")])


@pytest.mark.parametrize("folds, told", [(["fold1"], False), (["fold1", "fold2"], True)])
def test_of_two_speakers_no_interval_is_told(folds, told, tmp_path):
    """Of those of all folds together; McNemar's test goes by utterances."""
    arms = {"real": heads(1.0, predicted=[TRUTH]), "distilled_full": heads(0.5, predicted=[[0] * 16])}
    test = recorded.TestList(TRUTH, ["a"] * 8 + ["b"] * 8)
    row = row_of(compare([write_run(tmp_path / fold, arms, fold, test=test) for fold in folds]), "distilled_full")
    assert row.of_real == 0.5 and row.mcnemar is not None
    assert (row.minus_real is not None) == (row.of_real_interval is not None) == told

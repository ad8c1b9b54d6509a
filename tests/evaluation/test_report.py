"""One run's table and plot."""

from dataclasses import replace
from pathlib import Path

import pytest

from s3prl_dd.evaluation.report import plot, table
from s3prl_dd.recipe.results import Results, Sizes

OLD = Path(__file__).parent / "assets/results_2991ac6.json"


@pytest.fixture(scope="module")
def results():
    return Results.read(OLD)


def test_table_of_an_old_run(results):
    """The figures that revision 2991ac6 printed of it."""
    lines = table(results).splitlines()
    assert lines[1] == ("ravdess, moonshine, fold1: SER head by S3PRL's runner, UAR on 112 real test utterances of "
                        "held-out speakers, 3 seeds")
    assert lines[3].split() == ["trained", "on", "points", "UAR", "%", "+-", "of", "real", "acc", "%",
                                "seconds"]
    assert {line[:32].strip(): line.split()[-6:] for line in lines[5:12]} == {
        "all real data": ["448", "81.2", "3.4", "100.0%", "80.4", "31"],
        "GAN samples, full size": ["448", "76.0", "3.5", "93.6%", "73.8", "7"],
        "GAN samples, original mix": ["448", "78.1", "2.1", "96.2%", "76.5", "7"],
        "GAN samples, 12 a class": ["48", "69.3", "4.3", "85.3%", "67.3", "8"],
        "GAN samples, 6 a class": ["24", "71.1", "1.6", "87.5%", "68.2", "6"],
        "random real subset, 12 a class": ["48", "68.8", "5.6", "84.6%", "66.1", "24"],
        "random real subset, 6 a class": ["24", "54.9", "6.0", "67.6%", "52.4", "19"]}
    assert [line.split()[-2:] for line in lines[13:15]] == [["16.20", "MB"], ["79.29", "MB"]]
    assert lines[15].endswith("2.13 MB  (13.2 % of the audio)") and lines[16].split() == ["distillation", "104", "s"]
    assert lines[-2].endswith("GAN samples have soft labels; full size: one fixed set.")
    assert lines[-1] == "An accuracy of 80.4 % on 112 utterances is known to ± 7.3 points (95 %, Wilson)."


def test_small_sets_of_learnt_points_are_called_so(results):
    points = replace(results, center="auto", learnt_points=50)
    assert "Up to 50 a class they are the file's learnt points" in table(points)
    for other in (replace(points, center=True), replace(points, learnt_points=0), replace(points, head="cnn")):
        assert "learnt points" not in table(other)


def test_heads_that_hear_frames_have_sets_whose_frames_deviate_in_turn(results):
    points = replace(results, head="cnn", center="auto", learnt_points=50, resample="auto")
    assert "Budgets in numbers are one set each whose frames deviate in 8 ways in turn." in table(points)
    assert "Up to 50 a class they are" in table(replace(points, center="learnt"))
    for other in (replace(points, resample=False), replace(points, resample=2), replace(points, head="superb")):
        assert "deviate" not in table(other)


def test_what_the_heading_says(results):
    other = replace(results, head="cnn", synthetic=True, config="gaussian", labels="hard", distill_seconds=None,
                    bytes=Sizes(audio=10**6), arms={name: replace(results.arms[name], uar_per_seed=[0.5])
                                                    for name in ("real", "distilled_12ppc")})
    text = table(other)
    assert "cnn SER head by S3PRL's runner, UAR on 112 test utterances (synthetic speech) of" in text
    assert "speakers, 1 seed\n" in text
    assert "Gaussian samples, 12 a class" in text and "hard labels" in text
    assert not any(word in text for word in ("distillation", "generator file", "float32", "GAN samples, "))
    assert [line.split()[-4] for line in text.splitlines()[5:7]] == ["-", "-"]  # no spread of one seed


def test_rows_of_several_numbers_of_seeds(results):
    some = replace(results.arms["distilled_12ppc"], uar_per_seed=[0.6] * 5)
    assert "speakers, 3 to 5 seeds\n" in table(replace(results, arms={**results.arms, "distilled_12ppc": some}))
    one = replace(some, uar_per_seed=[0.6])
    assert "speakers, 1 to 3 seeds\n" in table(replace(results, arms={**results.arms, "distilled_12ppc": one}))
    teacher = one  # has no seeds
    assert "speakers, 3 seeds\n" in table(replace(results, arms={**results.arms, "teacher": teacher}))


def test_plot(results, tmp_path):
    plot(results, tmp_path / "deep/results.png")
    assert (tmp_path / "deep/results.png").read_bytes()[:4] == b"\x89PNG"

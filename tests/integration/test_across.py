"""`compare --across`: heads that S3PRL trained on one corpus, by S3PRL's evaluation on another."""

import csv

import pytest
from support.published import contents
from support.runs import write_tones

from s3prl_dd import cli
from s3prl_dd.evaluation.across import across
from s3prl_dd.plugin.evaluate import evaluate
from s3prl_dd.plugin.head import SerModel
from s3prl_dd.recipe.folder import Run

SMALL = ["network.channels=8", "network.critic_channels=8", "network.frames=4", "network.noise=4", "batch=8", "steps=4",
         "critic_steps=1", "eval_every=2"]


def run(folder, out, *flags):
    """`s3prl-dd run` on a corpus of tones by its table."""
    path = folder / f"audio/{folder.name}.csv"
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "emotion", "speaker"])
        for wav in sorted((folder / "audio").glob("*/*.wav")):
            rows.writerow([wav.relative_to(folder / "audio"), wav.stem[:3], wav.parent.name])
    words = ["run", "--corpus", "table", "--root", path, "--out", out, "--device", "cpu", "--upstream",
             "fbank_no_cmvn", "--head-steps", 40, "--pool-seeds", 2, "--pool-steps", 200, "--budgets", 2, *flags,
             "--overrides", *SMALL]
    assert cli.main(list(map(str, words))) == 0
    return Run.open(out)


@pytest.mark.slow
def test_uar_is_that_of_the_head_on_the_other_corpus(tmp_path):
    mine = run(write_tones(tmp_path / "tones"), tmp_path / "run")
    other = run(write_tones(tmp_path / "others", shuffled=True), tmp_path / "lists", "--stop-stage", 1)
    before = contents(mine.out)
    found = {row.trained_on.split(",")[0]: row for row in across([mine.out], [other.out], tmp_path / "across")}
    assert set(found) == {"all real data", "GAN samples", "random real subset"}
    assert contents(mine.out) == before
    for score in mine.scores():
        if score.arm == "real":
            model = SerModel.load(mine.out / "exp" / score.expdir)
            expected = evaluate(model, other.metadata, "fold1", progress=False).uar
            assert found["all real data"].uar == pytest.approx(expected)
            assert found["all real data"].at_home == pytest.approx(score.uar)
    assert (found["all real data"].source, found["all real data"].target) == ("tones", "others")

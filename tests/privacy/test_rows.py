"""Which checkpoint stands for which row and seed."""

from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter
from support.privacy import write_run, write_score
from support.runs import write_head

from s3prl_dd.arms import REAL, Arm
from s3prl_dd.errors import UserError
from s3prl_dd.privacy.rows import CheckpointPath, GanRuns, Head, Row, heads_of, path_text, rows_of, write_untrained
from s3prl_dd.recipe.folder import Run

FULL = Arm.parse("distilled_full")


def test_each_row_has_its_own_heads(tmp_path):
    """The baseline's heads are of its own run; real ones are the proposed run's; two heads serve three seeds."""
    proposed = write_run(tmp_path / "proposed", [("real", 0.8), ("distilled_full", 0.7), ("distilled_6ppc", 0.5)])
    baseline = write_run(tmp_path / "baseline", [("real", 0.1), ("distilled_full", 0.6)])
    write_score(proposed / "exp", "distilled_full", 1, 0.75)
    rows = rows_of(GanRuns(Run.open(proposed), Run.open(baseline)), FULL, 3, tmp_path)

    def expected(run, *heads):
        return [Head((run / "exp" / name / "dev-best.ckpt").resolve(), uar) for name, uar in heads]

    assert list(rows) == [Row.UPSTREAM, Row.UNTRAINED, Row.REAL, Row.BASELINE, Row.PROPOSED]
    assert rows[Row.UPSTREAM] == [Head(None, None)] * 3
    assert rows[Row.REAL] == expected(proposed, *[("real_seed0", 0.8)] * 3)
    assert rows[Row.BASELINE] == expected(baseline, *[("distilled_full_seed0", 0.6)] * 3)
    first, second = ("distilled_full_seed0", 0.7), ("distilled_full_seed1", 0.75)
    assert rows[Row.PROPOSED] == expected(proposed, first, second, first)
    assert [head.checkpoint.name for head in rows[Row.UNTRAINED]] == [f"untrained_seed{seed}.ckpt" for seed in range(3)]
    assert {head.uar for head in rows[Row.UNTRAINED]} == {None}


def test_heads_of_a_variant_with_more_seeds_lie_in_two_folders(tmp_path):
    base = write_run(tmp_path / "base", [("real", 0.8), ("distilled_full", 0.7)])
    variant = Run.start(tmp_path / "variant", Run.open(base).settings.changed(base=str(base), seeds=2))
    variant.keep()
    write_score(variant.out / "exp", "real", 1, 0.9)
    found = heads_of(variant, REAL)
    assert [head.checkpoint for head in found] == [
        (folder / "exp" / f"real_seed{seed}" / "dev-best.ckpt").resolve()
        for seed, folder in enumerate((base, variant.out))]


def test_no_baseline_no_row(tmp_path):
    runs = GanRuns(Run.open(write_run(tmp_path / "run")), None)
    assert Row.BASELINE not in rows_of(runs, FULL, 1, tmp_path)
    with pytest.raises(UserError, match="no head of arm 'distilled_6ppc'"):
        heads_of(runs.proposed, Arm.parse("distilled_6ppc"))
    assert [head.uar for head in heads_of(runs.proposed, REAL)] == [0.8]


def test_an_untrained_head_replaces_projector_and_layer_weights(tmp_path):
    path, head = write_head(tmp_path / "dev-best.ckpt", dim=64, weights=torch.tensor([0.3, -1.0, 0.7]))
    made = [torch.load(write_untrained(path, tmp_path / f"untrained{seed}.ckpt", seed), weights_only=False)
            for seed in range(2)]
    weight, other = (state["Downstream"]["projector.weight"] for state in made)
    assert weight.shape == (256, 64) and made[0]["Args"].upstream == "fbank"
    assert not torch.allclose(weight, head["projector.weight"]) and not torch.allclose(weight, other)
    assert weight.abs().max() <= 1 / 8 and not made[0]["Featurizer"]["weights"].any()  # nn.Linear's own range


def test_the_text_none_of_older_files_is_no_checkpoint():
    adapter = TypeAdapter(CheckpointPath)
    assert [adapter.validate_python(value) for value in ("None", None, "a/None")] == [None, None, "a/None"]
    assert [path_text(path) for path in (None, Path("a"))] == [None, "a"]

"""The benchmark of heads: every way to train takes steps in turn; what cannot run is told."""

import os

import pytest
from support.runs import override

from s3prl_dd.errors import UserError
from s3prl_dd.plugin import bench
from s3prl_dd.plugin.bench import BARE, CACHED, DISTILLED, STOCK, HeadTime, bench_heads, heads_table
from s3prl_dd.plugin.stepping import Stepper


@pytest.mark.slow
def test_all_take_steps(monkeypatch):
    """On the smallest corpus, with S3PRL itself as the baseline."""
    monkeypatch.setattr(bench, "AT_ONCE", 1)
    rows = bench_heads(rounds=1, seconds=0.5)
    assert [row.name for row in rows] == [STOCK, CACHED, DISTILLED, BARE]
    assert rows[0].ratio == 1 and rows[3].of_bare == 1 and all(row.seconds > 0 and row.spread == 0 for row in rows)
    text = heads_table(rows)
    assert all(row.name in text for row in rows) and "of the bare head" in text


def test_ratios_are_of_the_same_round():
    """A round in which the whole machine is slow does not count."""
    times = {STOCK: iter([9.0, 2.0, 20.0, 4.0]), CACHED: iter([9.0, 1.0, 10.0, 2.0]), BARE: iter([9.0, 0.5, 5.0, 1.0])}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "AT_ONCE", 1)
        rows = bench._compare({name: lambda steps, name=name: next(times[name]) * steps for name in times}, rounds=3)
    assert rows[1] == HeadTime(CACHED, 2.0, 4.5, 2.0, 2.0)


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"seconds": 0.1}])
def test_sizes(wrong):
    with pytest.raises(UserError, match="expected 1 or more"):
        bench_heads(**wrong)


def test_a_run_that_fails_is_told(tmp_path):
    words = ["-m", "train", "-d", "emotion", "-u", "fbank", "-p", str(tmp_path), "--device", "cpu", "-o", override({})]
    told = "code 2: .*run_downstream.py -d emotion -u fbank"
    with Stepper("ours", words, dict(os.environ)) as stepper, pytest.raises(UserError, match=told):
        stepper.wait()

"""The benchmark of heads: every way to train takes steps in turn; what cannot run is told."""

import importlib
import os
import sys

import pytest
from support.runs import override

from s3prl_dd.errors import UserError
from s3prl_dd.plugin import bench
from s3prl_dd.plugin.bench import BARE, CACHED, DISTILLED, STOCK, HeadTime, bench_heads, heads_table
from s3prl_dd.plugin.datarc import DATARC
from s3prl_dd.plugin.stepping import Answering, Stepper


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


def test_the_extractions_baseline_is_s3prls_own_call(monkeypatch):
    """Not our encoder, whose products go by the faster library."""
    from s3prl_dd.benchmarks import verb
    from s3prl_dd.features import bench as features
    from s3prl_dd.plugin.encoder import Encoder

    seen = []
    monkeypatch.setattr(features, "bench_extract", lambda encoder, stock, *rest, **more: seen.append(stock) or [])
    verb.extract(verb.Bench("extract", files=1, rounds=1, device="cpu"))
    assert [stock.__func__ for stock in seen] == [Encoder.as_s3prl]


def test_a_run_answers_after_as_many_steps_as_it_was_told(monkeypatch):
    """The first at once; then it is asked for two, and for two again."""
    from s3prl_dd.plugin import launcher, stepping

    hooks, steps, answered = [], [], []
    optimizers = importlib.import_module("torch.optim.optimizer")
    monkeypatch.setattr(optimizers, "register_optimizer_step_post_hook", hooks.append)
    monkeypatch.setattr(stepping, "open_answers", lambda: None)
    monkeypatch.setattr(stepping, "answer", lambda answers: answered.append(len(steps)) or 2)
    monkeypatch.setattr(launcher, "main", lambda arguments: None)
    stepping.main("ours", [])
    for number in range(6):
        steps.append(number)
        hooks[0]()
    assert answered == [1, 3, 5]


def test_a_process_works_as_often_as_it_is_asked(tmp_path):
    code = ("import sys; from s3prl_dd.plugin.stepping import answer, open_answers\n"
            "answers, times = open_answers(), 1\n"
            "while True:\n"
            "    open(sys.argv[1], 'a').write(times * 'x')\n"
            "    times = answer(answers)")
    work = tmp_path / "work"
    with Answering([sys.executable, "-c", code, str(work)], dict(os.environ)) as process:
        process.wait()
        assert process.step(3) > 0 and work.read_text() == 4 * "x"
        process.step()
        assert work.read_text() == 5 * "x"


def test_a_head_on_samples_steps_on_a_fixed_set(tmp_path):
    """Drawing is a part of its own (benchmarks/recipe.py), and not counted twice."""
    words = bench.commands(tmp_path, bench.TINY, [0.5])
    assert [f"{DATARC}.resample=False" in words[name][words[name].index("-o") + 1] for name in (CACHED, DISTILLED)] == [
        False, True]

"""The recipe's arithmetic: parts times their numbers, and what is less than S3PRL's own."""

import pytest

from s3prl_dd.benchmarks.recipe import RecipeTimes, _parts, _totals, bench_recipe, recipe_table
from s3prl_dd.plugin.bench import CACHED, DISTILLED, STOCK
from s3prl_dd.timing import Timed


def test_parts_add_up():
    steps = {STOCK: Timed(10.0, 0.1), CACHED: Timed(0.1, 0.1), DISTILLED: Timed(0.05, 0.1)}
    parts = _parts(steps, stock=Timed(0.5, 0.0), heard=Timed(0.4, 0.0), drawn=Timed(0.03, 0.0))
    stock, cached, distilled = _totals(parts)
    assert stock.seconds == 30_000 * 10 + 30 * 1975 * 0.5 and stock.less == 0
    assert cached.seconds == pytest.approx(5531 * 0.4 + (30_000 + 30 * 1975 // 32) * 0.1)
    assert distilled.seconds == pytest.approx(8 * 3556 * 0.03 + 1975 * 0.4 + 30_000 * 0.05 + 30 * 1975 // 32 * 0.1)
    assert distilled.less == pytest.approx(1 - distilled.seconds / stock.seconds) and cached.less < distilled.less
    assert "extrapolated" in recipe_table(RecipeTimes([stock, cached, distilled], parts, []))


def test_median_and_spread():
    assert Timed.of([1.0, 2.0, 4.0]) == Timed(2.0, 1.5)


@pytest.mark.slow
def test_all_is_measured(monkeypatch):
    monkeypatch.setattr("s3prl_dd.plugin.bench.AT_ONCE", 1)
    times = bench_recipe(rounds=1, base=False)
    assert len(times.totals) == 3 and times.totals[2].less > 0.5 and all(part.each > 0 for part in times.parts)

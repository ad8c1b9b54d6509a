"""Work done ahead: order, bounds, errors."""

import threading

import pytest

from s3prl_dd.corpora.ahead import ahead


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("limit", [0, 1, 5, 100])
def test_results_come_in_order(workers, limit):
    assert list(ahead(lambda item: item * 2, range(50), workers, limit)) == [item * 2 for item in range(50)]


def test_what_waits_is_bounded_by_its_cost():
    begun = []
    results = ahead(begun.append, [3, 3, 3, 90, 1, 1], 1, limit=6, cost=float)
    begun_by_result = []
    for _ in results:
        begun_by_result.append(len(begun))
    assert begun == [3, 3, 3, 90, 1, 1]
    assert begun_by_result[0] <= 2 and begun_by_result[2] <= 3  # the large one waits until all before it are read


def test_work_goes_on_before_it_is_asked_for():
    second = threading.Event()
    results = ahead(lambda item: second.set() if item else None, [0, 1, 2], 1, limit=2)
    next(results)
    assert second.wait(10)


def test_an_error_comes_in_its_place_and_ends_the_work():
    done = []

    def work(item):
        if item == 3:
            raise ValueError("three")
        done.append(item)
        return item

    results = ahead(work, range(1000), 1, limit=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert len(done) < 10 and list(results) == []

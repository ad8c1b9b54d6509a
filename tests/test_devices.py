"""Threads: one where that is enough, and as many as the user wants."""

import threading

import pytest
import torch

from s3prl_dd import devices
from s3prl_dd.devices import HelpfulThreads, one_thread, side_by_side


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_one_thread_unless_the_user_wants_more(two_threads, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with one_thread():
        assert torch.get_num_threads() == 2


def test_threads_side_by_side_have_one_thread_each(two_threads):
    found = []

    def work():
        torch.ones(100000).sum()
        found.append(torch.get_num_threads())

    with side_by_side() as threads:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert threads == 2
    assert found == [1] and torch.get_num_threads() == 2


class Clock:
    """A clock that a task winds on."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def take_turns(two_threads, monkeypatch):
    """Function of a HelpfulThreads, of what a turn takes with 1 and with 2 threads, and of how many turns; returns the
    threads of each."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    clock = Clock()
    monkeypatch.setattr(devices, "time", clock)

    def take(threads, seconds, turns):
        taken = []
        for _ in range(turns):
            with threads.turn():
                taken.append(torch.get_num_threads())
                clock.now += seconds[taken[-1]]
        return taken

    return take


def test_as_many_threads_as_help(take_turns):
    threads = HelpfulThreads(list)
    taken = take_turns(threads, {1: 2.0, 2: 1.3}, 100)
    assert torch.get_num_threads() == 2
    assert taken[:8] == [2, 1] * 4
    assert taken.count(1) == 4 + 1, "each number some times, then the faster, and a look now and then"
    busy = take_turns(threads, {1: 5.0, 2: 9.0}, 200)
    assert busy[:10].count(1) >= 5 and busy[10:].count(2) <= 4, "found within some turns; looks take 3 % of the time"
    idle = take_turns(threads, {1: 2.0, 2: 1.3}, 400)
    assert idle[-100:].count(2) > 95


def test_one_slow_turn_tells_nothing(take_turns):
    threads = HelpfulThreads(list)
    take_turns(threads, {1: 2.0, 2: 1.3}, 20)
    take_turns(threads, {1: 9.0, 2: 9.0}, 1)
    assert take_turns(threads, {1: 2.0, 2: 1.3}, 5).count(2) >= 4, "a look at most"


def test_what_rounds_by_threads_takes_one(two_threads, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def probe():
        return [torch.ones(2), torch.tensor(float(torch.get_num_threads()))]

    assert HelpfulThreads(probe).choices == [1]
    assert HelpfulThreads(lambda: probe()[:1]).choices == [2, 1]
    assert torch.get_num_threads() == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert HelpfulThreads(probe).choices == [2], "what the user sets wins"

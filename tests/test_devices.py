"""Threads: one where that is enough, and as many as the user wants."""

import threading

import pytest
import torch

from s3prl_dd.devices import one_thread, side_by_side


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

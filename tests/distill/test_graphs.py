"""Recordings of critic updates: when they are made, what they read, and what happens where none can be made."""

import pytest
import torch

from s3prl_dd.distill.fast.graphs import WARM_UPS, CriticBatch, Replayed, Updated


def batch(value: float, penalty: bool = True) -> CriticBatch:
    mix = torch.zeros(2) if penalty else None
    return CriticBatch(torch.full((2, 3, 4), float(value)), torch.full((2, 5), float(value)), mix)


def update(given: CriticBatch) -> Updated:
    return Updated({"critic_score": given.real.mean() + 10 * given.noise.mean()}, torch.tensor(1.0))


class Recorder:
    """Stands in for CUDA's: a replay computes the same from the same places."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, function, held):
        self.made += 1
        return lambda: function(held)


def test_a_replay_reads_each_new_batch():
    recorder = Recorder()
    replayed = Replayed(update, torch.device("cpu"), recorder)
    for number in range(1, WARM_UPS + 4):
        assert replayed(batch(number)).terms["critic_score"] == 11 * number
        assert recorder.made == int(number > WARM_UPS)


def test_with_the_penalty_and_without_are_two():
    recorder = Recorder()
    replayed = Replayed(update, torch.device("cpu"), recorder)
    for number in range(1, 2 * WARM_UPS + 5):
        assert replayed(batch(number, penalty=number % 2 == 0)).terms["critic_score"] == 11 * number
    assert recorder.made == 2
    replayed.forget()
    replayed(batch(1))
    assert recorder.made == 2 and not replayed.recorded


def test_what_cannot_be_recorded_is_told_and_goes_on():
    def refuse(function, held):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    replayed = Replayed(update, torch.device("cpu"), refuse)
    for number in range(WARM_UPS):
        replayed(batch(number))
    with pytest.warns(UserWarning, match="not recorded as CUDA graphs .operation not permitted when stream is cap"):
        assert replayed(batch(7)).terms["critic_score"] == 77
    assert replayed(batch(8)).terms["critic_score"] == 88

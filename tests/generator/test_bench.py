"""The benchmark of sampling: what its rows are, not how fast anything is."""

from dataclasses import replace

import pytest
import torch

from s3prl_dd.errors import UserError
from s3prl_dd.generator import NetworkConfig
from s3prl_dd.generator import bench as module
from s3prl_dd.generator.bench import bench_sample, made_up, operations, table


def test_two_rows_a_network(monkeypatch):
    monkeypatch.setattr(module, "MATRIX", 64)
    monkeypatch.setattr(module, "BATCH", 4)
    networks = {"small": NetworkConfig(frames=8, channels=8), "maps": NetworkConfig("gan_att", 8, 4, 4)}
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    rows = bench_sample(networks, dim=10, rounds=2)
    assert torch.equal(torch.rand(2), expected)
    assert [row.name for row in rows] == ["small, as trained", "small, folded", "maps, as trained", "maps, folded"]
    assert rows[0].ratio == rows[2].ratio == 1 and rows[0].apart == 0
    assert all(row.seconds > 0 and row.share > 0 and row.apart <= 1e-4 for row in rows)
    assert "maps, folded" in table(rows, 10, "cpu")


def test_a_sample_with_deviations_of_any_class_takes_two_passes(monkeypatch):
    monkeypatch.setattr(module, "MATRIX", 64)
    counted = []
    row = lambda *words: counted.append(words[4]) or words  # noqa: E731
    monkeypatch.setattr(module, "_row", row)
    config = NetworkConfig(frames=8, noise=5, channels=4)
    bench_sample({"own": config, "any": replace(config, movement="any")}, dim=10, rounds=1)
    assert counted[2:] == [2 * flop for flop in counted[:2]]


def test_operations_are_those_of_products():
    config = NetworkConfig(frames=8, noise=5, channels=4, kernel=3)
    start, body, last = (5 + 3) * 4 * 2, 2 * 4 * 3 * (4 + 8) + (4 * 8 + 8 * 4) * 4 * 3, 8 * 4 * 10
    assert operations(made_up(config, 10, 3), 5) == 2 * (start + body + last)


@pytest.mark.parametrize("arguments, message", [({"rounds": 0}, "rounds 0"), ({"device": "cuda:99"}, "no GPU")])
def test_what_cannot_be_measured(arguments, message):
    if "device" in arguments and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match=message):
        bench_sample({"small": NetworkConfig()}, dim=10, **arguments)

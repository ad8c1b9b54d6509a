"""The benchmark's arithmetic, on the smallest networks."""

import json

import pytest

from s3prl_dd import cli


def test_bench(capsys):
    assert cli.main(["bench", "gan_1d", "ablation_baseline", "--dim", "6", "--rounds", "2", "--device", "cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    first, second = found["gan_1d"], found["ablation_baseline"]
    assert first["ratio"] == 1 and second["ratio"] == pytest.approx(second["seconds_per_step"] / first["seconds_per_step"])
    assert first["hours"] == pytest.approx(first["seconds_per_step"] * first["steps"] / 3600) and first["seconds_per_step"] > 0
    assert cli.main(["bench", "gan_1d", "--dim", "6", "--rounds", "1", "--device", "cpu"]) == 0
    assert "gan_1d" in capsys.readouterr().out
    assert cli.main(["bench", "gaussian", "--dim", "6"]) == 2 and "nothing is trained" in capsys.readouterr().err

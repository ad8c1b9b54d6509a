"""All benchmarks in one file, and the documents' tables made of it."""

import json
from pathlib import Path

import pytest

from s3prl_dd.benchmarks.costs import BEGIN, DOCUMENTS, END, costs_of, costs_text, measure_all, with_costs
from s3prl_dd.benchmarks.units import CONTROL
from s3prl_dd.benchmarks.verb import ALL, KINDS, Bench
from s3prl_dd.errors import UserError
from s3prl_dd.files import read_json

ROOT = Path(__file__).parent.parent.parent
KEPT = ROOT / "docs/figures/costs.json"
MACHINE = {"processor": "an abacus", "cores": 2, "threads": 1, "load": 0.5, "gpu": None}


def record(rows):
    return {"machine": MACHINE, "versions": {"torch": "2"}, "seconds": 1.0, "rows": rows}


RECORDS = {
    "s3prl-dd bench scale": record([
        {"name": "pool", "utterances": 10, "seconds": 1.0, "peak": 1e9},
        {"name": "pool", "utterances": 100_000, "seconds": 2.0, "peak": 1.5e9},
        {"name": "distil", "utterances": 10, "seconds": 1.0, "peak": 1e9},
        {"name": "distil", "utterances": 100_000, "seconds": 2.0, "peak": 2.5e9}]),
    "s3prl-dd bench step gan_1d --dim 288": record([
        {"name": "gan_1d, plain loop", "seconds": 0.4},
        {"name": "gan_1d", "seconds": 0.2, "spread": 0.1, "ratio": 2.0, "apart": 1e-5}]),
    "s3prl-dd bench recipe --rounds 2": record({
        "totals": [{"run": "stock", "seconds": 360_000.0, "less": 0.0},
                   {"run": "ours", "seconds": 3600.0, "less": 0.99}],
        "parts": [{"spread": 0.1}, {"spread": 0.3}],
        "heads": [{"name": "stock", "seconds": 9.0},
                  {"name": "distilled", "seconds": 0.02, "spread": 0.1, "ratio": 450.0, "of_bare": 1.2},
                  {"name": "bare", "seconds": 0.016}]}),
}


def test_rows_come_kind_by_kind():
    costs = costs_of(RECORDS)
    assert [cost.command.split()[2].strip("`") for cost in costs] == ["recipe"] * 3 + ["step"] + ["scale"] * 3
    assert costs[0].result == "99.0% less: 1.00 h" and costs[0].spread == 0.3 and costs[0].main
    assert "D = 288" in costs[3].what and not costs[3].main
    assert costs[4].baseline == "distil" and costs[4].result == "2.5 GB at most"


def test_the_control_is_no_stage_that_suffers():
    rows = [{"name": name, "idle": 1.0, "busy": ratio, "spread": 0.1, "ratio": ratio, "of_spinning": 1.0}
            for name, ratio in (("pool", 3.0), ("distil", 3.5), (CONTROL, 4.0))]
    worst, *each = costs_of({"s3prl-dd bench busy": record(rows)})
    assert worst.baseline == "distil alone" and len(each) == 3
    assert worst.result == "3.5 times the seconds; a thread of plain arithmetic: 4.0 times"


def test_the_table_names_command_spread_machine_and_versions():
    text = costs_text(RECORDS, main=False)
    lines = text.splitlines()
    assert "| 30% | `s3prl-dd bench recipe --rounds 2` |" in lines[2]
    assert lines[-1] == "Measured on an abacus, 2 cores, 1 threads; torch 2; load when they began 0.5 to 0.5."
    assert len(costs_text(RECORDS, main=True).splitlines()) == len(lines) - 5


def test_what_is_there_is_not_measured_again(tmp_path):
    path, done = tmp_path / "costs.json", []

    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_all(path, {"bench one": lambda: done.append(1) or [1], "bench two": fail})
    kept = measure_all(path, {"bench one": fail, "bench two": lambda: [2]})
    assert done == [1] and [record["rows"] for record in kept.values()] == [[1], [2]]
    assert json.loads(path.read_text()) == kept and kept["bench two"]["machine"]["cores"] >= 1
    path.write_text("[]")
    with pytest.raises(UserError, match="expected a JSON object"):
        measure_all(path, {})


def test_commands_are_those_of_the_settings():
    assert Bench("step", ("gan_1d",), dim=288, rounds=8).command() == "s3prl-dd bench step gan_1d --dim 288 --rounds 8"
    assert {each.kind for each in ALL} == set(KINDS) - {"heads", "all"}  # the recipe measures heads


def test_a_document_without_a_place_is_told():
    assert with_costs(f"a\n{BEGIN}\nold\n{END}\nb", "new") == f"a\n{BEGIN}\nnew\n{END}\nb"
    with pytest.raises(UserError, match="no place for the table"):
        with_costs("a", "new")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_show_what_was_measured(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    if not KEPT.is_file():
        assert with_costs(text, "new") != text  # there is a place
        pytest.skip("s3prl-dd bench all --to docs/figures/costs.json has not been run")
    assert with_costs(text, costs_text(read_json(KEPT), DOCUMENTS[name])) == text, (
        "run: python -m s3prl_dd.benchmarks.costs docs/figures/costs.json")

"""The notebooks of examples/ run from their first cell to their last."""

import json
from pathlib import Path

import matplotlib
import pytest
import torch
from support.made_up_run import made_up_run

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def run_notebook(path):
    """Execute the code cells in order, in one namespace, which is returned."""
    namespace = {"__name__": "__main__"}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{path.name}, cell {cell['id']}", "exec"), namespace)
    return namespace


@pytest.fixture
def headless():
    """Figures are drawn and shown nowhere."""
    backend = matplotlib.get_backend()
    matplotlib.use("Agg", force=True)
    yield
    matplotlib.pyplot.close("all")
    matplotlib.use(backend, force=True)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.name)
def test_nothing_is_stored_beside_the_code(path):
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells)


def test_generator_file(tmp_path, monkeypatch, headless):
    run = made_up_run(tmp_path / "run")
    monkeypatch.setenv("S3PRL_DD_RUN", str(run))
    with torch.random.fork_rng():
        done = run_notebook(EXAMPLES / "generator_file.ipynb")
    real, generated = done["panels"]["real"], done["panels"]["generated"]
    assert len(real[0]) == sum(done["header"].class_counts)
    assert len(generated[0]) == len(done["names"]) * (len(real[0]) // len(done["names"]))
    assert [axis.get_title().split(",")[0] for axis in done["axes"]] == ["real", "generated"]
    assert done["uar_real"] > 0.8 and done["uar_generated"] > 0.8  # easy classes, and samples lie about their means

"""CONTRIBUTING.md's sections on how to add something: their blocks are put into a copy of the repository and tried."""

import re
from pathlib import Path

import pytest
from faults.run import copy_tree, run_tests

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
HOW_TO = TEXT.partition("## How to add\n")[2]
SECTIONS = dict(re.findall(r"^### (.*?)\n(.*?)(?=^### |\Z)", HOW_TO, re.MULTILINE | re.DOTALL))


def put_in(section, tree):
    """Write the section's files and make its changes in `tree`; returns the tests among them."""
    tests = []
    for kind, text in re.findall(r"^```(python|yaml|diff)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL):
        first, _, rest = text.partition("\n")
        path = tree / re.fullmatch(r"(?:#|---) (\S+)", first)[1]
        if kind == "diff":
            change(path, rest.splitlines())
        else:
            assert not path.exists(), f"{path} is there already"
            path.write_text(rest)
            tests += [str(path.relative_to(tree))] * path.name.startswith("test_")
    return tests


def change(path, lines):
    """Replace the lines marked ' ' and '-' by those marked ' ' and '+'."""
    before, after = ("".join(f"{line[1:]}\n" for line in lines if (line or " ")[0] in marks) for marks in (" -", " +"))
    text = path.read_text()
    assert text.count(before) == 1, f"{path.name} has this in {text.count(before)} places:\n{before}"
    path.write_text(text.replace(before, after))


@pytest.mark.parametrize("title", SECTIONS)
def test_it_works_as_written(title, tmp_path):
    tree = copy_tree(ROOT, tmp_path / "copy")
    tests = put_in(SECTIONS[title], tree)
    run = run_tests(tree, [*tests, "tests/test_layers.py"])
    assert tests and run.code == 0, run.output

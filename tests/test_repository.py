"""What a public repository has, and the runner of faults."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from faults.run import (
    CATALOGUE,
    WRONG_PACKAGE,
    Fault,
    Verdict,
    copy_tree,
    main,
    pass_without,
    read_faults,
    run_tests,
    try_fault,
)

import s3prl_dd

ROOT = Path(__file__).parent.parent
FAULTS = read_faults()


# the catalogue


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_is_fresh(fault):
    assert not fault.stale(ROOT), fault.stale(ROOT)


# the runner, on a package of two lines


PACKAGE = "def double(x):\n    return 2 * x\n"
TESTS = """
from s3prl_dd.thing import double

def test_four():
    assert double(2) == 4

def test_type():
    assert isinstance(double(2), int)
"""


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "repository"
    texts = {"s3prl_dd/__init__.py": "", "s3prl_dd/thing.py": PACKAGE, "tests/test_thing.py": TESTS, "README.md": "x",
             ".git/HEAD": "x", "result/big": "x", "s3prl_dd/__pycache__/thing.pyc": "x"}
    for path, text in texts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def fault(test="test_four", old="2 * x", new="3 * x", name="tripled"):
    return Fault(name, "here > there", "s3prl_dd/thing.py", old, new, f"tests/test_thing.py::{test}")


@pytest.mark.parametrize("record, verdict", [
    (fault(), Verdict.CAUGHT),
    (fault("test_type"), Verdict.SURVIVED),
    (fault(old="4 * x"), Verdict.STALE),
    (fault(old="x"), Verdict.STALE),
    (fault("test_five"), Verdict.STALE),
    (fault(new="2 *"), Verdict.BROKEN),
])
def test_verdicts(repository, record, verdict):
    outcome = try_fault(record, repository)
    assert outcome.verdict is verdict, outcome.said
    assert (repository / "s3prl_dd/thing.py").read_text() == PACKAGE


def test_a_copy_has_what_tests_need_and_no_more(repository, tmp_path):
    copy = copy_tree(repository, tmp_path / "copy")
    copied = {str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()}
    assert copied == {"s3prl_dd/__init__.py", "s3prl_dd/thing.py", "tests/test_thing.py", "README.md"}


def test_the_copy_is_what_is_imported(tmp_path):
    """Without a package of its own a tree finds the installed one, which says nothing of a fault."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_thing.py").write_text("def test_four():\n    pass\n")
    assert run_tests(tmp_path, ["tests/test_thing.py"]).code == WRONG_PACKAGE


def test_a_test_without_an_end_is_ended(repository, monkeypatch):
    monkeypatch.setattr("faults.run.LIMIT", 1.0)
    outcome = try_fault(fault(old="    return", new="    while True: pass\n    return"), repository)
    assert outcome.verdict is Verdict.BROKEN


def test_tests_that_fail_anyway_are_told(repository):
    assert pass_without([fault(), fault("test_type")], repository).code == 0
    (repository / "s3prl_dd/thing.py").write_text("def double(x):\n    return 2 * x + 1\n")
    assert pass_without([fault(), fault("test_type")], repository).code == 1


RECORD = """
[[fault]]
name = "{name}"
meets = "here > there"
file = "s3prl_dd/thing.py"
old = '''2 * x'''
new = '''3 * x'''
test = "tests/test_thing.py::{test}"
"""


def test_the_command(repository, tmp_path, capsys):
    (tmp_path / "thing.toml").write_text(RECORD.format(name="tripled", test="test_four"))
    assert main([], repository, tmp_path) == 0
    assert "1 of 1 faults caught" in capsys.readouterr().out
    (tmp_path / "other.toml").write_text(RECORD.format(name="unseen", test="test_type"))
    assert main(["unseen"], repository, tmp_path) == 1
    said = capsys.readouterr().out
    assert "0 of 1 faults caught" in said and "SURVIVED unseen" in said
    assert main(["--list"], repository, tmp_path) == 0
    assert main(["no such fault"], repository, tmp_path) == 1


@pytest.mark.parametrize("text, message", [
    ("[[fault]]\nname = 'x'\n", "expected the keys"),
    (RECORD.format(name="x", test="test_four") + RECORD.format(name="x", test="test_four"), "two faults are named 'x'"),
    (RECORD.format(name="x", test="a b"), "no node of pytest"),
    (RECORD.format(name="x", test="test_four").replace("3 * x", "2 * x"), "are the same"),
])
def test_records_that_are_not_whole(tmp_path, text, message):
    (tmp_path / "made.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_faults(tmp_path)


# the repository


def test_citation():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == s3prl_dd.__version__
    assert citation["license"] == "Apache-2.0" and "Apache License" in (ROOT / "LICENSE").read_text()
    paper = citation["preferred-citation"]
    assert "2406.02963" in paper["url"] and len(paper["authors"]) == 7


def test_changelog_knows_the_version():
    versions = re.findall(r"^## (\d+\.\d+\.\d+) - ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert s3prl_dd.__version__ in versions and versions == sorted(versions, reverse=True)


def test_run_sh_tells_its_subcommands():
    said = subprocess.run(["bash", ROOT / "run.sh", "--help"], text=True, capture_output=True, check=True).stdout
    assert all(f"bash run.sh {word}" in said for word in ("setup", "test", "test --fast", "check", "faults"))
    assert "set -euo" not in said


def test_every_module_is_packed():
    """setup.py packs folders with an __init__.py; a module elsewhere would be missing once installed."""
    folders = {path.parent for path in (ROOT / "s3prl_dd").rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)


def test_tools_are_configured():
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert tools["ruff"]["line-length"] == 120 and tools["mypy"]["disallow_untyped_defs"]


def test_the_catalogue_is_beside_its_runner():
    assert CATALOGUE.is_dir() and FAULTS


MAP = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## The map")[2].partition("## How to add")[0]
PARTS = {path.stem for path in (ROOT / "s3prl_dd").iterdir()}
FILES = sorted(set(re.findall(r"`([\w/]+\.py)`", MAP)))
NAMES = sorted(name for name in set(re.findall(r"`(\w+(?:\.\w+)+)`", MAP)) if name.split(".")[0] in PARTS)


@pytest.mark.parametrize("path", FILES)
def test_files_of_the_map_are_there(path):
    assert (ROOT / "s3prl_dd" / path).is_file() or (ROOT / path).is_file()


@pytest.mark.parametrize("name", NAMES)
def test_names_of_the_map_are_there(name):
    """recipe.folder.Run.keep: a module as far as there is one, then names that stand in it."""
    path, words = ROOT / "s3prl_dd", name.split(".")
    while words and ((path / words[0]).is_dir() or (path / f"{words[0]}.py").is_file()):
        path = path / words.pop(0)
    text = "".join(file.read_text() for file in (path.with_suffix(".py"), *path.glob("*.py")) if file.is_file())
    assert all(re.search(rf"\b{word}\b", text) for word in words)

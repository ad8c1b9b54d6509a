"""Snippets of README.md, CONTRIBUTING.md and docs/: Python is run, commands that only read a generator file are run,
all others are parsed.

bash itself reads the bash blocks, so that loops, variables, braces and pipes mean what they mean. Every command in them
is a function that notes its words and does nothing; what is noted is then run or parsed here. A command that is not
known here, a block of an unknown kind, a flag or a value that its verb does not take: each is a failure.
"""

import contextlib
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from support.made_up_run import made_up_run

from s3prl_dd import cli
from s3prl_dd.config import CONFIGS, read_yaml
from s3prl_dd.recipe.folder import Run

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SHOWN = ("", "text", "bibtex")
"""Kinds of blocks that show what was printed."""

RUN = ("inspect", "sample", "describe", "weights")
"""Verbs that are cheap enough to be run."""

SUBCOMMANDS = ("setup", "test", "check", "docs", "faults")
"""Of run.sh."""


# what the README has


class Block(NamedTuple):
    """A fenced block: its kind, its text, and which line of the document its first one is."""

    kind: str
    text: str
    line: int


class Command(NamedTuple):
    """A command's words, and its line in the document."""

    words: list[str]
    line: int


def text_of(document):
    """A document's text; how to add something to the package is test_contributing.py's."""
    return document.read_text(encoding="utf-8").partition("## How to add\n")[0]


def blocks_of(text):
    """The fenced blocks of a Markdown text."""
    pattern = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [Block(match[1].strip(), match[2], line_of(text, match.start(2))) for match in pattern.finditer(text)]


def line_of(text, position):
    """The number of the line, from 1, in which a position lies."""
    return text.count("\n", 0, position) + 1


def spans_of(text):
    """Commands in the prose: code spans that begin with one of ours, as blocks of one line."""
    prose = re.sub(r"^```.*?^```$", lambda match: "\n" * match[0].count("\n"), text, flags=re.MULTILINE | re.DOTALL)
    commands = re.compile(r"`((?:s3prl-dd|bash run\.sh|torchrun|python run_downstream\.py)\s[^`]*)`")
    return [Block("span", " ".join(match[1].split()), line_of(prose, match.start()))
            for match in commands.finditer(prose)]


NOTE = """
note() { printf '%s\\0' "${BASH_LINENO[1]}" "$@" $'\\x1e' >> "$NOTES"; }
command_not_found_handle() { note "$@"; }
PATH=/nonexistent
for name in bash cd source; do eval "$name() { note $name \\"\\$@\\"; }"; done
grep() { while read -r _; do :; done; note grep "$@"; }
"""


def commands_of(block, folder):
    """The commands of a bash block, in the order in which bash would run them."""
    notes = folder / "notes"
    notes.write_text("")
    script = folder / "block.sh"
    script.write_text(block.text)
    done = subprocess.run(["bash", "--norc", "-euc", f"{NOTE}\n. {script}"], env={"NOTES": str(notes)}, text=True,
                          capture_output=True, cwd=folder)
    assert not done.returncode, f"line {block.line}: bash: {done.stderr}"
    items = [item.split("\0") for item in notes.read_text().split("\0\x1e\0")[:-1]]
    return [Command(words, block.line + int(number) - 1) for number, *words in items]


# how commands are held to what is there


def check(words, partial=False):
    """Run or parse a command; an exception says what is wrong with it.

    partial: it stands in the prose and may lack what its verb needs; only its verb and its flags are checked
    """
    handlers = {"s3prl-dd": check_verb, "bash": check_run_sh, "python": check_python, "torchrun": check_torchrun,
                "source": check_source, "pip": check_pip, "grep": nothing, "cd": nothing, "git": nothing,
                "pre-commit": nothing}
    assert words[0] in handlers, f"no test knows the command {words[0]}"
    handlers[words[0]](words[1:], partial)


def nothing(words, partial):
    """For commands that are not ours."""


def check_verb(words, partial=False):
    """`s3prl-dd VERB ...`"""
    if words[0] in ("--help", "--version"):
        return
    assert words[0] in cli.VERBS, f"{words[0]} is no verb"
    if partial or "--help" in words:
        check_flags(words)
        return
    verb = parse(words)
    if words[0] in RUN:
        with contextlib.redirect_stdout(io.StringIO()):
            verb()
    elif words[0] == "run":
        Run.start(verb.out, verb.settings).keep()  # later ones may be based on it


def parse(words):
    """The verb of a command line, with all its values checked."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            return cli.parse(words)
    except SystemExit:
        raise AssertionError(" ".join(said.getvalue().split())) from None


def check_flags(words):
    """The verb's help knows each flag."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        cli.parse([words[0], "--help"])
    known = set(re.findall(r"--?[a-z][\w-]*", said.getvalue()))
    for word in words[1:]:
        flag = word.partition("=")[0]
        assert not flag.startswith("-") or flag in known, f"{words[0]} has no flag {flag}"


def check_run_sh(words, partial=False):
    """`bash run.sh ...`"""
    assert words[0] == "run.sh", f"bash {words[0]}: only run.sh is known"
    rest = words[1:]
    if not rest or rest[0].startswith("-"):
        check_verb(["run", *rest], partial)
    else:
        assert rest[0] in SUBCOMMANDS, f"run.sh has no {rest[0]}"
        assert rest[0] == "faults" or set(rest[1:]) <= {"--fast"}, f"run.sh {rest[0]}: {rest[1:]}"


def check_torchrun(words, partial=False):
    """`torchrun --FLAG VALUE -m s3prl_dd VERB ...`"""
    module = words[words.index("-m") + 1]
    rest = words[words.index("-m") + 2:]
    if module == "s3prl_dd.run_downstream":
        check_python(["-m", module, *rest], partial)
        return
    assert module == "s3prl_dd", f"torchrun -m {module}"
    check_flags(rest)


def check_source(words, partial=False):
    """`source .venv/bin/activate`, as run.sh says it."""
    assert words == [".venv/bin/activate"]


def check_pip(words, partial=False):
    """`pip install -e .[EXTRA]`: the extra exists."""
    extras = re.findall(r"\[(.*?)\]", " ".join(words))
    known = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert all(f'"{name}": [' in known or name == "all" for names in extras for name in names.split(","))


def check_python(words, partial=False):
    """S3PRL's own command: its flags are S3PRL's or ours, and what -o sets stands in the downstream's YAML."""
    module = words[1] if words[0] == "-m" else Path(words[0]).stem
    if module in ("s3prl_dd.benchmarks.costs", "s3prl_dd.publish.documents"):
        return
    assert module in ("run_downstream", "s3prl_dd.run_downstream"), f"python {words[0]}: only run_downstream is known"
    flags = words[2:] if words[0] == "-m" else words[1:]
    for word in flags:
        assert not re.match(r"--?[a-z]", word) or word in downstream_flags(), f"run_downstream has no flag {word}"
    if "-o" in flags and not partial:
        config = read_yaml(CONFIGS / f"{flags[flags.index('-d') + 1]}.yaml")
        for assignment in flags[flags.index("-o") + 1].split(",,"):
            check_key(config, assignment.partition("=")[0])


def check_key(config, key):
    """`config.a.b` leads to a value of the YAML."""
    first, *path = key.split(".")
    assert first == "config", key
    for name in path:
        assert isinstance(config, dict) and name in config, f"-o {key}: no {name} in the YAML"
        config = config[name]


FLAGS = set()


def downstream_flags():
    """Flags of run_downstream's help."""
    if not FLAGS:
        done = subprocess.run([sys.executable, "-m", "s3prl_dd.run_downstream", "--help"], cwd=ROOT, text=True,
                              capture_output=True, check=True)
        FLAGS.update(re.findall(r"--?[a-z][\w-]*", done.stdout))
    return FLAGS


# the tests


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    """A made-up run is where `bash run.sh` would write its own, a generator file beside it."""
    folder = tmp_path_factory.mktemp("documents")
    run = made_up_run(folder / "result/demo")
    shutil.copy(run / "generator.safetensors", folder)
    return folder


@pytest.fixture
def folder(made_up, tmp_path, monkeypatch):
    """Where a document's snippets run, one after the other."""
    shutil.copytree(made_up, tmp_path / "folder")
    monkeypatch.chdir(tmp_path / "folder")
    return tmp_path / "folder"


def complaints(blocks, folder):
    """What is wrong with the commands of these blocks, a line each."""
    said = []
    for block in blocks:
        for command in commands_of(block, folder):
            line = block.line if block.kind == "span" else command.line
            try:
                check(command.words, partial=block.kind == "span")
            except Exception as error:  # of whatever kind: the list is to be whole
                said.append(f"line {line}: {' '.join(command.words)[:100]}: {error}")
    return said


each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)


@each_document
def test_every_block_is_of_a_known_kind(document):
    unknown = [f"line {block.line}: {block.kind}" for block in blocks_of(text_of(document))
               if block.kind not in ("bash", "python", "yaml", *SHOWN)]
    assert not unknown, unknown


@each_document
def test_bash_blocks(document, folder):
    said = complaints([block for block in blocks_of(text_of(document)) if block.kind == "bash"], folder)
    assert not said, "\n".join(said)


@each_document
def test_commands_in_the_prose(document, folder):
    said = complaints(spans_of(text_of(document)), folder)
    assert not said, "\n".join(said)


@each_document
def test_python_blocks(document, folder):
    namespace = {"__name__": "__main__"}
    for block in blocks_of(text_of(document)):
        if block.kind == "python":
            exec(compile("\n" * (block.line - 1) + block.text, document.name, "exec"), namespace)


@each_document
def test_yaml_blocks(document):
    for block in blocks_of(text_of(document)):
        if block.kind == "yaml":
            assert isinstance(yaml.safe_load(block.text), dict), f"line {block.line}"


# that the tests above can fail


@pytest.mark.parametrize("text, complaint", [
    ("s3prl-dd inspekt FILE", "is no verb"),
    ("s3prl-dd run --no-such-flag 3", "no-such-flag"),
    ("s3prl-dd run --seeds 0", "seeds"),
    ("s3prl-dd inspect nowhere.safetensors", "no such generator file"),
    ("for k in 1 2; do s3prl-dd run --out r$k --sedes 3; done", "--out r2"),
    ("s3prl-dd run --base nowhere --out there", "nowhere"),
    ("x=--sedes; s3prl-dd run $x 3", "sedes"),
    ("s3prl-dd compare a | sort", "no test knows the command sort"),
    ("bash run.sh tests", "run.sh has no tests"),
    ("bash other.sh", "only run.sh is known"),
    ("rm -r result", "no test knows the command rm"),
    ("torchrun -m s3prl_dd distill --outt x", "no flag --outt"),
    ("python run_downstream.py -m train --upstreem x", "no flag --upstreem"),
    ('python run_downstream.py -d emotion -o "config.runner.steps=3"', "no steps in the YAML"),
    ("pip install -e .[nothing]", ""),
])
def test_what_is_wrong_is_told(tmp_path, monkeypatch, text, complaint):
    monkeypatch.chdir(tmp_path)
    said = complaints([Block("bash", text + "\n", 7)], tmp_path)
    assert said and complaint in said[-1] and said[0].startswith("line 7: ")


def test_lines_of_a_block(tmp_path):
    text = "# first\ns3prl-dd a \\\n  b   # why\nfor k in {1,2}; do\n  s3prl-dd c $k 'd e'\ndone | grep x\n"
    commands = commands_of(Block("bash", text, 10), tmp_path)
    assert [command.words for command in commands] == [
        ["s3prl-dd", "a", "b"], ["s3prl-dd", "c", "1", "d e"], ["s3prl-dd", "c", "2", "d e"], ["grep", "x"]]
    assert [command.line for command in commands[1:3]] == [14, 14]


def test_spans_of_the_prose():
    text = "Call `s3prl-dd run\n  --seeds 3`, or `bash run.sh test`; not `s3prl_dd`.\n```\n`s3prl-dd x`\n```\n"
    spans = [(span.text, span.line) for span in spans_of(text)]
    assert spans == [("s3prl-dd run --seeds 3", 1), ("bash run.sh test", 2)]

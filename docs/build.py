"""Writes the pages of docs/ that come out of the code, then lets MkDocs build the site and check every link.

    python docs/build.py            reference.md anew, then the site into site/
    python docs/build.py --check    only tells whether reference.md is what the code says
"""

import argparse
import contextlib
import dataclasses
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tabulate import tabulate

from s3prl_dd.cli import VERBS, parse
from s3prl_dd.distill.config import DistillConfig, Lambdas
from s3prl_dd.generator import NetworkConfig
from s3prl_dd.plugin.datarc import DistilledData, EmotionData, SpeakerData

HERE = Path(__file__).parent
REFERENCE = HERE / "reference.md"

PLAIN = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
"""Help as a page can hold it."""

BEGIN = """# Every flag and every key

Written by `docs/build.py` out of the code; what stands here is what `--help` says and what a configuration may hold.
An unknown key or flag is an error.
"""

CONFIGURATIONS: dict[str, tuple[type, str]] = {
    "The distiller's configuration": (DistillConfig, "`--config FILE`, and `--overrides KEY=VALUE` on top of it."),
    "network": (NetworkConfig, "Below `network:` of the distiller's configuration."),
    "lambdas": (Lambdas, "Below `lambdas:` of the distiller's configuration."),
    "datarc of -d distilled_emotion": (DistilledData, "S3PRL's `config.downstream_expert.datarc`, by YAML or `-o`."),
    "datarc of -d emotion": (EmotionData, "The same, for real data."),
    "datarc of -d voxceleb1": (SpeakerData, "The same, for the speaker probe."),
}
"""Heading -> the settings whose keys stand below it, and where they are written."""


def main() -> int:
    """Build, or check. returns: the exit code"""
    flags = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    flags.add_argument("--check", action="store_true", help="write nothing")
    text = reference()
    if flags.parse_args().check:
        same = REFERENCE.is_file() and REFERENCE.read_text(encoding="utf-8") == text
        print(f"{REFERENCE.name}: " + ("as the code says" if same else "is not what the code says: bash run.sh docs"))
        return 0 if same else 1
    REFERENCE.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(HERE.parent / "mkdocs.yml")]
    return subprocess.run(command, check=False).returncode


def reference() -> str:
    """The page of all verbs and all configuration keys."""
    verbs = "\n".join(f"### s3prl-dd {name}\n\n```text\n{text}\n```\n" for name, text in helps())
    keys = "\n".join(section(title, cls, where) for title, (cls, where) in CONFIGURATIONS.items())
    return f"{BEGIN}\n## Verbs\n\n{verbs}\n## Configurations\n\n{keys}"


def helps() -> Iterator[tuple[str, str]]:
    """(verb, what its --help prints) of every verb, without colours, a hundred characters wide."""
    for name in VERBS:
        printed = io.StringIO()
        with patch.dict(os.environ, PLAIN), contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            parse([name, "--help"])
        yield name, "\n".join(line.rstrip() for line in printed.getvalue().strip().splitlines())


def section(title: str, cls: type, where: str) -> str:
    """A heading, and a table of a dataclass's keys: name, default, meaning."""
    rows = [[f"`{item.name}`", default(item), meaning(cls, item.name)] for item in dataclasses.fields(cls)]
    table = tabulate(rows, headers=["key", "default", "what it is"], tablefmt="github")
    return f"### {title}\n\n{where}\n\n{table}\n"


def default(item: "dataclasses.Field[Any]") -> str:
    """A field's default as YAML would have it; nothing where the key is a group of keys."""
    if item.default is dataclasses.MISSING:
        return ""
    words = {True: "true", False: "false", None: "null"}
    value = item.default
    shown = words[value] if isinstance(value, bool) or value is None else str(value)
    return f"`{shown}`"


def meaning(cls: Any, name: str) -> str:
    """The string below a field, here or in the class that it comes from, in one line."""
    fields = [base.__pydantic_fields__.get(name) for base in cls.__mro__ if hasattr(base, "__pydantic_fields__")]
    text = next((item.description for item in fields if item is not None and item.description), "")
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())

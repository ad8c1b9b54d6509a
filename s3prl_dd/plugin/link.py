"""Our downstreams inside a clone of S3PRL, so that its own `python run_downstream.py -d distilled_emotion` finds them.

Each becomes a folder of links, s3prl/downstream/<name>/{__init__,expert}.py and config.yaml. Beside run_downstream.py
comes a link named torchaudio.py (plugin/torchaudio.py): Python imports it first, and through it the clone's command is
our launcher over the clone's S3PRL. s3prl_dd stays installed where it is.
"""

import shlex
import shutil
from pathlib import Path
from typing import NamedTuple

from ..config import CONFIGS
from ..errors import UserError
from .compat import SUPPORTED, version_of
from .registration import DOWNSTREAM, downstreams


class Link(NamedTuple):
    """A symbolic link, and what it points to."""

    path: Path
    target: Path

    @property
    def there(self) -> bool:
        """Whether the link stands and is ours."""
        return self.path.is_symlink() and self.path.resolve() == self.target


def link(clone: str | Path) -> list[Path]:
    """Link our downstreams into the clone of S3PRL at `clone`; again is safe. returns: the folders

    Raises UserError where `clone` is none, or something of another origin stands in the way (nothing is changed then).
    """
    folder = _downstream_folder(clone)
    links = [_remedy(folder)]
    for name in downstreams():
        links += _links(folder, name)
    for item in links:
        taken = item.path.exists() or item.path.is_symlink()
        if item.path.parent.is_symlink() or (taken and not item.there):
            raise UserError(f"{item.path}: exists and is not a link of s3prl_dd. Move it away first.")
    for item in links:
        if not item.path.is_symlink():
            item.path.parent.mkdir(exist_ok=True)
            item.path.symlink_to(item.target)
    return [folder / name for name in downstreams()]


def describe(clone: str | Path) -> str:
    """What is linked into a clone, and the commands that work there now."""
    folder = _downstream_folder(clone)
    lines = [f"linked into {folder.parent}:", *(f"  downstream/{name}" for name in downstreams()),
             "  torchaudio.py (makes run_downstream.py our launcher, over this clone's S3PRL)"]
    version = version_of(folder.parent)
    if version != SUPPORTED:
        lines.append(f"this clone is S3PRL {version}; s3prl_dd is tested with {SUPPORTED}")
    quoted = shlex.quote(str(clone))
    return "\n".join([*lines, "run there:", f"  cd {shlex.quote(str(folder.parent))}",
                      "  python run_downstream.py -d distilled_emotion -u hubert", f"undo: s3prl-dd unlink {quoted}"])


def unlink(clone: str | Path) -> list[Path]:
    """Remove what link made, and nothing else. returns: the folders that are gone"""
    folder = _downstream_folder(clone)
    remedy = _remedy(folder)
    if remedy.there:
        remedy.path.unlink()
    return [folder / name for name in downstreams() if _remove(folder, name)]


def _remove(folder: Path, name: str) -> bool:
    """Remove our links of downstream `name`, and its folder if nothing else is in it. returns: whether it is gone"""
    links = [item for item in _links(folder, name) if item.there]
    for item in links:
        item.path.unlink()
    if not links:
        return False
    shutil.rmtree(folder / name / "__pycache__", ignore_errors=True)
    if any((folder / name).iterdir()):
        return False
    (folder / name).rmdir()
    return True


def _downstream_folder(clone: str | Path) -> Path:
    clone = Path(clone).resolve()
    for folder in (clone / "s3prl" / "downstream", clone / "downstream"):
        if (folder / "runner.py").is_file():
            return folder
    raise UserError(f"{clone}: no clone of S3PRL (no s3prl/downstream/runner.py in it). Give the folder that `git "
                    "clone` made.")


def _links(folder: Path, name: str) -> list[Link]:
    """The link of each file of downstream `name`."""
    targets = {path.name: path for path in (DOWNSTREAM / name).glob("*.py")}
    targets["config.yaml"] = CONFIGS / f"{name}.yaml"
    return [Link(folder / name / file, target.resolve()) for file, target in targets.items()]


def _remedy(folder: Path) -> Link:
    """The module that lets the run_downstream.py above this folder import torchaudio."""
    return Link(folder.parent / "torchaudio.py", Path(__file__).with_name("torchaudio.py").resolve())

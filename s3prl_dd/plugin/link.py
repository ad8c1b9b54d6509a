"""Our downstreams inside a clone of S3PRL, so that its own `python run_downstream.py -d distilled_emotion` finds them.

Each becomes a folder of links, s3prl/downstream/<name>/{__init__,expert}.py and config.yaml. Beside run_downstream.py
comes a link named torchaudio.py, through which S3PRL runs on new libraries (plugin/torchaudio.py). s3prl_dd stays
installed beside S3PRL. Our upstreams are on the hub only under our launcher.
"""

import shutil
from pathlib import Path

from ..config import CONFIGS
from ..errors import UserError
from .registration import DOWNSTREAM, downstreams


def link(clone):
    """Link our downstreams into the clone of S3PRL at `clone`; again is safe. returns: list of the folders

    Raises UserError where `clone` is none, or something of another origin stands in the way (nothing is changed then).
    """
    folder = _downstream_folder(clone)
    links = [*_remedy(folder), *(pair for name in downstreams() for pair in _links(folder, name))]
    for path, target in links:
        if path.parent.is_symlink() or (path.exists() or path.is_symlink()) and not _points_to(path, target):
            raise UserError(f"{path}: exists and is not a link of s3prl_dd. Move it away first.")
    for path, target in links:
        if not path.is_symlink():
            path.parent.mkdir(exist_ok=True)
            path.symlink_to(target)
    return [folder / name for name in downstreams()]


def unlink(clone):
    """Remove what link made, and nothing else. returns: list of the folders that are gone"""
    folder = _downstream_folder(clone)
    gone = []
    for path, target in _remedy(folder):
        if _points_to(path, target):
            path.unlink()
    for name in downstreams():
        links = [path for path, target in _links(folder, name) if _points_to(path, target)]
        for path in links:
            path.unlink()
        if links:
            shutil.rmtree(folder / name / "__pycache__", ignore_errors=True)
            if not any((folder / name).iterdir()):
                (folder / name).rmdir()
                gone.append(folder / name)
    return gone


def _downstream_folder(clone):
    for folder in (Path(clone) / "s3prl" / "downstream", Path(clone) / "downstream"):
        if (folder / "runner.py").is_file():
            return folder
    raise UserError(f"{clone}: no clone of S3PRL (no s3prl/downstream/runner.py in it). Give the folder that `git clone` made.")


def _links(folder, name):
    """(link, target) of each file of downstream `name`."""
    targets = {path.name: path for path in (DOWNSTREAM / name).glob("*.py")}
    targets["config.yaml"] = CONFIGS / f"{name}.yaml"
    return [(folder / name / file, target.resolve()) for file, target in targets.items()]


def _remedy(folder):
    """[(link, target)] of the module that lets the run_downstream.py above this folder import torchaudio."""
    return [(folder.parent / "torchaudio.py", Path(__file__).with_name("torchaudio.py").resolve())]


def _points_to(path, target):
    return path.is_symlink() and path.resolve() == target

"""A generator file as a repository of the Hugging Face Hub: the file, its card, its description, a preview of samples.

    push("generator.safetensors", "USER/NAME") -> its address; `Generator.load("hf://USER/NAME")` reads it back
"""

import dataclasses
import hashlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, get_token
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from ..errors import UserError
from ..generator import Generator, Header, Samples, read_header
from ..generator.hub import ABOUT, FILE, PREFIX, is_repo, located, telling
from .card import card, terms_for

PREVIEW = 24
"""Samples a class in the preview."""


def push(file: str | Path, repo: str, run: str | Path | None = None, private: bool = False,
         revision: str | None = None, may_share: bool = False) -> str:
    """Push a generator file to USER/NAME, in one commit. returns: its address, hf://USER/NAME@COMMIT

    run: a finished run's folder, for the card's results; revision: a branch, made where there is none; may_share: the
    corpus's terms or its owner allow it, where it is not known here that they do.
    All that can be known is checked before anything is sent. Raises UserError for a file that is none, a bad name, a
    corpus that may not be shared, a missing or wrong token, and a Hub that cannot be reached or refuses.
    """
    if not is_repo(repo):
        raise UserError(f"{repo}: expected USER/NAME, of letters, digits, - _ and dots.")
    if get_token() is None:
        raise UserError(f"{repo}: no token of the Hub. Log in with `hf auth login`, or set HF_TOKEN; it needs the "
                        "right to write.")
    file = located(file)
    header = read_header(file)
    terms = terms_for(header, run)
    nobodys = terms.license == "unknown" and header.corpus.synthetic
    if not (terms.open or nobodys or may_share):
        raise UserError(f"{file}: made from {header.corpus.name} ({terms.text}). {terms.sharing} Where you may, give "
                        "--may-share.")
    operations = [CommitOperationAdd(name, content) for name, content in contents(file, repo, run).items()]
    api = HfApi(library_name="s3prl_dd")
    with telling(repo):
        api.whoami()
        api.create_repo(repo, private=private, exist_ok=True)
        if revision:
            api.create_branch(repo, branch=revision, exist_ok=True)
        message = f"Generator of {header.corpus.name}, {header.corpus.fold}, {header.features.upstream}"
        commit = api.create_commit(repo, operations, commit_message=message, revision=revision)
    return f"{PREFIX}{repo}@{commit.oid}"


def contents(file: str | Path, repo: str, run: str | Path | None = None) -> dict[str, bytes]:
    """What is pushed: name in the repository -> its bytes."""
    text = card(file, run, repo, preview=True)
    generator = Generator.load(file)
    header, samples = generator.header, generator.sample(PREVIEW)
    pushed = Path(file).read_bytes() if header.corpus.hidden else _nameless(generator)
    description = json.dumps(about(header, hashlib.sha256(pushed).hexdigest()), indent=2) + "\n"
    return {FILE: pushed, ABOUT: description.encode(), "README.md": text.encode(),
            "samples.safetensors": _as_file(samples, header), "samples.png": picture(samples, header)}


def _nameless(generator: Generator) -> bytes:
    """The file with digests in the place of its speakers' names, which files of older versions hold."""
    generator.header = dataclasses.replace(generator.header, corpus=generator.header.corpus.hiding_names())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE
        generator.save(path, half=generator.header.precision == "float16")
        return path.read_bytes()


def about(header: Header, digest: str) -> dict[str, Any]:
    """config.json: the header with speakers counted instead of named, and the file's digest."""
    values = dataclasses.asdict(header)
    for key in ("train_speakers", "test_speakers"):
        values["corpus"][key] = len(values["corpus"][key])
    return {"library": "s3prl_dd", "file": FILE, "sha256": digest, **values}


def _as_file(samples: Samples, header: Header) -> bytes:
    """The samples as safetensors."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.safetensors"
        samples.save(path, {"labels": json.dumps(header.labels), "seed": "0", "budget": str(PREVIEW)})
        return path.read_bytes()


def picture(samples: Samples, header: Header) -> bytes:
    """The samples' means in the plane in which they differ most, a colour and shape a class, as PNG."""
    points = PCA(2, svd_solver="full").fit_transform(samples.means().numpy())
    labels = samples.labels.numpy()
    figure = Figure(figsize=(5, 4), layout="constrained")
    axis = figure.subplots()
    for index, name in enumerate(header.names()):
        mine = points[labels == index]
        axis.scatter(mine[:, 0], mine[:, 1], s=16, alpha=0.7, marker="os^Dv"[index % 5], label=name)
    axis.set(xticks=[], yticks=[])
    axis.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()

"""Generator files on the Hugging Face Hub, by its own library: `hf://USER/NAME` or `hf://USER/NAME@REVISION`.

`s3prl-dd push` writes such a repository. What was downloaded stays in the library's cache, which serves without a
network, too.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError, one_line
from ..files import file_digest, read_json, write_json

PREFIX = "hf://"

FILE = "generator.safetensors"
"""The generator file of a repository."""

ABOUT = "config.json"
"""Beside it: the header without speakers, and the file's SHA-256 as `sha256`."""

PIN = "generator.json"
"""Which file a run was trained on, in its expdir."""


class Address(NamedTuple):
    """A place on the Hub."""

    repo: str
    """USER/NAME"""
    revision: str | None
    """A branch, a tag or a commit; None is the main branch."""


class HubFile(NamedTuple):
    """A generator file that was downloaded, its digest compared with what the push wrote of it."""

    address: str
    """hf://USER/NAME[@REVISION], as it was asked for."""
    path: Path
    """Where it lies here."""
    revision: str
    """The commit that the address stood for."""
    digest: str
    """SHA-256 of the file."""

    def pin(self, folder: str | Path) -> None:
        """Keep in the folder of a run which file this is. Raises UserError where the run has another one already."""
        path = Path(folder) / PIN
        mine = {"generator": self.address, "revision": self.revision, "sha256": self.digest}
        if not path.is_file():
            write_json(path, mine)
            return
        kept = read_json(path, "pin of a generator")
        if kept.get("sha256") != self.digest:
            pinned = f"{PREFIX}{parse(self.address).repo}@{kept.get('revision')}"
            raise UserError(f"{path}: this run is trained on {kept.get('generator')} at revision "
                            f"{kept.get('revision')}, now {self.address} is revision {self.revision}, another file. "
                            f"Give {pinned} to go on, or another expdir.")


def on_hub(path: str | Path | None) -> bool:
    """Whether this is an address on the Hub, not a path."""
    return isinstance(path, str) and path.startswith(PREFIX)


def located(path: str | Path) -> Path:
    """The path itself, or where the file of an address lies once it is downloaded. Raises UserError as `fetch`."""
    return fetch(str(path)).path if on_hub(path) else Path(path)


def parse(address: str) -> Address:
    """hf://USER/NAME[@REVISION]; UserError for anything else."""
    repo, _, revision = address.removeprefix(PREFIX).partition("@")
    if not on_hub(address) or not is_repo(repo):
        raise UserError(f"{address}: expected {PREFIX}USER/NAME or {PREFIX}USER/NAME@REVISION.")
    return Address(repo, revision or None)


def is_repo(name: str) -> bool:
    """Whether this is USER/NAME as the Hub names repositories."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return name.count("/") == 1


def fetch(address: str) -> HubFile:
    """Download the generator file of an address, or take it from the cache.

    Raises UserError for a name, revision or file that the Hub has not, without a network where nothing is cached, and
    for a file that is not the one which was pushed.
    """
    from huggingface_hub import HfApi

    repo, revision = parse(address)
    api = HfApi(library_name="s3prl_dd")
    with telling(address):
        _reach(repo, revision)
        path = Path(api.hf_hub_download(repo, FILE, revision=revision))
        commit = path.parent.name  # <cache>/models--USER--NAME/snapshots/<commit>/generator.safetensors
        about = Path(api.hf_hub_download(repo, ABOUT, revision=commit))
    digest, described = file_digest(path), read_json(about, "description of a generator")
    pushed = described.get("sha256") if isinstance(described, dict) else None
    if digest != pushed:
        raise UserError(f"{address}: {FILE} at revision {commit:.12} has SHA-256 {digest:.12}..., its {ABOUT} says "
                        f"{pushed!s:.12}...: it is not the file that was pushed. Take another revision, or have it "
                        f"pushed anew; the copy here is {path}.")
    return HubFile(address, path, commit, digest)


def _reach(repo: str, revision: str | None) -> None:
    """One attempt to reach a file that is not in the cache: the library's download alone tries for half a minute."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    if try_to_load_from_cache(repo, FILE, revision=revision) is None:
        with contextlib.suppress(HfHubHTTPError):  # an answer: the download tells what it is
            get_hf_file_metadata(hf_hub_url(repo, FILE, revision=revision))


@contextlib.contextmanager
def telling(what: str) -> Iterator[None]:
    """Turn what the Hub's library raises into a UserError of one line about `what`."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        raise UserError(f"{what}: its owner gives access by hand. Ask on its page, then `hf auth login`.") from None
    except errors.RepositoryNotFoundError:
        raise UserError(f"{what}: the Hub has no such repository, or shows it to others alone. Check the name; for a "
                        "private one `hf auth login` or HF_TOKEN.") from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{what}: the repository has no such revision.") from None
    except errors.LocalEntryNotFoundError:
        raise UserError(f"{what}: the Hub cannot be reached, and nothing of it is in the cache. Check the network and "
                        "HF_ENDPOINT, or give a file.") from None
    except errors.EntryNotFoundError as error:
        raise UserError(f"{what}: the repository lacks {FILE} or {ABOUT}; `s3prl-dd push` writes both "
                        f"({one_line(error):.120}).") from None
    except errors.HfHubHTTPError as error:
        raise UserError(f"{what}: the Hub refused ({one_line(error):.200}).") from None
    except (OSError, getattr(errors, "HTTPError", OSError)) as error:  # httpx's is no OSError, requests' was one
        raise UserError(f"{what}: the Hub cannot be reached ({one_line(error):.200}). Check the network.") from None

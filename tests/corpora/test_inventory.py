"""A corpus is known again by its files: names, sizes, content."""

import json
import os
import shutil

import pytest
from support.iemocap_tree import lists

from s3prl_dd.corpora import inventory, prepare
from s3prl_dd.corpora.inventory import FILE, Known, check_in_place, check_same, read_inventory, take_inventory, twins
from s3prl_dd.errors import UserError
from s3prl_dd.files import file_digest


@pytest.fixture
def moved(ravdess, tmp_path):
    """(metadata, a copy of the corpus elsewhere)."""
    prepare("ravdess", ravdess, tmp_path / "metadata")
    shutil.copytree(ravdess, tmp_path / "moved")
    return tmp_path / "metadata", tmp_path / "moved"


def test_every_file_of_the_lists_is_known(ravdess, moved):
    metadata, _ = moved
    known = read_inventory(metadata)
    paths = [item.path for part in lists(metadata, "fold1") for item in part.utterances]
    assert sorted(known) == sorted(paths)
    for path, (size, digest) in known.items():
        assert (size, digest) == ((ravdess / path).stat().st_size, file_digest(ravdess / path))


def test_twins(tmp_path):
    for name, content in (("a", b"x"), ("b", b"y"), ("c", b"x")):
        (tmp_path / name).write_bytes(content)
    assert twins(take_inventory(tmp_path, ["a", "b", "c", "a"])) == [["a", "c"]]


def test_the_same_elsewhere(moved):
    metadata, root = moved
    (root / "more.wav").write_bytes(b"nobody asks")
    check_same(metadata, root)


def one_byte(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("change, told", [
    (lambda path: path.unlink(), "is not there"),
    (lambda path: path.write_bytes(b"x"), "has 1 bytes there, it had "),
    (one_byte, "has another content there"),
])
def test_the_first_difference_is_named(moved, change, told):
    metadata, root = moved
    change(root / "Actor_01/03-01-03-01-01-01-01.wav")
    with pytest.raises(UserError) as refused:
        check_same(metadata, root)
    assert f"Actor_01/03-01-03-01-01-01-01.wav {told}" in str(refused.value) and "\n" not in str(refused.value)


def test_metadata_of_older_versions(moved):
    """They tell the files' names, and their bytes together."""
    metadata, root = moved
    (metadata / FILE).unlink()
    assert read_inventory(metadata) == {}
    check_same(metadata, root)
    path = root / "Actor_01/03-01-03-01-01-01-01.wav"
    path.write_bytes(path.read_bytes() + b"xx")
    with pytest.raises(UserError, match="its files have .* bytes together, they had"):
        check_same(metadata, root)
    path.unlink()
    with pytest.raises(UserError, match="03-01-03-01-01-01-01.wav is not there"):
        check_same(metadata, root)


@pytest.mark.parametrize("text", ["[]", '{"a.wav": "1"}', '{"a.wav": "one abc"}', '{"a.wav": 5}'])
def test_a_damaged_inventory(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(UserError, match="files.json: expected path to"):
        read_inventory(tmp_path)
    (tmp_path / FILE).write_text(json.dumps({"a.wav": "12 abc"}))
    assert read_inventory(tmp_path) == {"a.wav": Known(12, "abc")}


def later(file, seconds):
    """The time of files.json as if it were made later, or earlier, than it was."""
    about = file.stat()
    os.utime(file, (about.st_mtime + seconds, about.st_mtime + seconds))


@pytest.mark.parametrize("content, told", [(lambda before: before[:-1] + b"!", "it has another content since"),
                                           (lambda before: before + b"!", "it has .* bytes instead of .* since")])
def test_a_file_that_was_changed_in_place_is_told(moved, content, told):
    metadata, root = moved
    check_in_place(metadata, root)
    path = root / next(iter(read_inventory(metadata)))
    path.write_bytes(content(path.read_bytes()))
    with pytest.raises(UserError, match=f"{path.name}: {told} .*metadata was made"):
        check_in_place(metadata, root)


def test_only_files_that_were_touched_are_hashed_and_once(moved, monkeypatch):
    metadata, root = moved
    hashed = []
    monkeypatch.setattr(inventory, "take_inventory",
                        lambda root, paths: hashed.append(list(paths)) or take_inventory(root, paths))
    later(metadata / FILE, 100)
    check_in_place(metadata, root)
    later(metadata / FILE, -200)
    check_in_place(metadata, root)  # all are newer than that
    later(metadata / FILE, 100)
    check_in_place(metadata, root)
    assert hashed == [[], list(read_inventory(metadata)), []]


def test_files_that_are_gone_and_folders_of_before_are_left_alone(moved):
    metadata, root = moved
    (root / next(iter(read_inventory(metadata)))).unlink()
    check_in_place(metadata, root)
    (metadata / FILE).unlink()
    check_in_place(metadata, root)

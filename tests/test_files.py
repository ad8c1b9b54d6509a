"""Files whole or not at all."""

import hashlib
import os
import signal
import stat

import pytest
from support.gauss import forked

from s3prl_dd.errors import UserError
from s3prl_dd.files import atomic_path, file_digest, read_json, text_digest, write_json, write_text


def only(folder):
    return sorted(path.name for path in folder.iterdir())


def test_writes_and_makes_folders(tmp_path):
    write_json(tmp_path / "a/b/file.json", {"ü": [1, 2.5, None]})
    assert read_json(tmp_path / "a/b/file.json") == {"ü": [1, 2.5, None]}
    written = (tmp_path / "a/b/file.json").read_bytes()
    assert written.endswith(b"]\n}\n") and "ü".encode() in written
    assert only(tmp_path / "a/b") == ["file.json"]


def test_mode_is_that_of_open(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "ours", "x")
        (tmp_path / "plain").write_text("x")
    finally:
        os.umask(before)
    for name in ("ours", "plain"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o640


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, RuntimeError])
def test_exception_inside_keeps_the_old_file(tmp_path, error):
    write_text(tmp_path / "file", "old")
    with pytest.raises(error):
        with atomic_path(tmp_path / "file") as temporary:
            temporary.write_text("half of the n")
            raise error
    assert (tmp_path / "file").read_text() == "old" and only(tmp_path) == ["file"]


@pytest.mark.parametrize("call", ["replace", "fsync", "chmod"])
def test_failing_system_call_keeps_the_old_file(tmp_path, monkeypatch, call):
    write_text(tmp_path / "file", "old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(UserError, match="file: could not be written .*No space left.* is untouched"):
        write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old" and only(tmp_path) == ["file"]


def write_and_die(path):
    with atomic_path(path) as temporary:
        temporary.write_text("half of the n")
        os.kill(os.getpid(), signal.SIGKILL)


def test_kill_while_writing_keeps_the_old_file(tmp_path):
    write_text(tmp_path / "file", "old")
    process = forked().Process(target=write_and_die, args=(tmp_path / "file",))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL and (tmp_path / "file").read_text() == "old"
    write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"


def test_impossible_place_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/inside: could not be written"):
        write_text(tmp_path / "file/inside", "x")


def test_reading(tmp_path):
    with pytest.raises(UserError, match="none.json: no such run description"):
        read_json(tmp_path / "none.json", "run description")
    for data in (b"", b"{", b'{"a": 1', b"\xff\xfe"):
        (tmp_path / "broken.json").write_bytes(data)
        with pytest.raises(UserError, match="broken.json: expected a file in JSON"):
            read_json(tmp_path / "broken.json")


def test_digests(tmp_path):
    (tmp_path / "file").write_bytes(b"abc" * 10 ** 5)
    assert file_digest(tmp_path / "file") == hashlib.sha256(b"abc" * 10 ** 5).hexdigest()
    assert text_digest(["a", "b"]) == text_digest(iter(["a", "b"])) == hashlib.sha256(b"a\nb").hexdigest()
    assert text_digest(["a", "b"]) != text_digest(["b", "a"])

"""The file of hidden states: exact, bounded, shared by processes, and never a reason to fail."""

import multiprocessing
import sqlite3

import pytest
import torch

from s3prl_dd.plugin import store as module
from s3prl_dd.plugin.store import StateStore


def states(number, layers=3, frames=5, dim=4):
    return torch.randn(layers, frames, dim, generator=torch.Generator().manual_seed(number))


def test_what_was_written_comes_back(tmp_path):
    StateStore(tmp_path / "new" / "folder", 1e6).write("a", states(1))
    store = StateStore(tmp_path / "new" / "folder", 1e6)
    store.write("b", states(2, layers=1, frames=1))
    assert torch.equal(store.read("a"), states(1)) and torch.equal(store.read("b"), states(2, layers=1, frames=1))
    assert store.holds("a") and not store.holds("c") and store.read("c") is None
    store.write("a", states(3))
    assert torch.equal(store.read("a"), states(3))


def test_the_oldest_leave_a_full_store(tmp_path):
    store = StateStore(tmp_path, 200_000)
    for number in range(30):
        store.write(str(number), states(number, dim=1000))  # 60 kB each
    held = [number for number in range(30) if store.holds(str(number))]
    assert held == [27, 28, 29] and store.path.stat().st_size < 300_000
    assert torch.equal(store.read("29"), states(29, dim=1000))
    assert not store.has_room(60_000) and StateStore(tmp_path, 1e6).has_room(60_000)
    store.write("large", states(0, dim=5000))
    assert not store.holds("large") and store.holds("29")


@pytest.mark.parametrize("change", ["UPDATE states SET digest = x'00'", "UPDATE states SET frames = 6",
                                    "UPDATE states SET data = substr(data, 1, 100)"])
def test_a_damaged_entry_is_none(change, tmp_path):
    store = StateStore(tmp_path, 1e6)
    store.write("a", states(1))
    store.close()
    with sqlite3.connect(store.path) as database:
        database.execute(change)
    database.close()
    assert store.read("a") is None and not store.holds("a")
    store.write("a", states(1))
    assert torch.equal(store.read("a"), states(1))


def text(path):
    path.write_text("no database, and long enough to be looked at" * 100)


def another_database(path):
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE states (name TEXT)")
        database.execute("INSERT INTO states VALUES ('theirs')")
    database.close()


def half(path):
    store = StateStore(path.parent, 1e7)
    for number in range(50):
        store.write(str(number), states(number, dim=1000))
    store.close()
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 100_000)


@pytest.mark.parametrize("spoil", [text, another_database, half])
def test_a_file_that_is_none_of_ours_is_moved_away(spoil, tmp_path, capsys):
    spoil(tmp_path / "states.sqlite")
    content = (tmp_path / "states.sqlite").read_bytes()
    store = StateStore(tmp_path, 1e6)
    assert store.read("0") is None
    store.write("0", states(1))
    assert torch.equal(store.read("0"), states(1))
    assert (tmp_path / "states.sqlite.damaged1").read_bytes() == content
    assert capsys.readouterr().out.count("begun anew") == 1


def test_where_no_folder_can_be_the_run_goes_on(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    store = StateStore(tmp_path / "file" / "folder", 1e6)
    for _ in range(3):
        store.write("a", states(1))
        assert store.read("a") is None and not store.holds("a") and not store.has_room(1)
    assert capsys.readouterr().out.count("cannot be used any more") == 1


def test_a_file_that_is_read_only_is_read(tmp_path, capsys, monkeypatch):
    StateStore(tmp_path, 1e6).write("a", states(1))
    connect = sqlite3.connect
    monkeypatch.setattr(module.sqlite3, "connect",
                        lambda path, *rest, **options: connect(f"file:{path}?mode=ro", *rest, uri=True, **options))
    store = StateStore(tmp_path, 1e6)
    for name in "bc":
        store.write(name, states(2))
    assert torch.equal(store.read("a"), states(1)) and store.read("b") is None
    assert capsys.readouterr().out.count("cannot be used any more") == 1


def test_a_full_disk_is_told_once(tmp_path, capsys, monkeypatch):
    store = StateStore(tmp_path, 1e7)
    store.write("a", states(1))
    store._open().execute("PRAGMA max_page_count = 8")
    for name in "bc":
        store.write(name, states(2, dim=10_000))
    assert torch.equal(store.read("a"), states(1)) and store.read("b") is None
    assert capsys.readouterr().out.count("cannot be used any more") == 1


def write_and_read(folder, first):
    store = StateStore(folder, 1e8)
    for number in range(first, first + 40):
        store.write(str(number % 60), states(number % 60))
    assert all(torch.equal(store.read(str(number % 60)), states(number % 60)) for number in range(first, first + 40))


def test_processes_write_at_once(tmp_path):
    """From an empty folder on, some of them the same keys."""
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=write_and_read, args=(tmp_path, first)) for first in (0, 10, 30)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    store = StateStore(tmp_path, 1e8)
    assert all(torch.equal(store.read(str(number)), states(number)) for number in range(60))
    assert [path.name for path in tmp_path.iterdir()] == ["states.sqlite"]

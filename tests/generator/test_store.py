"""Stored sets: what was drawn, once, for everybody; another set for another key; whole or drawn anew."""

import json
import multiprocessing
import os
import pickle
import shutil

import pytest
import torch
from support.tiny_generator import tiny_generator
from torch.utils.data import DataLoader

from s3prl_dd.errors import UserError
from s3prl_dd.generator import DrawOptions, GeneratedDataset, Generator, SampleStore
from s3prl_dd.generator.store import FORMAT, SetKey, StoredSet, key_of, publish

COUNTS = [2, 1, 3]
SET = {"counts": COUNTS, "seed": 4, "epoch": 0, "lengths": "generator", "center": True}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("generator") / "generator.safetensors"
    tiny_generator(calibration=True).save(path)
    return path


@pytest.fixture
def generator(file):
    return Generator.load(file)


@pytest.fixture
def drawn(monkeypatch):
    """Numbers of the samples that are drawn."""
    log, raw = [], Generator.raw

    def logged(self, labels, indices, *rest):
        log.extend(indices)
        return raw(self, labels, indices, *rest)

    monkeypatch.setattr(Generator, "raw", logged)
    return log


@pytest.fixture
def store(tmp_path):
    return SampleStore(tmp_path / "sets")


def sets_in(store):
    return sorted(path.name for path in store.folder.glob("[!.]*"))


def rest_in(store):
    """What a store holds besides sets and locks."""
    return [path.name for path in store.folder.glob(".*") if not path.name.startswith(".lock-")]


# what is stored


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("lengths", ["generator", "corpus"])
def test_a_stored_set_is_the_drawn_one(generator, store, drawn, center, lengths):
    """Frames to half precision of their distance from the mean; means, soft labels, lengths and labels as drawn."""
    stored = store.get(generator, COUNTS, 4, 1, lengths, center)
    assert drawn == list(range(6))  # once, centred or not
    samples = generator.sample({"counts": COUNTS}, seed=4, epoch=1, lengths=lengths, center=center)
    assert len(stored) == 6 and stored.labels.tolist() == samples.labels.tolist()
    for index, length in enumerate(samples.lengths.tolist()):
        expected = samples.features[index, :length]
        frames = stored.sample(index)
        assert frames.shape == expected.shape and frames.dtype == torch.float32
        bound = 2**-11 * (expected - generator.mean).abs() + 1e-5 * (1 + expected.abs())
        assert ((frames - expected).abs() <= bound).all()
        torch.testing.assert_close(stored.mean(index)[0], expected.mean(dim=0), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(stored.soft_label(index), samples.soft_labels[index], rtol=1e-5, atol=1e-6)
    assert not rest_in(store)


def test_means_are_those_of_float32_frames_to_the_bit(generator, store):
    stored = store.get(generator, COUNTS, 4, 0, "generator", True)
    expected = generator.sample({"counts": COUNTS}, seed=4).features.mean(dim=1)
    assert torch.equal(torch.cat([stored.mean(index) for index in range(6)]), expected)
    rounded = torch.stack([stored.sample(index).mean(dim=0) for index in range(6)])
    assert not torch.equal(rounded, expected)


def test_frames_of_any_size_can_be_kept(tmp_path, store):
    """float16 ends at 65504; features need not."""
    generator = tiny_generator()
    generator.mean, generator.std = generator.mean + 1e6, generator.std * 1e5
    generator.save(tmp_path / "file")
    loaded = Generator.load(tmp_path / "file")
    frames = store.get(loaded, COUNTS, 4, 0, "generator", False).sample(5)
    expected = loaded.sample({"counts": COUNTS}, seed=4, center=False).features[5]
    assert frames.isfinite().all() and ((frames - expected).abs() / loaded.std).max() < 0.01


def test_a_generator_without_a_teacher(tmp_path, store):
    tiny_generator(teacher=False).save(tmp_path / "file")
    stored = store.get(Generator.load(tmp_path / "file"), **SET)
    assert stored.soft_labels is None and stored.soft_label(0) is None


def test_a_stored_set_goes_to_another_process_by_its_folder(generator, store):
    stored = store.get(generator, **SET)
    data = pickle.dumps(stored)
    assert len(data) < 500 and torch.equal(pickle.loads(data).sample(3), stored.sample(3))


# the generator's file


def test_digest(file, tmp_path):
    import hashlib

    assert tiny_generator().digest is None
    expected = hashlib.sha256(file.read_bytes()).hexdigest()
    path = shutil.copy(file, tmp_path / "copy")
    assert Generator.load(path).digest == expected
    before, first = Generator.load(path), Generator.load(path)
    assert first.digest == expected
    tiny_generator().save(path)
    assert first.digest == expected  # known by now
    with pytest.raises(UserError, match="no longer the generator file that was loaded"):
        _ = before.digest
    path.unlink()
    with pytest.raises(UserError, match="no longer"):
        _ = before.digest


def test_a_generator_made_in_memory_has_no_store(store):
    with pytest.raises(UserError, match="made in memory"):
        store.get(tiny_generator(), **SET)


# keys


@pytest.mark.parametrize("change", [
    {"counts": [2, 3, 1]}, {"seed": 5}, {"epoch": 1}, {"lengths": "corpus"}, {"center": False}])
def test_each_part_of_the_key_alone_gives_another_set(generator, store, drawn, change):
    one, other = store.get(generator, **SET), store.get(generator, **{**SET, **change})
    assert one.folder != other.folder and len(sets_in(store)) == 2
    assert not all(torch.equal(one.sample(index), other.sample(index)) for index in range(6))
    drawn.clear()
    store.get(generator, **SET), store.get(generator, **{**SET, **change})
    assert drawn == []


def test_the_way_is_in_the_key_and_sets_of_before_it_was_are_found():
    """By its former name, so that those of any way are found too."""
    key = SetKey("0", (2, 1, 3), 4, 0, "generator", True, False, 1)
    before = {"generator": "0", "counts": [2, 1, 3], "seed": 4, "epoch": 0, "lengths": "generator", "center": True,
              "bfloat16": False, "format": 1}
    assert json.loads(key.to_json()) == before
    assert json.loads(key._replace(way=2).to_json()) == {**before, "movement": 2}
    assert (key.name(), key._replace(way=2).name()) == ("0c84122df9595521f1250686", "febdac4488d0964633dbb431")


def test_another_file_precision_or_format_is_another_set(generator, store, tmp_path):
    tiny_generator(calibration=False).save(tmp_path / "other")
    key = key_of(generator, **SET)
    assert key == SetKey(generator.digest, tuple(COUNTS), 4, 0, "generator", True, False, FORMAT)
    keys = [key, key_of(Generator.load(tmp_path / "other"), **SET), key._replace(bfloat16=True),
            key._replace(format=FORMAT + 1)]
    assert len({item.name() for item in keys}) == 4


def test_bfloat16_is_another_set_where_the_processor_has_it(file, generator):
    half = Generator.load(file, options=DrawOptions(bfloat16=True))
    expected = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert (key_of(half, **SET) != key_of(generator, **SET)) == expected


# damage


def cut(path):
    os.truncate(path, path.stat().st_size - 1)


def lengthen(path):
    path.write_bytes(path.read_bytes() + b"0")


def foreign(path):
    about = json.loads(path.read_text())
    about["key"]["seed"] += 1
    path.write_text(json.dumps(about))


@pytest.mark.parametrize("name, damage", [
    ("frames", cut), ("means", cut), ("offsets", cut), ("labels", cut), ("soft_labels", cut), ("set.json", cut),
    ("frames", lengthen), ("frames", lambda path: path.unlink()), ("set.json", lambda path: path.unlink()),
    ("set.json", foreign), ("set.json", lambda path: path.write_text("[]")),
    ("set.json", lambda path: path.write_text("{}")),
    ("offsets", lambda path: path.write_bytes(b"\1" * path.stat().st_size))])
def test_a_damaged_or_foreign_set_is_drawn_anew(generator, store, drawn, name, damage):
    first = store.get(generator, **SET)
    expected = torch.stack([first.sample(index) for index in range(6)])
    damage(first.folder / name)
    drawn.clear()
    again = store.get(generator, **SET)
    assert drawn == list(range(6)) and again.folder == first.folder
    assert torch.equal(torch.stack([again.sample(index) for index in range(6)]), expected)
    assert not rest_in(store) and len(sets_in(store)) == 1


def test_a_drawing_that_fails_leaves_nothing(generator, store, monkeypatch):
    finish, calls = generator.finish, []

    def fails(*arguments):
        calls.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(generator, "finish", fails)
    with pytest.raises(KeyboardInterrupt):
        store.get(generator, **SET)
    assert calls and not sets_in(store) and not rest_in(store)
    monkeypatch.setattr(generator, "finish", finish)
    assert len(store.get(generator, **SET)) == 6


def test_what_a_killed_process_left_goes(generator, store):
    name = key_of(generator, **SET).name()
    store.folder.mkdir(parents=True)
    for left in (f".{name}.0123", ".0123456789.0123"):
        (store.folder / left).mkdir()
        (store.folder / left / "frames").write_bytes(b"0" * 10)
    store.get(generator, **SET)
    assert not rest_in(store)


def test_a_folder_that_cannot_be_written(generator, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="could not be kept.*without a store"):
        SampleStore(tmp_path / "file" / "sets").get(generator, **SET)


# several processes


def _get(folder, file, queue, barrier):
    """Each process looks for the set before one of them draws it."""
    torch.set_num_threads(1)
    drawn, raw, find = [], Generator.raw, SampleStore.find

    def logged(self, labels, indices, *rest):
        drawn.extend(indices)
        return raw(self, labels, indices, *rest)

    def find_together(self, key):
        SampleStore.find = find
        stored = find(self, key)
        barrier.wait(60)
        return stored

    SampleStore.find = find_together
    Generator.raw = logged
    stored = SampleStore(folder).get(Generator.load(file), **SET)
    queue.put((len(drawn), stored.sample(5).numpy().tolist()))


def test_two_processes_at_once_draw_one_set(file, store):
    context = multiprocessing.get_context("fork")
    queue, barrier = context.Queue(), context.Barrier(2)
    processes = [context.Process(target=_get, args=(store.folder, file, queue, barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    (one, frames), (other, same) = (queue.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(60)
    assert {one, other} == {0, 6} and frames == same
    assert len(sets_in(store)) == 1 and not rest_in(store)


def test_without_locks_the_first_to_come_wins(generator, store, monkeypatch):
    """As on a file system that has none: what was drawn besides is thrown away, and the set in its place stays."""
    import fcntl

    def refuse(*_):
        raise OSError("no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    first = store.get(generator, **SET)
    inode = first.folder.stat().st_ino
    second = SampleStore(store.folder)._draw(generator, key_of(generator, **SET), alone=False)
    assert second.folder == first.folder and second.folder.stat().st_ino == inode
    assert torch.equal(first.sample(2), second.sample(2)) and not rest_in(store)


def test_a_set_takes_the_place_of_one_that_is_not_whole(generator, store, tmp_path):
    key = key_of(generator, **SET)
    whole = store.get(generator, **SET).folder
    shutil.copytree(whole, tmp_path / "new")
    cut(whole / "frames")
    publish(tmp_path / "new", whole, key)
    assert len(StoredSet.open(whole, key)) == 6 and not (tmp_path / "new").exists()


# size


def test_sets_longest_unused_are_removed(generator, store):
    first = store.get(generator, **SET).folder
    size = sum(path.stat().st_size for path in first.iterdir())
    os.utime(first / "set.json", (0, 0))
    small = SampleStore(store.folder, gigabytes=3.5 * size / 1e9)
    folders = {}
    for seed in range(3):
        folders[seed] = small.get(generator, **{**SET, "seed": seed + 10}).folder
        os.utime(folders[seed] / "set.json", (seed + 1, seed + 1))
    assert sets_in(store) == sorted(folder.name for folder in folders.values())  # the first, the oldest, had to go
    kept = small.get(generator, **{**SET, "seed": 10})  # used again: now the youngest
    small.get(generator, **{**SET, "seed": 20})
    assert folders[1].name not in sets_in(store)
    assert kept.folder.name in sets_in(store) and len(sets_in(store)) == 3
    tiny = SampleStore(store.folder, gigabytes=1e-9)
    newest = tiny.get(generator, **{**SET, "seed": 30})
    assert sets_in(store) == [newest.folder.name]  # what was asked for is there, however small the store
    assert torch.equal(kept.sample(1), kept.sample(1))  # who has a set open keeps it


# as a dataset


def test_a_dataset_with_a_store(generator, store, drawn):
    """Its items are the stored set's, whoever asks first; a second dataset draws nothing."""
    data = GeneratedDataset(generator, {"counts": COUNTS}, seed=4, store=store)
    assert drawn == list(range(6)) and data.items is None
    again = GeneratedDataset(generator, {"counts": COUNTS}, seed=4, store=store.folder)
    assert drawn == list(range(6))
    plain = GeneratedDataset(generator, {"counts": COUNTS}, seed=4)
    for one, other, expected in zip(data, again, plain, strict=True):
        assert torch.equal(one.features, other.features)
        torch.testing.assert_close(one.features, expected.features, rtol=1e-3, atol=5e-3)
        assert torch.equal(one.soft_label, expected.soft_label)
        assert (one.label, one.name) == (expected.label, expected.name) and type(one.label) is int


@pytest.mark.parametrize("lengths", ["generator", "corpus"])
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("center", [True, "teaching"])
def test_means_alone(generator, store, monkeypatch, lengths, kept, center):
    """[1, D] of the float32 frames, with a store and without, whether or not a set's frames fit into memory."""
    from s3prl_dd.generator import dataset

    expected = [frames.features.mean(dim=0, keepdim=True)
                for frames in GeneratedDataset(generator, {"counts": COUNTS}, 4, False, lengths, center)]
    monkeypatch.setattr(dataset, "KEPT_BYTES", 10**9 if kept else 0)
    options = {"seed": 4, "lengths": lengths, "center": center, "means": True}
    stored = GeneratedDataset(generator, {"counts": COUNTS}, store=store, **options)
    drawn = GeneratedDataset(generator, {"counts": COUNTS}, **options)
    for one, other, mean in zip(stored, drawn, expected, strict=True):
        assert one.features.shape == (1, 10) and one.name == other.name
        torch.testing.assert_close(one.features, mean, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(other.features, mean, rtol=1e-5, atol=1e-5)
    if lengths == "generator":
        assert all(torch.equal(item.features, mean) for item, mean in zip(stored, expected, strict=True))


def test_resample_k_goes_round_k_sets(generator, store, drawn):
    data = GeneratedDataset(generator, {"counts": COUNTS}, seed=4, resample=3, store=store)
    seen = []
    for epoch in range(7):
        data.set_epoch(epoch)
        assert data[1].name == f"generated-{epoch % 3}-1"
        seen.append(data[1].features)
    assert len(drawn) == 18 and len(sets_in(store)) == 3
    for epoch in range(7):
        assert torch.equal(seen[epoch], seen[epoch % 3]) and not torch.equal(seen[epoch], seen[(epoch + 1) % 3])
    unstored = GeneratedDataset(generator, {"counts": COUNTS}, seed=4, resample=3)
    unstored.set_epoch(5)
    assert torch.equal(unstored[1].features, generator.sample({"counts": COUNTS}, seed=4, epoch=2).features[1])


@pytest.mark.filterwarnings("ignore:This DataLoader will create", "ignore:This process")
def test_worker_processes_read_the_stored_set(generator, store):
    data = GeneratedDataset(generator, {"counts": COUNTS}, seed=4, resample=True, store=store)
    data.set_epoch(2)
    copied = pickle.loads(pickle.dumps(data))
    assert torch.equal(copied[4].features, data[4].features)
    loader = DataLoader(data, batch_size=3, num_workers=1, collate_fn=data.collate)
    batches = [batch.features for batch in loader]
    assert torch.equal(torch.cat(batches), torch.stack([data[index].features for index in range(6)]))


def test_a_set_that_could_not_be_drawn_is_tried_again(generator, store, monkeypatch):
    data = GeneratedDataset(generator, {"counts": COUNTS}, resample=True, store=store)
    monkeypatch.setattr(store, "get", lambda *_: (_ for _ in ()).throw(UserError("no room")))
    with pytest.raises(UserError, match="no room"):
        data.set_epoch(1)
    monkeypatch.undo()
    data.set_epoch(1)
    assert data[0].name == "generated-1-0"

"""The feature store: what is written, resumed, selected and refused."""

import json
import os
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.disks import limit_files
from support.gauss import forked

from s3prl_dd.corpora.metadata import Metadata, Utterance
from s3prl_dd.errors import UserError
from s3prl_dd.features.store import MEANS, Entry, FeatureStore, StoreWriter
from s3prl_dd.files import file_digest
from s3prl_dd.generator.header import Provenance

ABOUT = Provenance(upstream="made", upstream_ckpt_digest=None, selection="hidden_states", layer=None, normalize=False,
                   layer_weights=[0.25, 0.75], dim=3, rate=320)
GOLDEN = "77a8786460d746828615fecedade38a1ad421cd6150788e75ac48cede8e7bd5b"  # 0 .. 5 in half precision
ITEMS = [Utterance(f"a/{name}.wav", "neu", "s1") for name in ("ä", "b", "c", "d")]


def frames_of(number, length=None):
    return torch.randn(length or 2 + number, 3, generator=torch.Generator().manual_seed(number))


def fill(folder, dtype="float16", items=range(4)):
    with StoreWriter(folder, ABOUT, dtype) as writer:
        for number in items:
            if ITEMS[number].path not in writer.done:
                writer.add(ITEMS[number], frames_of(number))
    return FeatureStore(folder)


@pytest.mark.parametrize("dtype, size", [("float16", 2), ("float32", 4)])
def test_round_trip(tmp_path, dtype, size):
    store = fill(tmp_path, dtype)
    assert len(store) == 4 and store.dim == 3 and store.lengths.tolist() == [2, 3, 4, 5] and store.provenance == ABOUT
    assert (tmp_path / "features.bin").stat().st_size == 14 * 3 * size
    for number in range(4):
        assert store[number].dtype == torch.float32
        assert torch.equal(store[number], frames_of(number).half().float() if dtype == "float16" else frames_of(number))
    assert store.entries[1] == Entry(id="a/b.wav", label="neu", speaker="s1", frames=3)
    chosen = Metadata({"neu": 0}, (ITEMS[2], ITEMS[0]))
    assert store.select(chosen) == [2, 0]
    torch.testing.assert_close(store.means([2, 0]), torch.stack([store[2].mean(0), store[0].mean(0)]))
    with pytest.raises(UserError, match="no features of 'a/other.wav'"):
        store.select(Metadata({"neu": 0}, (Utterance("a/other.wav", "neu", "s"),)))


def whole(folder):
    return [(folder / name).read_bytes() for name in ("index.jsonl", "features.bin", "header.json")]


def interrupted(folder, number=3):
    """A store that a kill left after `number` utterances."""
    writer = StoreWriter(folder, ABOUT)
    for item in range(number):
        writer.add(ITEMS[item], frames_of(item))
    writer.index.close(), writer.data.close()
    return folder


@pytest.mark.parametrize("index_cut", [0, 1, 2, 15, 70])
@pytest.mark.parametrize("data_cut", [0, 1, 5, 24, 40])
def test_resumes_after_a_kill_in_the_middle_of_writing(tmp_path, index_cut, data_cut):
    """Cut bytes off either file (1 off the index: only its newline): the rest is written anew, the end is the same."""
    fill(tmp_path / "whole")
    folder = interrupted(tmp_path / "cut")
    for name, cut in (("index.jsonl", index_cut), ("features.bin", data_cut)):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:len(data) - cut])
    with pytest.raises(UserError, match="did not finish"):
        FeatureStore(folder)
    store = fill(folder)
    assert whole(folder) == whole(tmp_path / "whole")
    assert torch.equal(store[3], frames_of(3).half().float())


def test_resumes_where_data_came_before_its_index_line(tmp_path):
    folder = interrupted(tmp_path / "cut")
    with open(folder / "features.bin", "ab") as file:
        file.write(b"12345678")
    fill(folder), fill(tmp_path / "whole")
    assert whole(folder) == whole(tmp_path / "whole")


def test_an_exception_leaves_the_store_unfinished(tmp_path):
    with pytest.raises(RuntimeError):
        with StoreWriter(tmp_path, ABOUT) as writer:
            writer.add(ITEMS[0], frames_of(0))
            raise RuntimeError
    with pytest.raises(UserError, match="did not finish"):
        FeatureStore(tmp_path)
    assert len(fill(tmp_path)) == 4


def test_a_finished_store_takes_more(tmp_path):
    fill(tmp_path, items=range(2))
    assert len(fill(tmp_path)) == 4


@pytest.mark.parametrize("change, told", [
    ({"upstream": "hubert"}, "upstream 'made' not 'hubert'"),
    ({"layer_weights": [1.0, 0.0]}, "layer_weights [0.25, 0.75] not [1.0, 0.0]"),
    ({"dim": 4}, "dim 3 not 4")])
def test_other_provenance_is_refused(tmp_path, change, told):
    fill(tmp_path)
    before = whole(tmp_path)
    with pytest.raises(UserError, match="holds features made otherwise") as caught:
        StoreWriter(tmp_path, replace(ABOUT, **change))
    assert told in str(caught.value) and whole(tmp_path) == before
    with pytest.raises(UserError, match="dtype 'float16' not 'float32'"):
        StoreWriter(tmp_path, ABOUT, "float32")


def test_another_version_of_s3prl_goes_on(tmp_path):
    """S3PRL's version tells and does not count; the header keeps what the first features were made with."""
    with StoreWriter(tmp_path, replace(ABOUT, s3prl="0.4.17")) as writer:
        writer.add(ITEMS[0], frames_of(0))
    store = fill(tmp_path)
    assert len(store) == 4 and store.provenance.s3prl == "0.4.17"


@pytest.mark.parametrize("frames, dtype, told", [
    (torch.full((2, 3), 7e4), "float16", "too large for float16"),
    (torch.full((2, 3), float("nan")), "float32", "not finite"),
    (torch.zeros(0, 3), "float16", "empty"),
    (torch.zeros(2, 4), "float16", "expected \\[T, 3\\]"),
    (torch.zeros(3), "float16", "expected")])
def test_bad_features_are_refused(tmp_path, frames, dtype, told):
    with StoreWriter(tmp_path, ABOUT, dtype) as writer:
        with pytest.raises(UserError, match=told) as caught:
            writer.add(ITEMS[1], frames)
        assert "a/b.wav" in str(caught.value) and not writer.done
        writer.add(ITEMS[1], torch.full((2, 3), 65504.0))
    assert FeatureStore(tmp_path)[0].max() == 65504


def test_damaged_store_is_refused(tmp_path):
    fill(tmp_path)
    data = (tmp_path / "features.bin").read_bytes()
    (tmp_path / "features.bin").write_bytes(data[:-6])
    with pytest.raises(UserError, match="78 bytes, expected 84"):
        FeatureStore(tmp_path)
    (tmp_path / "features.bin").unlink()
    with pytest.raises(UserError, match="0 bytes, expected 84"):
        FeatureStore(tmp_path)
    (tmp_path / "index.jsonl").write_text("{not json}\n")
    with pytest.raises(UserError, match="not JSON"):
        FeatureStore(tmp_path)
    with pytest.raises(UserError, match="no such feature store"):
        FeatureStore(tmp_path / "none")


def test_select_and_means_are_of_the_right_utterances(tmp_path):
    """Positions and means come in the metadata's order, not the store's."""
    store = fill(tmp_path, "float32")
    metadata = Metadata({"neu": 0}, (ITEMS[3], ITEMS[0], ITEMS[2]))
    assert store.select(metadata) == [3, 0, 2]
    expected = torch.stack([frames_of(number).mean(dim=0) for number in (3, 0, 2)])
    torch.testing.assert_close(store.means(store.select(metadata)), expected)


def test_bytes_on_disk_stay(tmp_path):
    """Stores of other versions are read: the files' bytes and keys are a contract."""
    with StoreWriter(tmp_path, ABOUT) as writer:
        writer.add(Utterance("ä.wav", "neu", "s1"), torch.arange(6.0).reshape(2, 3))
    assert file_digest(tmp_path / "features.bin") == GOLDEN
    assert (tmp_path / "index.jsonl").read_bytes() == (
        b'{"id": "\\u00e4.wav", "label": "neu", "speaker": "s1", "frames": 2}\n')
    assert json.loads((tmp_path / "header.json").read_text()) == {
        "features": asdict(ABOUT), "dtype": "float16", "complete": True}


def test_header_of_the_first_version_is_read(tmp_path):
    fill(tmp_path)
    (tmp_path / "header.json").write_text(json.dumps({
        "features": {"upstream": "moonshine", "upstream_ckpt_digest": "94e9", "selection": "hidden_states",
                     "layer": None, "normalize": False, "dim": 3, "rate": 384, "s3prl": "0.4.18",
                     "layer_weights": [0.5, 0.5]},
        "dtype": "float16", "complete": True}))
    store = FeatureStore(tmp_path)
    assert store.provenance.upstream == "moonshine" and store.provenance.rate == 384 and len(store) == 4


@pytest.mark.parametrize("text, told", [
    ("[]", "expected a JSON object"), ("{", "does not parse"), ('{"features": {"upstream": "x"}}', "features"),
    ('{"features": null, "dtype": "int8"}', "features")])
def test_damaged_header_is_refused(tmp_path, text, told):
    fill(tmp_path)
    (tmp_path / "header.json").write_text(text)
    with pytest.raises(UserError, match="header.json") as error:
        FeatureStore(tmp_path)
    assert told in str(error.value)


def test_index_is_plain_json(tmp_path):
    fill(tmp_path)
    lines = (tmp_path / "index.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [item.path for item in ITEMS]


def test_entries_are_read_by_place(tmp_path):
    entries = fill(tmp_path).entries
    assert len(entries) == 4 and entries[-1] == list(entries)[3] == Entry("a/d.wav", "neu", "s1", 5)
    assert entries.ids == [item.path for item in ITEMS] and entries.frames.tolist() == [2, 3, 4, 5]


@pytest.mark.parametrize("line", [b'{"id": "a"}', b"[1]", b'{"id": "a", "label": "b", "speaker": "c", "frames": "d"}',
                                  b'{"id": 1, "label": "b", "speaker": "c", "frames": 2}', b"\xff"])
def test_damaged_lines_are_told(tmp_path, line):
    fill(tmp_path)
    (tmp_path / "index.jsonl").write_bytes(line + b"\n")
    with pytest.raises(UserError, match="index.jsonl: a line is not JSON with id, label"):
        FeatureStore(tmp_path)


def test_frames_are_a_view_of_the_file_and_can_be_let_go(tmp_path):
    store = fill(tmp_path)
    assert store.frames.base is not None and not store.frames.flags.writeable and not store.frames.flags.owndata
    before = store[2]
    store.release()
    assert torch.equal(store[2], before)


# means kept beside the features

@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_kept_means_are_those_of_the_frames_bit_for_bit(tmp_path, dtype):
    store = fill(tmp_path, dtype)
    expected = torch.stack([store[place].mean(dim=0) for place in (3, 0, 3)])
    assert (tmp_path / MEANS).is_file() and torch.equal(store.means([3, 0, 3]), expected)
    (tmp_path / MEANS).unlink()
    means = FeatureStore(tmp_path).means(torch.tensor([3, 0, 3]))
    assert torch.equal(means, expected) and means.dtype == torch.float32
    assert store.means([]).shape == (0, 3)


def forge(folder, means, of=None):
    """Means that nobody computed, under a key: the right one where `of` is None."""
    save_file({"means": means}, folder / MEANS, metadata={"of": of or FeatureStore(folder)._fingerprint()})


def test_kept_means_are_read_and_not_computed(tmp_path):
    fill(tmp_path)
    forge(tmp_path, torch.arange(12.0).reshape(4, 3))
    assert FeatureStore(tmp_path).means([1]).tolist() == [[3.0, 4.0, 5.0]]


def cut_means(folder):
    (folder / MEANS).write_bytes((folder / MEANS).read_bytes()[:-5])


def other_frames(folder):
    """Another store's means: of the same utterances and lengths."""
    data = folder / "features.bin"
    data.write_bytes(bytes(data.stat().st_size - 1) + b"\x3c")


def other_labels(folder):
    index = folder / "index.jsonl"
    index.write_text(index.read_text().replace("neu", "sad"))


def other_header(folder):
    header = json.loads((folder / "header.json").read_text())
    header["features"]["layer_weights"] = [1.0, 0.0]
    (folder / "header.json").write_text(json.dumps(header))


@pytest.mark.parametrize("damage", [cut_means, other_frames, other_labels, other_header,
                                    lambda folder: (folder / MEANS).write_bytes(b""),
                                    lambda folder: forge(folder, torch.ones(4, 3), "another store")])
def test_stale_and_cut_means_are_ignored(tmp_path, damage):
    fill(tmp_path)
    damage(tmp_path)
    store = FeatureStore(tmp_path)
    assert torch.equal(store.means([2, 1]), torch.stack([store[2].mean(dim=0), store[1].mean(dim=0)]))


def test_a_store_that_grows_gets_new_means(tmp_path):
    fill(tmp_path, items=range(2))
    store = fill(tmp_path)
    assert torch.equal(store._kept_means, torch.stack([store[place].mean(dim=0) for place in range(4)]))


def test_a_full_disk_leaves_a_whole_store_without_means(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr("s3prl_dd.features.store.save_file", full)
    store = fill(tmp_path)
    assert len(store) == 4 and sorted(path.name for path in tmp_path.iterdir()) == [
        "features.bin", "header.json", "index.jsonl"]
    assert torch.equal(store.means([1])[0], store[1].mean(dim=0))


def test_long_passes_let_pages_go(tmp_path, monkeypatch):
    """Streaming counts the bytes that it read; what it gives does not depend on that."""
    store, released = fill(tmp_path), []
    monkeypatch.setattr("s3prl_dd.features.store.RELEASE_BYTES", 30)
    monkeypatch.setattr(FeatureStore, "release", lambda self: released.append(1))
    assert torch.equal(store._average(np.arange(4)), store.means(range(4))) and len(released) == 3


LONG = 50
"""Frames of an utterance, 600 bytes: header.json and index.jsonl are smaller than two."""


def fill_long(folder):
    with StoreWriter(folder, ABOUT, "float32") as writer:
        for number, item in enumerate(ITEMS):
            if item.path not in writer.done:
                writer.add(item, frames_of(number, LONG))
    return FeatureStore(folder)


def fill_with_little_room(folder, nbytes):
    limit_files(nbytes)
    try:
        fill_long(folder)
    except UserError as error:
        told = str(error)
        os._exit(3 if f"{folder}/features.bin: could not be written (File too large). Make room" in told else 4)
    os._exit(0)


@pytest.mark.parametrize("nbytes", [1000, 1200, 1900])
def test_a_full_disk_is_one_line_and_the_next_call_goes_on(tmp_path, nbytes):
    process = forked().Process(target=fill_with_little_room, args=(tmp_path / "store", nbytes))
    process.start()
    process.join(60)
    assert process.exitcode == 3
    store = fill_long(tmp_path / "store")
    assert all(torch.equal(store[number], frames_of(number, LONG)) for number in range(4))


def test_a_second_writer_is_refused(tmp_path):
    with StoreWriter(tmp_path, ABOUT):
        with pytest.raises(UserError, match="another process is writing features there"):
            StoreWriter(tmp_path, ABOUT)
    fill(tmp_path)
    assert len(FeatureStore(tmp_path)) == 4

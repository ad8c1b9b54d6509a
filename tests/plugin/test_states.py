"""What an upstream makes of a recording: kept under a key that says how and from what, filled before runs begin."""

import os
import shutil

import pytest
import torch
from omegaconf import OmegaConf
from support.upstreams import counting

from s3prl_dd.config import CONFIGS, read_yaml
from s3prl_dd.corpora.audio import load_audio
from s3prl_dd.errors import UserError
from s3prl_dd.features.spec import FeatureSpec
from s3prl_dd.plugin import states as module
from s3prl_dd.plugin.placeholder import Recording
from s3prl_dd.plugin.states import Listener, describe, fill, reads_means, state_key
from s3prl_dd.plugin.store import StateStore
from s3prl_dd.pool.kinds import HEADS


@pytest.fixture
def path(corpus, tmp_path):
    """A recording that a test may change."""
    return str(shutil.copy(corpus / "audio" / "speaker0" / "neu0.wav", tmp_path / "x.wav"))


def key_of(made_by, path, **part):
    return state_key(made_by, Recording.of("", {"path": path, **part}))


def test_the_key_holds_all_that_makes_states(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.pt").write_text(name)
    a, b = str(tmp_path / "a.pt"), str(tmp_path / "b.pt")
    logits = torch.zeros(3)
    plain = FeatureSpec("fbank")
    keys = {
        describe(plain, "means"), describe(plain, "states"), describe(plain, "means", hub="huggingface"),
        describe(FeatureSpec("mel"), "means"), describe(FeatureSpec("fbank", a), "means"),
        describe(FeatureSpec("fbank", b), "means"), describe(FeatureSpec("fbank", a, b), "means"),
        describe(FeatureSpec("fbank", selection="last_hidden_state"), "means"),
        describe(FeatureSpec("fbank", layer=0), "means"), describe(FeatureSpec("fbank", layer=1), "means"),
        describe(plain, "frames", layer_weights=logits), describe(plain, "frames", layer_weights=logits + 1),
        describe(FeatureSpec("fbank", normalize=True), "frames", layer_weights=logits),
    }
    assert len(keys) == 13
    assert describe(plain, "means", layer_weights=logits) == describe(plain, "means")  # means are of each state
    shutil.copy(a, tmp_path / "copy.pt")
    assert describe(FeatureSpec("fbank", a), "means") == describe(FeatureSpec("fbank", str(tmp_path / "copy.pt")),
                                                                  "means")


def test_the_key_holds_the_file(path, tmp_path, monkeypatch):
    """Its path, its size and its time, and which part of it is meant."""
    key = key_of("made", path)
    assert key_of("otherwise", path) != key
    monkeypatch.chdir(tmp_path)
    assert key_of("made", "x.wav") == key
    assert len({key, *(key_of("made", path, **part) for part in ({"start": 0.1}, {"end": 0.1}))}) == 3
    about = os.stat(path)
    shutil.copy2(path, tmp_path / "y.wav")
    assert os.stat(tmp_path / "y.wav").st_mtime_ns == about.st_mtime_ns and key_of("made", "y.wav") != key
    with open(path, "ab") as file:
        file.write(b"more")
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    longer = key_of("made", path)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    assert len({key, longer, key_of("made", path)}) == 3


def test_a_second_run_neither_decodes_nor_hears(path, tmp_path, monkeypatch):
    upstream, featurizer = counting()
    listener = Listener(upstream, featurizer, "means", store=StateStore(tmp_path, 1e6), made_by="x")
    first = listener.listen(Recording(path))
    monkeypatch.setattr(Recording, "load", None)
    later = Listener(None, featurizer, "means", store=StateStore(tmp_path, 1e6), made_by="x")
    second = later.listen(Recording(path))
    assert torch.equal(first, second) and first.shape == (3, 1, 10)


@pytest.mark.parametrize("limit, kept", [(1e6, {"states", "means", "frames"}), (30_000, {"means", "frames"})])
def test_all_states_leave_half_of_a_store_to_others(limit, kept, path, tmp_path):
    """They are many, and would drive means and weighted sums out."""
    upstream, featurizer = counting()
    store = StateStore(tmp_path, limit)
    assert store.has_room(8_000)  # more than the states take
    for kind in ("states", "means", "frames"):
        states = Listener(upstream, featurizer, kind, store=store, made_by=kind).listen(Recording(path))
        assert states.nbytes < 8_000 and store.holds(state_key(kind, Recording(path))) == (kind in kept), kind


def test_a_file_that_was_touched_is_heard_again(path, tmp_path):
    upstream, featurizer = counting()
    listener = Listener(upstream, featurizer, "means", store=StateStore(tmp_path, 1e6), made_by="x")
    runs = upstream.runs
    listener.listen(Recording(path))
    listener.listen(Recording(path))
    assert upstream.runs == runs + 1
    os.utime(path, ns=(1, 1))
    listener.listen(Recording(path))
    assert upstream.runs == runs + 2


def test_one_layer_and_a_single_output(path):
    wav = torch.from_numpy(load_audio(path))
    for selection, layer, times in (("hidden_states", 1, 2), ("last_hidden_state", None, 3)):
        upstream, featurizer = counting(selection=selection, layer=layer)
        for kind in ("states", "frames"):
            heard = Listener(upstream, featurizer, kind).hear(wav)
            expected = upstream([wav])["hidden_states"][times - 1][0, :round(len(wav) / 320)]
            assert torch.equal(heard, expected[None])


def test_fill_hears_what_is_lacking(corpus, tmp_path, monkeypatch):
    """And what a run would hear itself, bit for bit."""
    files = [Recording(str(path)) for path in sorted((corpus / "audio" / "speaker0").glob("*.wav"))]
    spec, store = FeatureSpec("fbank"), StateStore(tmp_path, 1e7)
    assert fill(spec, files[:5], store) == 5 and fill(spec, files, store) == len(files) - 5
    encoder = module.Encoder(spec)
    for recording in files:
        kept = store.read(state_key(describe(spec, "means"), recording))
        assert torch.equal(kept[0, 0], encoder.encode([recording.load()])[0].mean(dim=0))
    monkeypatch.setattr(module, "Encoder", None)
    assert fill(spec, files, store) == 0


def test_fill_ends_where_the_store_is_full(corpus, tmp_path):
    files = [Recording(str(path)) for path in sorted((corpus / "audio" / "speaker0").glob("*.wav"))]
    store = StateStore(tmp_path, 26_000)
    heard = fill(FeatureSpec("fbank"), files, store)
    assert 0 < heard < len(files)
    assert all(store.holds(state_key(describe(FeatureSpec("fbank"), "means"), item)) for item in files[:heard])


def test_fill_names_what_is_no_audio(path, tmp_path):
    with open(path, "wb") as file:
        file.write(b"no audio")
    with pytest.raises(UserError, match="x.wav: cannot be used as audio"):
        fill(FeatureSpec("fbank"), [Recording(path)], StateStore(tmp_path, 1e6))


def test_which_heads_read_means_alone():
    for name in ("emotion", "distilled_emotion", "voxceleb1"):
        head = read_yaml(CONFIGS / f"{name}.yaml")["downstream_expert"]["modelrc"]
        assert reads_means(head)
        assert not reads_means({**head, "select": "DeepModel"})
        for change in ({"pooling": "AttentivePooling"}, {"pre_net": {"select": "FrameLevel"}}):
            assert not reads_means({**head, "UtteranceLevel": {**head["UtteranceLevel"], **change}})


def test_heads_by_name_read_what_they_are_said_to_hear():
    superb = read_yaml(CONFIGS / "emotion.yaml")["downstream_expert"]["modelrc"]
    for kind in HEADS.values():
        head = OmegaConf.create(superb)
        for key, value in kind.modelrc.items():
            OmegaConf.update(head, key, value)
        assert reads_means(OmegaConf.to_container(head)) is not kind.hears_frames, kind.name

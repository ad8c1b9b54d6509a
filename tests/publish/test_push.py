"""Push and read back against a stand-in of the Hub; what is refused before anything is sent; changed files."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import yaml
from safetensors.torch import load_file
from support.hub import environment_of, lead_to, point_to
from support.tiny_generator import tiny_generator

from s3prl_dd.cli import main
from s3prl_dd.errors import UserError
from s3prl_dd.files import file_digest
from s3prl_dd.generator import Generator, read_header
from s3prl_dd.generator.hub import fetch
from s3prl_dd.publish.push import push
from s3prl_dd.publish.terms import terms_of

REPO = "someone/tones"


@pytest.fixture
def file(tmp_path):
    """A generator file of this version, without speakers' names."""
    generator = tiny_generator()
    header = generator.header
    generator.header = type(header)(**{**vars(header), "corpus": header.corpus.hiding_names()})
    generator.save(tmp_path / "tones.safetensors")
    return tmp_path / "tones.safetensors"


def test_what_is_pushed_is_read_back(hub, file):
    address = push(file, REPO)
    assert re.fullmatch(rf"hf://{REPO}@[0-9a-f]{{40}}", address)
    back, here = Generator.load(address), Generator.load(file)
    assert back.digest == file_digest(file)
    assert torch.equal(back.sample(5).features, here.sample(5).features)
    assert read_header(f"hf://{REPO}") == here.header


def test_the_repository(hub, file):
    push(file, REPO, private=True)
    files = hub.files(REPO)
    assert sorted(files) == ["README.md", "config.json", "generator.safetensors", "samples.png", "samples.safetensors"]
    assert REPO in hub.private and files["samples.png"][:4] == b"\x89PNG"
    assert files["generator.safetensors"] == file.read_bytes()
    about = json.loads(files["config.json"])
    assert about["sha256"] == file_digest(file) and about["labels"] == {"neu": 0, "ang": 1, "sad": 2}
    assert about["corpus"]["train_speakers"] == 2
    card = files["README.md"].decode()
    assert f'Generator.load("hf://{REPO}")' in card and "samples.png" in card
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "s3prl_dd"


def test_the_preview_is_some_samples(hub, file, tmp_path):
    push(file, REPO)
    (tmp_path / "samples").write_bytes(hub.files(REPO)["samples.safetensors"])
    samples = load_file(tmp_path / "samples")
    assert samples["labels"].bincount().tolist() == [24, 24, 24]
    assert torch.equal(samples["features"], Generator.load(file).sample(24).features)


def test_a_revision_is_a_branch(hub, file, tmp_path):
    push(file, REPO)
    other = tiny_generator(training={"step": 7})
    other.save(tmp_path / "other.safetensors")
    push(tmp_path / "other.safetensors", REPO, revision="second")
    assert read_header(f"hf://{REPO}@second").training == {"step": 7}
    assert read_header(f"hf://{REPO}").training == Generator.load(file).header.training
    push(file, REPO, revision="second")
    assert fetch(f"hf://{REPO}@second").digest == file_digest(file)


def test_speakers_of_an_older_file_are_not_named(hub, tmp_path):
    """Files of older versions hold names; what is pushed holds digests, and draws the same samples."""
    tiny_generator().save(tmp_path / "old.safetensors")
    assert read_header(tmp_path / "old.safetensors").corpus.train_speakers == ["s1", "s2"]
    address = push(tmp_path / "old.safetensors", REPO)
    for data in hub.files(REPO).values():
        assert not re.search(rb"""["'\s]s[012][\\"',\s]""", data)
    pushed, here = Generator.load(address), Generator.load(tmp_path / "old.safetensors")
    assert pushed.header.corpus.hidden
    assert pushed.header.corpus.heard(["s0", "s1", "s2"]) == ["s1", "s2"]
    assert torch.equal(pushed.sample(3).features, here.sample(3).features)


# before anything is sent


@pytest.mark.parametrize("name", ["tones", "some/one/tones", "some one/tones", "someone/", "someone/a--b", "-a/b"])
def test_bad_names(hub, file, name):
    with pytest.raises(UserError, match="expected USER/NAME"):
        push(file, name)
    assert hub.calls == []


def test_no_token(hub, file, tmp_path, monkeypatch):
    lead_to(monkeypatch, hub, tmp_path / "other", token=None)
    with pytest.raises(UserError, match="no token of the Hub. Log in"):
        push(file, REPO)
    assert hub.calls == []


@pytest.mark.parametrize("terms, license", [
    ("given out by USC under a licence that is signed", "out under terms"), ("CC BY-NC-ND 4.0", "allows no adapted")])
def test_terms_that_may_forbid_it(hub, file, tmp_path, monkeypatch, terms, license):
    monkeypatch.setattr("s3prl_dd.publish.push.terms_for", lambda header, run: terms_of(terms))
    with pytest.raises(UserError, match=f"^{file}: made from .*{license}.*--may-share"):
        push(file, REPO)
    assert hub.calls == []
    push(file, REPO, may_share=True)
    assert REPO in hub.repos


def test_terms_of_a_corpus_that_is_known_by_name(hub, file, tmp_path):
    generator = Generator.load(file)
    generator.header = replace(generator.header, corpus=replace(generator.header.corpus, name="iemocap"))
    generator.save(tmp_path / "known.safetensors")
    assert main(["push", str(tmp_path / "known.safetensors"), REPO]) == 2 and hub.calls == []
    assert main(["push", str(tmp_path / "known.safetensors"), REPO, "--may-share"]) == 0


def test_a_corpus_of_unknown_terms_is_asked_for(hub, file, tmp_path):
    """Speech that may be anybody's; synthetic speech is nobody's."""
    generator = Generator.load(file)
    generator.header = replace(generator.header, corpus=replace(generator.header.corpus, name="mine", synthetic=False))
    generator.save(tmp_path / "mine.safetensors")
    with pytest.raises(UserError, match="Where you may, give --may-share"):
        push(tmp_path / "mine.safetensors", REPO)
    assert hub.calls == []
    push(tmp_path / "mine.safetensors", REPO, may_share=True)


def test_no_generator(hub, tmp_path):
    (tmp_path / "file").write_bytes(b"no")
    with pytest.raises(UserError, match="not a whole safetensors file"):
        push(tmp_path / "file", REPO)
    assert hub.calls == []


def test_a_wrong_token(hub, file, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(UserError, match=f"^{REPO}: ") as refused:
        push(file, REPO)
    assert "\n" not in str(refused.value) and hub.repos == {}


def test_no_network(hub, file, monkeypatch):
    """It is told at once: nothing is tried again, later each time, as the library's download does."""
    point_to(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("waits"))
    for act in (lambda: push(file, REPO), lambda: Generator.load(f"hf://{REPO}")):
        with pytest.raises(UserError, match="cannot be reached"):
            act()


def test_another_users_name(hub, file):
    with pytest.raises(UserError, match="the Hub refused .*rights"):
        push(file, "other/tones")


# reading


@pytest.mark.parametrize("address, said", [
    ("hf://someone/nothing", "no such repository"), (f"hf://{REPO}@nowhere", "no such revision"),
    ("hf://tones", "expected hf://USER/NAME"), ("hf://a/b/c", "expected hf://USER/NAME")])
def test_what_is_not_there(hub, file, address, said):
    push(file, REPO)
    with pytest.raises(UserError, match=said):
        Generator.load(address)


def test_other_repositories(hub, file):
    push(file, REPO)
    del hub.files(REPO)["config.json"]
    with pytest.raises(UserError, match="lacks generator.safetensors or config.json"):
        read_header(f"hf://{REPO}")


def test_a_tampered_file_is_refused(hub, file, tmp_path):
    """Another whole generator file in its place; the description says what was pushed."""
    push(file, REPO)
    tiny_generator(training={"step": 7}).save(tmp_path / "other")
    hub.commit(REPO, "main", {"generator.safetensors": (tmp_path / "other").read_bytes()})
    with pytest.raises(UserError, match="not the file that was pushed"):
        Generator.load(f"hf://{REPO}")


def test_a_tampered_copy_is_refused(hub, file):
    push(file, REPO)
    copy = fetch(f"hf://{REPO}").path.resolve()
    data = bytearray(copy.read_bytes())
    data[-1] ^= 1
    copy.write_bytes(data)
    with pytest.raises(UserError, match="not the file that was pushed"):
        Generator.load(f"hf://{REPO}")


def test_a_description_that_is_none_is_refused(hub, file):
    push(file, REPO)
    hub.commit(REPO, "main", {"config.json": b"[]"})
    with pytest.raises(UserError, match="its config.json says None"):
        Generator.load(f"hf://{REPO}")


def test_the_cache_serves_without_a_network(hub, file, monkeypatch):
    address = push(file, REPO)
    Generator.load(address)
    point_to(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert Generator.load(address).digest == file_digest(file)


# a run's pin


def test_a_run_keeps_its_file(hub, file, tmp_path):
    first = push(file, REPO)
    fetch(f"hf://{REPO}").pin(tmp_path)
    kept = json.loads((tmp_path / "generator.json").read_text())
    assert kept == {"generator": f"hf://{REPO}", "revision": first.split("@")[1], "sha256": file_digest(file)}
    fetch(first).pin(tmp_path)
    tiny_generator(training={"step": 7}).save(tmp_path / "other")
    push(tmp_path / "other", REPO)
    with pytest.raises(UserError, match=f"another file. Give {first} to go on"):
        fetch(f"hf://{REPO}").pin(tmp_path)
    assert json.loads((tmp_path / "generator.json").read_text()) == kept


# the verbs


def test_verbs(hub, file, tmp_path, capsys):
    assert main(["push", str(file), REPO]) == 0
    assert f"pushed hf://{REPO}@" in capsys.readouterr().out
    assert main(["inspect", f"hf://{REPO}"]) == 0
    assert "gan_1d" in capsys.readouterr().out
    assert main(["sample", f"hf://{REPO}", "--to", str(tmp_path / "set")]) == 0
    assert main(["push", str(file), "tones"]) == 2
    assert main(["card", f"hf://{REPO}"]) == 0
    assert f'Generator.load("hf://{REPO}")' in capsys.readouterr().out
    assert main(["push", f"hf://{REPO}", "someone/again"]) == 0
    assert hub.files("someone/again")["generator.safetensors"] == file.read_bytes()


@pytest.mark.slow
def test_endpoint_of_the_environment(hub, file, tmp_path):
    """As users set it, in a process of its own."""
    code = f"from s3prl_dd.cli import main; raise SystemExit(main(['push', {str(file)!r}, {REPO!r}]))"
    environment = {**os.environ, **environment_of(hub, tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "generator.safetensors" in hub.files(REPO)

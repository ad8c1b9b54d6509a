"""-d distilled_emotion on a generator of the Hub: it is fetched, pinned in the expdir, and no other one goes on."""

import dataclasses
import json

import pytest
from support.experts import distilled
from support.hub import lead_to, point_to, running_hub

from s3prl_dd.errors import UserError
from s3prl_dd.files import file_digest
from s3prl_dd.generator import Generator
from s3prl_dd.publish.push import push

REPO = "someone/tones"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with running_hub() as standin:
        lead_to(monkeypatch, standin, tmp_path / "hub")
        yield standin


def hidden(path, to, **training):
    """The same generator without names, and with another header."""
    generator = Generator.load(path)
    header = generator.header
    generator.header = dataclasses.replace(header, corpus=header.corpus.hiding_names(), training=training)
    generator.save(to)
    return to


def test_a_run_is_pinned_to_its_file(hub, corpus, tmp_path, fbank_generator, monkeypatch, capsys):
    file = hidden(fbank_generator, tmp_path / "file", step=1)
    address = push(file, REPO, may_share=True)
    expert = distilled(corpus, tmp_path / "run", f"hf://{REPO}")
    assert expert.generator.digest == file_digest(file)
    kept = json.loads((tmp_path / "run/generator.json").read_text())
    assert kept["sha256"] == file_digest(file) and address.endswith(kept["revision"])

    push(hidden(fbank_generator, tmp_path / "other", step=2), REPO, may_share=True)
    with pytest.raises(UserError, match="another file"):
        distilled(corpus, tmp_path / "run", f"hf://{REPO}")
    assert distilled(corpus, tmp_path / "run", address).generator.digest == file_digest(file)

    point_to(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(UserError, match="cannot be reached"):
        distilled(corpus, tmp_path / "new", "hf://someone/nothing")
    assert distilled(corpus, tmp_path / "new", "hf://someone/nothing", mode="evaluate").generator is None
    assert "evaluating on real audio" in capsys.readouterr().out

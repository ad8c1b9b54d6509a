"""The card: its YAML, terms, results, what it does not name, and that its Python runs."""

import dataclasses
import re

import pytest
import yaml
from support.published import contents, reported_run
from support.tiny_generator import tiny_generator

from s3prl_dd.cli import main
from s3prl_dd.corpora.prepare import CORPORA
from s3prl_dd.errors import UserError
from s3prl_dd.publish.card import card
from s3prl_dd.publish.terms import terms_by_name, terms_of


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return reported_run(tmp_path_factory.mktemp("card") / "run")


def front(text):
    """The YAML at the top."""
    return yaml.safe_load(text.split("---\n")[1])


def test_with_the_results_of_its_run(run):
    text = card(run.generator, run.out)
    metrics = front(text)["model-index"][0]["results"][0]["metrics"]
    assert {"type": "recall", "value": 77.0, "name": "UAR, heads on GAN samples, full size"} in metrics
    assert not any("real" in metric["name"] for metric in metrics)
    assert "reach 77.0 % UAR" in text and "| random real subset, 6 a class" in text


def test_a_name_that_would_command_a_terminal_is_shown_as_text(tmp_path):
    generator = tiny_generator()
    corpus = dataclasses.replace(generator.header.corpus, name="x\x1b[31m\nlicense: mit")
    generator.header = dataclasses.replace(generator.header, corpus=corpus)
    generator.save(tmp_path / "generator.safetensors")
    text = card(tmp_path / "generator.safetensors", None)
    assert "\x1b" not in text and "\nlicense: mit" not in text.split("---\n")[2]


def test_without_a_run(run):
    text = card(run.generator)
    assert "model-index" not in front(text) and "None were given to this card" in text
    assert front(text)["license"] == "unknown" and "not known" in text


def test_the_lines_to_load_it_run(run, monkeypatch, capsys):
    code, = re.findall(r"```python\n(.*?)```", card(run.generator), flags=re.DOTALL)
    assert len(code.strip().splitlines()) <= 5
    monkeypatch.chdir(run.out)
    exec(code, {})
    assert "torch.Size([200, 8," in capsys.readouterr().out


def test_no_speaker_is_named(run):
    speakers = {item.speaker for part in (run.fold.train, run.fold.dev, run.fold.test) for item in part.utterances}
    assert not re.search(rf"\b({'|'.join(speakers)})\b", card(run.generator, run.out, "someone/tones"))


def test_the_results_of_another_file_are_refused(run, tmp_path):
    other = reported_run(tmp_path / "other")
    other.generator.write_bytes(run.generator.read_bytes()[:-1] + b"\0")
    with pytest.raises(UserError, match="its generator is not"):
        card(run.generator, other.out)


def test_verb(run, tmp_path, capsys):
    before = contents(run.out)
    assert main(["card", str(run.generator), "--run", str(run.out), "--to", str(tmp_path / "README.md")]) == 0
    assert (tmp_path / "README.md").read_text() == card(run.generator, run.out)
    assert main(["card", str(run.generator)]) == 0
    assert capsys.readouterr().out.endswith(card(run.generator))
    assert contents(run.out) == before


# terms


@pytest.mark.parametrize("corpus, name, is_open", [
    ("ravdess", "cc-by-nc-sa-4.0", True), ("nemo", "cc-by-nc-sa-4.0", True), ("tess", "cc-by-nc-nd-4.0", False),
    ("crema_d", "odbl", True), ("iemocap", "other", False), ("msp_podcast", "other", False),
    ("table", "unknown", False), ("nobody knows", "unknown", False)])
def test_terms(corpus, name, is_open):
    found = terms_by_name(CORPORA[corpus].name if corpus in CORPORA else corpus)
    assert (found.license, found.open) == (name, is_open)


@pytest.mark.parametrize("name", CORPORA)
def test_every_corpus_has_something_to_say(name):
    found = terms_of(CORPORA[name].terms)
    assert found.sharing and found.text == CORPORA[name].terms

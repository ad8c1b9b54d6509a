"""An upstream by its name, also one of the user's own; what is told of one that cannot be loaded."""

import hashlib
import os
import urllib.error

import pytest
import torch
from support.upstreams import OWN

from s3prl_dd.errors import UserError
from s3prl_dd.features.spec import FeatureSpec, absolute_name, public_name
from s3prl_dd.plugin.encoder import Encoder, checkpoint_digest
from s3prl_dd.plugin.upstreams import (
    check_upstream,
    explaining_load_errors,
    find_upstream,
    make_upstream,
)

HUBERT = "https://huggingface.co/s3prl/converted_ckpts/resolve/main/hubert_base_ls960.pt"


# nothing to be had from the network


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of S3PRL's, and no network. returns: where hubert's file would lie"""
    from s3prl_dd.plugin.registration import register

    register()
    import requests
    import s3prl.util.download as downloads

    def fail(*arguments, **options):
        raise urllib.error.URLError("Name or service not known")

    def fail_again(*arguments, **options):
        raise requests.ConnectionError("Max retries exceeded with url")

    monkeypatch.setattr(downloads, "_download_dir", tmp_path / "cache")
    monkeypatch.setattr(downloads, "_download_url_to_file", fail)
    monkeypatch.setattr(downloads, "_download_url_to_file_requests", fail_again)
    return tmp_path / "cache" / f"{hashlib.sha256(HUBERT.encode()).hexdigest()}.hubert_base_ls960.pt"


def test_without_a_network(cache):
    """What, why, from where, where to put it, and -k as the other way; the same for the Runner, which has the second
    half of it."""
    with pytest.raises(UserError) as told:
        Encoder(FeatureSpec("hubert"))
    text = str(told.value)
    assert "\n" not in text and text == (
        f"upstream hubert: its file cannot be downloaded (URLError: <urlopen error Name or service not known>). S3PRL "
        f"takes it from {HUBERT}. Put that file at {cache}; or give a checkpoint that you have: -u hubert_local -k "
        "FILE (--upstream_ckpt).")
    with pytest.raises(UserError, match="its file cannot be downloaded"), explaining_load_errors("hubert", None):
        find_upstream("hubert")(ckpt=None, model_config=None, refresh=False)
    with pytest.raises(UserError, match="-u wav2vec2_local -k FILE"):
        Encoder(FeatureSpec("wav2vec2_large_ll60k"))


def test_a_file_that_was_put_there_is_taken(cache, hubert_file):
    cache.parent.mkdir()
    cache.write_bytes(hubert_file.read_bytes())
    assert Encoder(FeatureSpec("hubert")).dim == 64


@pytest.mark.parametrize("content", [b"", b"<html>log in first</html>", b"PK\3\4 and so on"])
def test_a_broken_cache(cache, content):
    cache.parent.mkdir()
    cache.write_bytes(content)
    with pytest.raises(UserError, match="in S3PRL's cache, is cut off or another file .* Delete it, and S3PRL takes it "
                                        "anew from https.*-u hubert_local -k FILE") as told:
        Encoder(FeatureSpec("hubert"))
    assert str(cache) in str(told.value) and "\n" not in str(told.value)


def test_a_model_id_without_a_network(monkeypatch):
    def fail(*arguments, **options):
        raise OSError("We couldn't connect to 'https://huggingface.co' to load the files.\nCheck your connection.")

    monkeypatch.setattr("transformers.Wav2Vec2FeatureExtractor.from_pretrained", fail)
    monkeypatch.setattr("transformers.AutoFeatureExtractor.from_pretrained", fail)
    with pytest.raises(UserError, match="someone/hubert .*couldn't connect.* Check -k, and the network") as told:
        make_upstream("hf_hubert_custom", "someone/hubert")
    assert "\n" not in str(told.value)


def test_a_package_that_lacks():
    with pytest.raises(UserError, match="upstream fbank: ModuleNotFoundError: No module named 'fairseq'. Install"), \
            explaining_load_errors("fbank", None):
        raise ModuleNotFoundError("No module named 'fairseq'")


# code inside a file


class Code:
    """Would make a file as soon as it is loaded."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.fixture
def evil(tmp_path):
    """A checkpoint with code inside, and the file that the code would make."""
    torch.save({"Args": Code(tmp_path / "marker"), "model_cfg": Code(tmp_path / "marker")}, tmp_path / "evil.ckpt")
    return tmp_path / "evil.ckpt", tmp_path / "marker"


def resume_a_distillation(path):
    from s3prl_dd.distill.checkpoint import load_checkpoint

    load_checkpoint(path, torch.device("cpu"), ["step"])


def pool_from(path):
    from s3prl_dd.recipe.stages import states_of

    path.rename(path.parent / "states-4.ckpt")
    states_of((str(path.parent),))


def predict(path):
    from s3prl_dd.plugin.head import SerModel

    SerModel.load(path)


def launch(*words):
    from s3prl_dd.plugin.launcher import complete

    return lambda path: complete([*words, str(path)])


def in_folder(*words):
    """As launch, of an expdir whose last state it is."""

    def way(path):
        path.rename(path.parent / "states-4.ckpt")
        launch(*words)(path.parent)

    return way


NEW = ("-m", "train", "-d", "emotion", "-u", "fbank")

WAYS = {
    "-i": launch(*NEW, "-i"),
    "-e": launch("-m", "evaluate", "-e"),
    "-e folder": in_folder("-m", "train", "-e"),
    "-k of hubert": lambda path: make_upstream("hubert_local", str(path)),
    "-k of ser_projector": lambda path: make_upstream("ser_projector", str(path)),
    "predict": predict,
    "--pool-from": pool_from,
    "distill": resume_a_distillation,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_code_inside_a_checkpoint_is_not_run(way, evil, capsys):
    """In one line of ours, without torch's advice to switch the check off."""
    path, marker = evil
    with pytest.raises(UserError) as told:
        way(path)
    text = f"{told.value} {capsys.readouterr().err}"
    assert "asks for code, posix.system, which is not run" in text and "weights_only" not in text
    assert "\n" not in str(told.value) and not marker.exists()


def test_dev_best_and_a_resume_by_a(evil, capsys):
    """-a goes on from the newest state that is whole, and tells what it skipped."""
    path, marker = evil
    path.rename(path.parent / "states-4.ckpt")
    launch(*NEW, "-a", "-p")(path.parent)
    assert "asks for code, posix.system" in capsys.readouterr().err and not marker.exists()


# upstreams of one's own


@pytest.fixture
def own(tmp_path):
    """A file with upstreams."""
    (tmp_path / "mine.py").write_text(OWN)
    return tmp_path / "mine.py"


def test_a_function_in_a_file(own, monkeypatch):
    """Relative to the working folder, too; what lies beside it can be imported."""
    (own.parent / "beside_mine.py").write_text("RATE = 160\n")
    encoder = Encoder(FeatureSpec(f"{own}:energy"))
    assert (encoder.dim, encoder.rate, encoder.layers) == (2, 160, 3)
    frames, = encoder.encode([torch.ones(1600)])
    assert frames.shape == (10, 2)
    monkeypatch.chdir(own.parent)
    assert absolute_name("mine.py:energy") == f"{own}:energy" and absolute_name("hubert") == "hubert"
    check_upstream("./mine.py:energy")


def test_a_function_in_a_module(own, monkeypatch):
    """From the working folder, as `python -m` finds it."""
    package = own.parent / "my_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "speech.py").write_text(OWN.replace("from beside_mine import RATE", "RATE = 160"))
    monkeypatch.chdir(own.parent)
    assert Encoder(FeatureSpec("my_package.speech:energy")).provenance.upstream == "my_package.speech:energy"


def test_where_features_of_ones_own_come_from(own):
    """The file's name and the digest of its code, not where it lies on this machine."""
    (own.parent / "beside_mine.py").write_text("RATE = 160\n")
    provenance = Encoder(FeatureSpec(f"{own}:energy")).provenance
    assert provenance.upstream == "mine.py:energy" == public_name(f"{own}:energy")
    assert provenance.upstream_ckpt_digest == hashlib.sha256(own.read_bytes()).hexdigest()
    (own.parent / "k.pt").write_text("weights")
    with_weights = checkpoint_digest(FeatureSpec(f"{own}:energy", str(own.parent / "k.pt")))
    assert with_weights not in (provenance.upstream_ckpt_digest, None)
    assert checkpoint_digest(FeatureSpec("fbank")) is None


@pytest.mark.parametrize("function, message", [
    ("enrgy", "mine.py has no function 'enrgy'. Did you mean energy"),
    ("RATE", "has no function 'RATE'"),
    ("number", "made int, not a torch.nn.Module"),
    ("mute", "has no method get_downsample_rates.* Did you mean get_downsample_rate"),
    ("flat", r"a hidden state of one recording is \[1, 100\]; expected \[1, T, D\]"),
    ("listed", "gives list; S3PRL needs a dict with 'hidden_states'"),
    ("renamed", "gives keys states; S3PRL needs a dict with 'hidden_states'"),
    ("slow", "says 320 samples a frame, and a second has 100 frames; expected 50"),
    ("deaf", "fails on a second of silence .TypeError"),
    ("broken", "fails when it is made .ZeroDivisionError: division by zero.. It is called with ckpt=None"),
    ("no_settings", "fails when it is made .TypeError: no_settings.. got an unexpected keyword"),
])
def test_what_is_refused(function, message, own):
    """By the Encoder and by the Runner's own call of the hub alike."""
    (own.parent / "beside_mine.py").write_text("RATE = 160\n")
    with pytest.raises(UserError, match=message) as told:
        Encoder(FeatureSpec(f"{own}:{function}"))
    assert "\n" not in str(told.value) and str(told.value).startswith(f"upstream {own}:{function}: ")


@pytest.mark.parametrize("name, message", [
    ("gone.py:x", "gone.py: no such file. Check -u"),
    ("no_such_module:x", "no_such_module cannot be imported .ModuleNotFoundError.*Give -u FILE.py:FUNCTION or MODULE"),
    (":x", "cannot be imported"), ("os:", "os has no function ''"),
    ("{folder}/bad.py:x", "bad.py cannot be imported .SyntaxError"),
    ("hubret", "not on S3PRL's hub. Did you mean hubert.*of your own: FILE.py:FUNCTION"),
])
def test_names_that_lead_nowhere(name, message, tmp_path):
    (tmp_path / "bad.py").write_text("def x(:\n")
    with pytest.raises(UserError, match=message) as told:
        check_upstream(name.replace("{folder}", str(tmp_path)))
    assert "\n" not in str(told.value)

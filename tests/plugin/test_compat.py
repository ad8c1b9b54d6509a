"""Remedies only where something is broken; names that are not there."""

from pathlib import Path

import pytest
from support.runs import ROOT, run_python

from s3prl_dd.errors import UserError

OLD_LIBRARIES = """
import sys, types, importlib.machinery
def module(name, **content):
    made = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(name, None))
    made.__dict__.update(content)
    sys.modules[name] = made
    return made
import importlib.util, argparse, torch
torch.serialization.add_safe_globals([argparse.Namespace])
load = lambda path: None
audio = module("torchaudio", set_audio_backend=print, load=load)
audio.sox_effects = module("torchaudio.sox_effects")
module("huggingface_hub", HfFolder=object, Repository=object)
module("librosa")
"""


def test_nothing_is_mended_where_nothing_is_broken():
    done = run_python(OLD_LIBRARIES + "from s3prl_dd.plugin.compat import mend\nassert mend() == [], mend()\n"
                      "assert audio.load is load and audio.set_audio_backend is print")
    assert done.stdout == ""


def test_mending_is_enough_quiet_and_idempotent():
    """s3prl, its Runner and voxceleb1 import; a second call mends nothing more."""
    done = run_python("""
import sys
sys.modules["librosa"] = None  # as if it were not installed
from s3prl_dd.plugin.compat import mend
first = list(mend())
assert mend() == first and any("librosa" in text for text in first)
import torch, torchaudio, soundfile, numpy, tempfile, argparse, importlib.util
importlib.util.find_spec("librosa")
import s3prl.hub, s3prl.run_downstream, s3prl.downstream.voxceleb1.expert, s3prl.downstream.emotion.expert
with tempfile.TemporaryDirectory() as folder:
    soundfile.write(folder + "/x.wav", numpy.zeros((100, 2)) + .5, 8000)
    wav, rate = torchaudio.load(folder + "/x.wav")
    assert rate == 8000 and wav.shape == (2, 100) and wav.dtype == torch.float32
    torch.save({"Args": argparse.Namespace(seed=1)}, folder + "/x.ckpt")
    assert torch.load(folder + "/x.ckpt", weights_only=True)["Args"].seed == 1
""")
    assert done.stdout == ""


def test_transformers_looks_for_librosa_before_there_is_a_stub():
    """Some versions of it ask more of what they find than is in it."""
    done = run_python("""
import importlib.machinery, importlib.util, sys
sys.modules["librosa"] = None
found = []
utils = importlib.util.module_from_spec(importlib.machinery.ModuleSpec("transformers.utils", None))
utils.is_librosa_available = lambda: found.append(sys.modules["librosa"])
sys.modules["transformers"] = sys.modules["transformers.utils"] = utils
from s3prl_dd.plugin.compat import mend
assert any("librosa" in text for text in mend()) and sys.modules["librosa"] is not None
assert found == [None], found
""")
    assert done.stdout == ""


def test_unknown_names_are_told_with_what_comes_close():
    from s3prl_dd.plugin.registration import check_downstream
    from s3prl_dd.plugin.upstreams import check_upstream

    with pytest.raises(UserError, match="Did you mean hubert .*s3prl_dd: moonshine"):
        check_upstream("hubret")
    with pytest.raises(UserError, match="needs a checkpoint. Give -k"):
        check_upstream("hubert_local")
    with pytest.raises(UserError, match="/no/such.pt: no such checkpoint"):
        check_upstream("hubert_local", "/no/such.pt")
    with pytest.raises(UserError, match="Did you mean distilled_emotion"):
        check_downstream("distiled_emotion")
    with pytest.raises(UserError, match="upstream fbank: /no/such.pt: no such checkpoint"):
        check_upstream("fbank", "/no/such.pt")  # it has no use for one, but it would count as where features come from
    with pytest.raises(UserError, match="fbank: no_such.yaml: no such model configuration. Check -g"):
        check_upstream("fbank", None, "no_such.yaml")
    check_upstream("hf_hubert_custom", "somebody/model-1.5")  # an id of a model hub
    check_upstream("hubert_url", "https://somewhere/hubert.pt")
    check_upstream("fbank")
    check_upstream("moonshine")
    check_downstream("distilled_emotion")
    check_downstream("emotion")


def test_registering_adds_ours_and_hides_nothing():
    from s3prl_dd.plugin.registration import DOWNSTREAM, register

    hub = register()
    register()
    import s3prl.downstream

    assert s3prl.downstream.__path__[0] != str(DOWNSTREAM)
    assert list(s3prl.downstream.__path__).count(str(DOWNSTREAM)) == 1
    assert "moonshine" in hub.options() and "fbank" in hub.options()


def test_the_version_of_what_is_imported(monkeypatch, tmp_path):
    """s3prl, espnet-s3prl with the same import name, or a clone on the path, whatever is installed beside it."""
    import importlib.metadata
    import importlib.util
    from argparse import Namespace

    from s3prl_dd.plugin.compat import s3prl_version

    assert s3prl_version() == importlib.metadata.version("s3prl")
    folder = Path(importlib.util.find_spec("s3prl").submodule_search_locations[0])

    def distribution(name):
        if name != "espnet-s3prl":
            raise importlib.metadata.PackageNotFoundError(name)
        return Namespace(version="0.1", locate_file=lambda file: folder.parent / file)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    assert s3prl_version() == "espnet-s3prl 0.1"
    (tmp_path / "version.txt").write_text("0.5.0\n")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: Namespace(submodule_search_locations=[tmp_path]))
    assert s3prl_version() == "0.5.0"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="s3prl: not installed. Install it with .*, or the fork espnet-s3prl"):
        s3prl_version()


def test_setup_asks_for_no_s3prl(monkeypatch):
    """It would be installed over espnet-s3prl, whose import name is the same; and no torch that runs code in files."""
    import runpy

    import setuptools

    told = {}
    monkeypatch.setattr(setuptools, "setup", told.update)
    runpy.run_path(str(ROOT / "setup.py"))
    required = told["install_requires"]
    assert not [item for item in required if "s3prl" in item] and "torch>=2.6" in required
    assert told["extras_require"]["s3prl"] == ["s3prl==0.4.18"]
    assert not [item for item in told["extras_require"]["all"] if "s3prl" in item]
    assert "s3prl==0.4.18\n" in (ROOT / "requirements.txt").read_text()  # run.sh installs these


def test_without_any_s3prl():
    done = run_python("import sys\nsys.modules['s3prl'] = None\nfrom s3prl_dd.plugin.launcher import main\n"
                      "main(['-d', 'distilled_emotion', '-u', 'hubert'])", check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "error: s3prl cannot be imported" in done.stderr
    assert "pip install s3prl==0.4.18`, or the fork espnet-s3prl" in done.stderr


def test_what_every_import_of_s3prl_repeats_is_left_out():
    """ESPnet, which s3prl 0.4.18 misses aloud."""
    done = run_python("from s3prl_dd.plugin import compat; compat.mend(); import s3prl.hub")
    assert "ESPnet" not in done.stdout + done.stderr

"""Run an unmodified s3prl 0.4.18 on today's libraries: each remedy is tried for need first, undone by an upgrade."""

import argparse
import contextlib
import importlib.machinery
import importlib.metadata
import importlib.util
import io
import logging
import sys
import warnings
import wave
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import torch

from ..corpora.audio import RATE
from ..errors import UserError

SUPPORTED = "0.4.18"
"""The version of S3PRL that this package is tested with."""

INSTALL = f"Install it with `pip install s3prl=={SUPPORTED}`, or the fork espnet-s3prl."
"""How to get S3PRL."""

HEARD_BY_ALL = "s3prl.upstream.espnet_hubert.expert"
"""Whose warning, that ESPnet is missing, every import of S3PRL's upstreams repeats; -u espnet_hubert says so itself."""

mended: list[str] = []
"""What mend() had to mend in this process, one short text each; empty where nothing is broken."""


def mend() -> list[str]:
    """Mend what today's libraries broke for S3PRL, in this process. Call it before the first `import s3prl`.

    Safe to call again. returns: list of what has been mended so far (`mended`)
    """
    logging.getLogger(HEARD_BY_ALL).setLevel(logging.ERROR)
    for remedy in (_torchaudio_extension, _torchaudio_backend, _sox_effects, _torchaudio_load,
                   _huggingface_hub, _checkpoint_arguments, _librosa):
        what = remedy()
        if what:
            mended.append(what)
    return mended


def _torchaudio_extension() -> str | None:
    """A torchaudio built for another torch cannot load its library; what S3PRL uses of it is pure Python."""
    if "torchaudio" in sys.modules:
        return None
    try:
        import torchaudio  # noqa: F401
        return None
    except (OSError, RuntimeError) as error:  # a library of CUDA that is not there, or of another torch
        reason = str(error).splitlines()[0]
    except ImportError as error:
        raise UserError(f"torchaudio: cannot be imported ({error}). Install it beside torch "
                        f"{torch.__version__}.") from None
    for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
        del sys.modules[name]  # the remains of the failed import
    stub: Any = _stub("torchaudio._extension")
    stub._IS_TORCHAUDIO_EXT_AVAILABLE = stub._IS_ALIGN_AVAILABLE = False
    stub._IS_RIR_AVAILABLE = stub._IS_KALDI_AVAILABLE = False
    stub._check_cuda_version = lambda: None
    stub.fail_if_no_align = stub.fail_if_no_rir = lambda function: _unavailable("torchaudio's compiled extension")
    try:
        import torchaudio  # noqa: F401
    except (ImportError, AttributeError, OSError) as error:
        raise UserError(f"torchaudio: cannot be imported ({reason}; without its extension: {error}). Install the "
                        f"torchaudio that belongs to torch {torch.__version__}.") from None
    return f"torchaudio without its compiled extension ({reason})"


def _torchaudio_backend() -> str | None:
    import torchaudio

    if hasattr(torchaudio, "set_audio_backend"):
        return None
    torchaudio.set_audio_backend = lambda backend: None
    return "torchaudio.set_audio_backend (gone since torchaudio 2.9)"


def _sox_effects() -> str | None:
    import torchaudio

    if _installed("torchaudio.sox_effects"):
        return None
    torchaudio.sox_effects = _stub("torchaudio.sox_effects")
    for name in ("apply_effects_tensor", "apply_effects_file", "effect_names"):
        setattr(torchaudio.sox_effects, name, _unavailable(f"torchaudio.sox_effects.{name}"))
    return "torchaudio.sox_effects (gone since torchaudio 2.9)"


def _torchaudio_load() -> str | None:
    """Since torchaudio 2.9 loading needs torchcodec; where it does not load, read through soundfile."""
    import torchaudio

    silence = io.BytesIO()
    with wave.open(silence, "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(bytes(320))
    silence.seek(0)
    try:
        torchaudio.load(silence)
        return None
    except (ImportError, OSError, RuntimeError):
        pass

    torchaudio.load = _load_by_soundfile
    return "torchaudio.load through soundfile (torchcodec is missing or does not load)"


def _load_by_soundfile(uri: Any, frame_offset: int = 0, num_frames: int = -1, normalize: bool = True,
                       channels_first: bool = True, **ignored: Any) -> tuple[torch.Tensor, int]:
    """torchaudio.load: float32 [channels, N] in -1 .. 1 (or [N, channels]) and the sampling rate in Hz.

    wav, flac, ogg and mp3; always normalised.
    """
    import soundfile

    source = str(uri) if isinstance(uri, Path) else uri
    data, rate = soundfile.read(source, frames=num_frames, start=frame_offset, dtype="float32", always_2d=True)
    wav = torch.from_numpy(data)  # [N, channels]
    return (wav.T.contiguous() if channels_first else wav), rate


def _huggingface_hub() -> str | None:
    try:
        import huggingface_hub
    except ImportError:
        return None  # s3prl's own import will say so
    missing = [name for name in ("HfFolder", "Repository") if not _has(huggingface_hub, name)]
    for name in missing:
        fail = _unavailable(f"huggingface_hub.{name}")
        setattr(huggingface_hub, name, type(name, (), {"__init__": fail, "save_token": staticmethod(fail)}))
    return f"huggingface_hub.{' and '.join(missing)} (gone since huggingface_hub 1.0)" if missing else None


def _checkpoint_arguments() -> str | None:
    """S3PRL's checkpoints hold an argparse.Namespace of plain values; let the safe loader read it."""
    if not hasattr(torch.serialization, "add_safe_globals"):
        return None  # an older torch that loads them as they are
    if argparse.Namespace in torch.serialization.get_safe_globals():
        return None
    torch.serialization.add_safe_globals([argparse.Namespace])
    return "checkpoints with argparse.Namespace under torch's safe loading"


def _librosa() -> str | None:
    """voxceleb1 imports librosa.util.find_files and never calls it."""
    if _installed("librosa"):
        return None
    _let_transformers_look()
    librosa: Any = _stub("librosa")
    librosa.util = _stub("librosa.util")
    librosa.util.find_files = _unavailable("librosa.util.find_files")
    return "librosa (not installed; S3PRL's voxceleb1 imports it and does not use it)"


def _let_transformers_look() -> None:
    """Whether there is a librosa, which it remembers: of a stub some versions ask more than is in it."""
    with contextlib.suppress(Exception):  # s3prl's own import will say so
        from transformers.utils import is_librosa_available

        is_librosa_available()


def _has(module: ModuleType, name: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return hasattr(module, name)


def _installed(name: str) -> bool:
    """Whether module `name` can be found, or stands in sys.modules already."""
    return sys.modules.get(name) is not None or importlib.util.find_spec(name) is not None


def _stub(name: str) -> ModuleType:
    """An empty module `name` in sys.modules."""
    sys.modules[name] = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(name, None))
    return sys.modules[name]


def _unavailable(what: str) -> Callable[..., NoReturn]:
    """A function that says, when it is called, that `what` is gone."""

    def fail(*args: Any, **kwargs: Any) -> NoReturn:
        raise UserError(f"{what} is not available in this environment: it is gone from, or broken in, the installed "
                        f"version. Install an older version if you need it.")

    return fail


def s3prl_version() -> str:
    """The version of the S3PRL that is imported; of espnet-s3prl, a fork with the same name, with its own before it.

    Of a clone on Python's path it is the clone's own, whatever is installed beside it.
    """
    spec = importlib.util.find_spec("s3prl")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"s3prl: not installed. {INSTALL}")
    folder = Path(spec.submodule_search_locations[0])
    for name, before in (("s3prl", ""), ("espnet-s3prl", "espnet-s3prl ")):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed = importlib.metadata.distribution(name)
            if Path(str(installed.locate_file("s3prl"))).resolve() == folder.resolve():
                return before + installed.version
    return version_of(folder)


def version_of(folder: Path) -> str:
    """The version that a tree of S3PRL's package says of itself."""
    file = folder / "version.txt"
    return file.read_text().strip() if file.is_file() else "unknown"

"""An upstream by its -u name, and what is wrong with one: the same words in every stage.

    hubert                      of S3PRL's hub, or one of ours
    package.module:function     a function of yours that is called as S3PRL calls its hub: (ckpt=, model_config=,
                                refresh=); it returns a module that maps waves to hidden states
    path/to/file.py:function    the same, in a file
"""

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import nn

from ..corpora.audio import RATE
from ..errors import UserError, did_you_mean, load_failure
from ..features.spec import OWN_FORMS, Own, own_upstream
from ..files import text_digest
from .registration import UPSTREAMS, register


def code_of(name: str) -> Path | None:
    """The file with the code of an own upstream; it counts as part of where features come from."""
    own = own_upstream(name)
    file = getattr(_import(own, name), "__file__", None) if own else None
    return Path(file) if file else None


def find_upstream(name: str) -> Callable[..., Any]:
    """What makes the upstream, as S3PRL's hub has it; one of the user's own is put there, under its whole name."""
    hub = register()
    own = own_upstream(name)
    if own and not hasattr(hub, name):
        setattr(hub, name, _checked(_function(own, name), name))
    options = hub.options()
    if name not in options:
        raise UserError(f"upstream {name!r}: not on S3PRL's hub." + did_you_mean(name, options) +
                        f" Upstreams of s3prl_dd: {', '.join(UPSTREAMS)}; of your own: {OWN_FORMS}.")
    return getattr(hub, name)


def check_upstream(name: str, ckpt: str | None = None, model_config: str | None = None) -> None:
    """Raise UserError unless -u `name` is known, and -k `ckpt` and -g `model_config`, where paths, are there.

    A -k that the upstream has no use for must be there too: it counts as part of where features come from.
    """
    find_upstream(name)
    if not ckpt and name.endswith(("_local", "_custom", "_url")) and name != "baseline_local":
        raise UserError(f"upstream {name}: needs a checkpoint. Give -k FILE.")
    for flag, what, source in (("-k", "checkpoint", ckpt), ("-g", "model configuration", model_config)):
        if source and looks_like_path(source) and not Path(source).exists():
            raise UserError(f"upstream {name}: {source}: no such {what}. Check {flag}.")


def check_trust(name: str, given: str | None, path: str | Path, remedy: str) -> None:
    """Refuse an upstream that is code somewhere on this machine, unless the user names it and not the file alone.

    name: what the checkpoint `path` says; given: what the user says; remedy: how to name it
    """
    if own_upstream(name) and given != name:
        raise UserError(f"{path}: its upstream is code, {name}, which is not run because a file says so. "
                        f"If you trust it, {remedy}.")


def looks_like_path(source: str) -> bool:
    """Whether a -k or -g is meant as a path on this machine: no URL, and no model id such as facebook/hubert-base."""
    suffix = Path(source).suffix[1:]
    is_file_name = bool(suffix) and not suffix.isdigit()  # some model ids end in a version, 1.5
    return "://" not in source and (is_file_name or source.startswith(("/", ".", "~")))


def make_upstream(name: str, ckpt: str | None = None, model_config: str | None = None) -> nn.Module:
    """The upstream, as S3PRL's Runner makes it. UserError where it cannot be made."""
    check_upstream(name, ckpt, model_config)
    with explaining_load_errors(name, ckpt):
        return find_upstream(name)(ckpt=ckpt, model_config=model_config, refresh=False)


# functions of the user's


def _function(own: Own, name: str) -> Callable[..., Any]:
    """The function of an own upstream."""
    module = _import(own, name)
    function = getattr(module, own.function, None)
    if callable(function):
        return function
    names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    hint = did_you_mean(own.function, names)
    raise UserError(f"upstream {name}: {own.place} has no function {own.function!r}.{hint} Found: "
                    f"{', '.join(names) or 'none'}.")


def _checked(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The function, and after it check_interface."""

    def upstream(*args: Any, **kwargs: Any) -> Any:
        made = function(*args, **kwargs)
        check_interface(made, name)
        return made

    return upstream


def _import(own: Own, name: str) -> ModuleType:
    """The module of an own upstream, imported once."""
    if own.is_file and not Path(own.place).is_file():
        raise UserError(f"upstream {name}: {own.place}: no such file. Check -u.")
    try:
        return _import_file(Path(own.place).resolve()) if own.is_file else _import_module(own.place)
    except UserError:
        raise
    except Exception as error:  # whatever a module raises that is not ours
        raise UserError(f"upstream {name}: {own.place} cannot be imported ({load_failure(error)}). "
                        f"Give -u {OWN_FORMS}.") from error


def _import_file(path: Path) -> ModuleType:
    """The module that a file makes; what lies beside it can be imported by it."""
    name = f"upstream_{path.stem}_{text_digest([str(path)])[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    _also_look_in(path.parent)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(name: str) -> ModuleType:
    """A module by its name; from the working folder too, as `python -m` does it."""
    _also_look_in(Path.cwd())
    return importlib.import_module(name)


def _also_look_in(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


# what S3PRL asks of an upstream


def check_interface(upstream: Any, name: str) -> None:
    """Raise UserError unless an upstream is a module with the method that S3PRL's Runner asks for."""
    if not isinstance(upstream, nn.Module):
        raise UserError(f"upstream {name}: made {type(upstream).__name__}, not a torch.nn.Module.")
    if not hasattr(upstream, "get_downsample_rates"):
        near = did_you_mean("get_downsample_rates", [key for key in dir(upstream) if not key.startswith("_")])
        raise UserError(f"upstream {name}: has no method get_downsample_rates(key), samples a frame, which S3PRL asks "
                        f"for.{near}")


def check_states(upstream: nn.Module, name: str, device: str = "cpu") -> None:
    """Raise UserError unless an own upstream gives hidden states that S3PRL's Featurizer can use, tried on silence."""
    if not own_upstream(name):
        return
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            output = upstream.eval()([torch.zeros(RATE, device=device)])
        except Exception as error:  # whatever a module raises that is not ours
            raise UserError(f"upstream {name}: fails on a second of silence ({load_failure(error)}). It is given a "
                            "list of float [N] at 16 kHz.") from error
    if not isinstance(output, dict) or "hidden_states" not in output:
        found = f"keys {', '.join(map(str, output))}" if isinstance(output, dict) else type(output).__name__
        raise UserError(f"upstream {name}: gives {found}; S3PRL needs a dict with 'hidden_states'.")
    states = output["hidden_states"]
    states = [states] if torch.is_tensor(states) else list(states)
    for state in states:
        if not torch.is_tensor(state) or state.dim() != 3 or len(state) != 1:
            shape = list(state.shape) if torch.is_tensor(state) else type(state).__name__
            raise UserError(f"upstream {name}: a hidden state of one recording is {shape}; expected [1, T, D].")
        _check_rate(state.shape[1], upstream, name)


def _check_rate(frames: int, upstream: Any, name: str) -> None:
    """S3PRL cuts by get_downsample_rates and refuses where the frames are another number."""
    rate = upstream.get_downsample_rates("hidden_states")
    if abs(frames - round(RATE / rate)) >= 5:
        raise UserError(f"upstream {name}: get_downsample_rates says {rate} samples a frame, and a second has {frames} "
                        f"frames; expected {round(RATE / rate)}, as S3PRL cuts by it.")


# what goes wrong while it is loaded


class Download(NamedTuple):
    """A file that S3PRL takes from the network, once, and its place in S3PRL's cache."""

    url: str
    path: Path


@contextlib.contextmanager
def explaining_load_errors(name: str, ckpt: str | None) -> Iterator[None]:
    """Turn what an upstream raises when it is made into a UserError.

    No network, a broken file in S3PRL's cache, a -k that is none of its files or has code inside, a package that lacks.
    """
    with _watch_downloads() as seen:
        try:
            yield
        except UserError:
            raise
        except ImportError as error:
            raise UserError(f"upstream {name}: {load_failure(error)}. Install what it needs, or choose another "
                            "upstream.") from error
        except Exception as error:  # upstreams raise all kinds
            raise UserError(f"upstream {name}: {_explain(error, name, ckpt, seen)}") from error


@contextlib.contextmanager
def _watch_downloads() -> Iterator[list[Download]]:
    """The files that S3PRL takes from the network or from its cache meanwhile, in their order."""
    register()
    import s3prl.util.download as downloads

    seen: list[Download] = []
    fetch = downloads._download

    def watched(filepath: Path, url: str, *args: Any, **kwargs: Any) -> None:
        seen.append(Download(url, Path(filepath)))
        fetch(filepath, url, *args, **kwargs)

    downloads._download = watched
    try:
        yield seen
    finally:
        downloads._download = fetch


def _explain(error: Exception, name: str, ckpt: str | None, seen: list[Download]) -> str:
    """What went wrong, what the file is, where it comes from, where it goes, and the other way."""
    if own_upstream(name):
        return (f"fails when it is made ({load_failure(error)}). It is called with ckpt={ckpt!r}, model_config= and "
                "refresh=False, as S3PRL calls its hub.")
    if seen and not seen[-1].path.is_file():
        url, path = seen[-1]
        return (f"its file cannot be downloaded ({load_failure(_first_cause(error))}). S3PRL takes it from {url}. Put "
                f"that file at {path}{_other_way(name)}")
    if seen:
        url, path = seen[-1]
        return (f"{path}, in S3PRL's cache, is cut off or another file ({load_failure(error)}). Delete it, and S3PRL "
                f"takes it anew from {url}{_other_way(name)}")
    if ckpt:
        online = "" if looks_like_path(ckpt) else ", and the network if it is not on this machine"
        return f"{ckpt} is not a checkpoint of its kind ({load_failure(error)}). Check -k{online}."
    return f"could not be loaded ({load_failure(_first_cause(error))}). Check the network{_other_way(name)}"


def _other_way(name: str) -> str:
    """The end of a sentence: the upstream of this family that takes a file."""
    families = [option.removesuffix("_local") for option in register().options() if option.endswith("_local")]
    own = max((family for family in families if name.startswith(family)), key=len, default=None)
    local = f"-u {own}_local -k FILE" if own else "an upstream that takes -k FILE"
    return f"; or give a checkpoint that you have: {local} (--upstream_ckpt)."


def _first_cause(error: BaseException) -> BaseException:
    """What came first: S3PRL tries a second way to download, whose failure says less."""
    while error.__context__ is not None:
        error = error.__context__
    return error

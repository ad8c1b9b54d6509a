"""S3PRL's run_downstream with what we add, in this process alone: `python -m s3prl_dd.run_downstream`.

All of S3PRL's flags mean what they mean there. Added:

    --feature_cache GB  memory for a frozen upstream's hidden states of real audio, default 4
                        - What is kept: each recording passes the upstream once, alone. Of heads that read utterance
                          means (SUPERB's ER and SID) only these are kept, which is exact and much faster; of layer
                          weights that are frozen the weighted frames; else all states.
                        - When it is on: by itself for -d emotion, distilled_emotion and voxceleb1; off with -f.
                        - For which heads: given by hand it serves other downstreams too. The cropped training audio
                          of voxceleb1 (max_timestep) passes the upstream each time.
    --feature_folder D  keep these in a file in folder D too, as many bytes, for other runs, also for those beside this
                        one; a recording that has changed is computed anew. All states of a recording (heads that hear
                        frames, with layer weights they learn) are kept there too, in half of it at most
    --no_feature_cache  decode and compute everything at every step, as S3PRL does
    -m, -n              may be left away: train, and <downstream>_<upstream>
    -u                  also names a function of yours, FILE.py:FUNCTION or MODULE:FUNCTION, see plugin/upstreams.py
    -o                  takes values in quotes too, so that any path can be named: "KEY='a=b,,c'"
    -u, -k, -g          beside -e say where the upstream of that run is now
    -c                  may be left away for distilled_emotion, emotion and voxceleb1, or name a shipped configuration
    --device            may be left away: cuda where there is a GPU, else cpu
    --local_rank        is also read as --local-rank and from LOCAL_RANK, as torchrun sets it; without a GPU the
                        processes talk through gloo
"""

import argparse
import io
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple, NoReturn

import torch

from ..config import CONFIGS, config_path, read_yaml
from ..devices import device_name
from ..errors import DiskError, UserError
from ..features.spec import absolute_name
from ..generator.header import read_header
from ..products import everywhere
from .checkpoints import exit_without_room, newest_whole, telling_of_the_disk
from .checks import check_corpus, check_upstream_of
from .datarc import DATARC, DistilledData, EmotionData, check_folders, read_datarc
from .featurizer import find_states, read_checkpoint
from .overrides import override, set_options, write_overrides
from .registration import check_downstream, register
from .runner import LITERAL_GLOB, FeatureCache, check_blocks, make_runner
from .upstreams import check_trust, check_upstream

OF_S3PRL = {
    "-c": "config", "-d": "downstream", "-u": "upstream", "-k": "upstream_ckpt", "-g": "upstream_model_config",
    "-e": "past_exp", "-i": "init_ckpt", "-p": "expdir", "-n": "expname", "-m": "mode", "-o": "override",
    "-v": "downstream_variant",
}
"""S3PRL's flags that we look at and hand on."""


WAIT = timedelta(days=1)
"""How long processes without a GPU wait for the first, which evaluates alone."""


class Launch(NamedTuple):
    """A command line for S3PRL, and what is ours of it."""

    argv: list[str]
    cache: FeatureCache

    joins_on_cpu: bool = False
    """Whether it is one of torchrun's processes without a GPU: S3PRL's own way to join them needs one."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}. See --help.")


def main(argv: Sequence[str] | None = None) -> None:
    """Run S3PRL with `argv` (default: the command line's). A UserError ends as one message and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path may hold bytes that are no text
    try:
        launch(sys.argv[1:] if argv is None else list(argv))
    except DiskError as error:
        exit_without_room(error)
    except UserError as error:
        print(f"error: {_without_worker_trace(str(error))}", file=sys.stderr)
        sys.exit(2)


def launch(argv: Sequence[str]) -> None:
    """As main, raising the UserError. It changes sys.argv, and S3PRL's modules, for this process."""
    completed, cache, joins_on_cpu = complete(argv)
    given = _parser().parse_known_args(completed)[0]
    check_data(given)
    register()
    import s3prl.run_downstream

    s3prl.run_downstream.Runner = make_runner(cache)
    s3prl.run_downstream.override = override
    s3prl.run_downstream.glob = LITERAL_GLOB
    sys.argv = [sys.argv[0], *completed]
    if joins_on_cpu:
        torch.distributed.init_process_group("gloo", timeout=WAIT)
    products = everywhere() if cache.gigabytes else nullcontext()
    with telling_of_the_disk(given.past_exp or _expdir(given)), products:
        s3prl.run_downstream.main()
    if joins_on_cpu:
        torch.distributed.destroy_process_group()


def complete(argv: Sequence[str]) -> Launch:
    """The command line for S3PRL: what can be checked is checked before anything is loaded or written."""
    given, rest = _parser().parse_known_args(argv)
    cache = _read_cache(given)
    if given.help:
        print(__doc__)
        return Launch([*rest, "--help"], cache)
    _fill_in(given)
    device = _choose_device(given.device)
    joins = _check_rank(given, device)
    resumed = _find_resumed(given)
    if resumed:
        _check_resumed(given, resumed)
        config = []
    else:
        _check_new_run(given)
        config = ["--config", str(_find_config(given))]
    rank = [f"--local_rank={given.local_rank}"] if joins and device != "cpu" else []
    return Launch([*rest, *_words(given), *rank, "--device", device, *config], cache, joins and device == "cpu")


def _parser() -> _Parser:
    """Our flags, and those of S3PRL that we look at; `parse_known_args` leaves S3PRL's others."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--feature_cache", type=_gigabytes)
    parser.add_argument("--feature_folder")
    parser.add_argument("--no_feature_cache", action="store_true")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=os.environ.get("LOCAL_RANK"))
    parser.add_argument("--device")
    parser.add_argument("--hub", default="torch")
    parser.add_argument("-a", "--auto_resume", action="store_true")
    for short, name in OF_S3PRL.items():
        parser.add_argument(short, f"--{name}")
    return parser


def _fill_in(given: Namespace) -> None:
    """What S3PRL asks for and most runs say alike: -m train, and -n <downstream>_<upstream>."""
    given.mode = given.mode or "train"
    if not (given.past_exp or given.expname or given.expdir) and given.downstream and given.upstream:
        given.expname = f"{given.downstream}_{Path(given.upstream).name}"
    given.upstream = given.upstream and absolute_name(given.upstream)


def check_data(given: Namespace) -> None:
    """Raise UserError, with the lines to run, for an emotion run without data, and for data that is not where it is
    said to be: before an upstream is loaded.

    given: a completed command line
    """
    kind = {"emotion": EmotionData, "distilled_emotion": DistilledData}.get(given.downstream)
    if kind is None or given.mode != "train" or not given.config:
        return
    config = read_yaml(given.config)
    if given.override:
        set_options(given.override, Namespace(), config)
    check_blocks(config)
    data = read_datarc(kind, config["downstream_expert"]["datarc"], given.downstream_variant)
    needed = {key: place for key, place in PLACES.items() if hasattr(data, key)}
    lacking = [key for key in needed if not getattr(data, key)]
    alone = given.downstream == "distilled_emotion" and config["runner"]["eval_dataloaders"] == ["dev"]
    if lacking and not (alone and "generator" not in lacking):
        options = ",,".join(f"$data.{key}={place}" for key, place in needed.items())
        lines = NEXT_STEPS.format(upstream=given.upstream, downstream=given.downstream, datarc=DATARC, options=options)
        raise UserError(f"-d {given.downstream}: {', '.join(lacking)} not set. Three lines make them:\n{lines}")
    if isinstance(data, DistilledData):
        header = read_header(str(data.generator))
        check_upstream_of(data.generator, header.features, given.upstream)
        check_corpus(data, header)
    if data.root:
        check_folders(data)


PLACES = {"generator": "RUN/generator.safetensors", "root": "FOLDER", "meta_data": "RUN/metadata"}
"""Settings of the datarc that a training needs, and where they are found after `s3prl-dd run`."""

NEXT_STEPS = """\
  s3prl-dd run --corpus CORPUS --root FOLDER --upstream {upstream} --out RUN     # metadata, features, generator
  data={datarc}
  python run_downstream.py -d {downstream} -u {upstream} -o "{options}"
"""
"""What to run where they are missing."""


def _gigabytes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not value >= 0:  # nan is neither
        raise UserError(f"--feature_cache {text}: expected gigabytes, 0 or more.")
    return value


def _read_cache(given: Namespace) -> FeatureCache:
    """What is said of the cache."""
    if given.no_feature_cache and (given.feature_cache or given.feature_folder):
        raise UserError("--no_feature_cache: beside --feature_cache or --feature_folder. Leave one of them away.")
    if given.no_feature_cache:
        return FeatureCache(0.0)
    if given.feature_cache is None:
        return FeatureCache(folder=given.feature_folder)
    return FeatureCache(given.feature_cache, given.feature_folder, asked=True)


def _words(given: Namespace) -> list[str]:
    """S3PRL's flags among the parsed ones, as words; --config comes last, once it is found."""
    names = [name for name in OF_S3PRL.values() if name != "config" and getattr(given, name) is not None]
    words = [f"--{name}={getattr(given, name)}" for name in names]  # also where a value begins with a dash
    return [*words, "--hub", given.hub, *(["--auto_resume"] if given.auto_resume else [])]


def _choose_device(asked: str | None) -> str:
    """The device of a run. For the CPU it hides every GPU from this process: S3PRL's evaluation touches any it sees."""
    if asked == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return device_name(asked)


def _find_resumed(given: Namespace) -> str | Path | None:
    """The checkpoint that -e or -a means, the newest whole one of a folder; None for a new run.

    Where S3PRL would take one that is not whole, `given` changes: it is told the checkpoint instead, or to begin anew.
    """
    folder = given.past_exp
    if given.auto_resume and not folder:
        folder = _expdir(given)
        if not find_states(folder):
            return None
    if not folder or not Path(folder).is_dir():
        return folder
    states = find_states(folder)
    if not states:
        raise UserError(f"{folder}: no states-*.ckpt to resume from. Give the expdir of a run that has saved one, or a "
                        "checkpoint.")
    whole = newest_whole(states)
    if whole is None and given.past_exp:
        raise UserError(f"{folder}: none of its {len(states)} states-*.ckpt is whole. Give another expdir, or start "
                        "anew with -d, -u and -p.")
    if whole != states[-1]:
        given.past_exp, given.auto_resume = whole and str(whole), False
    return whole


def _expdir(given: Namespace) -> str:
    """Where S3PRL will write."""
    return given.expdir or f"result/downstream/{given.expname}"


def _check_rank(given: Namespace, device: str) -> bool:
    """Whether this is one process of several. UserError where nothing tells it how to join the others."""
    if given.local_rank is None:
        return False
    lacking = [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if lacking:
        raise UserError(f"distributed training (LOCAL_RANK or --local_rank is set): {', '.join(lacking)} not set. "
                        "Start it with `torchrun --nproc_per_node N -m s3prl_dd.run_downstream ...`, which sets them.")
    if device != "cpu" and given.local_rank >= torch.cuda.device_count():
        raise UserError(f"distributed training: process {given.local_rank} of this machine has no GPU of its own, "
                        f"there are {torch.cuda.device_count()}. Give torchrun --nproc_per_node so many, or "
                        "--device cpu.")
    return True


def _check_resumed(given: Namespace, path: str | Path) -> None:
    """Refuse what S3PRL could not go on from. What -e's -u, -k and -g change is told S3PRL by -o."""
    saved = read_checkpoint(path).get("Args")
    if not isinstance(saved, Namespace) or not hasattr(saved, "upstream_model_config"):
        raise UserError(f"{path}: holds no run's arguments (Args). Give states-*.ckpt or dev-best.ckpt of S3PRL; what "
                        "has weights alone goes with -i.")
    changes = {}
    for name in ("upstream", "upstream_ckpt", "upstream_model_config"):
        value = getattr(given, name)
        if given.past_exp and value not in (None, getattr(saved, name, None)):
            changes[f"args.{name}"] = value
            setattr(saved, name, value)
    check_trust(saved.upstream, given.upstream, path, f"name it: -u {saved.upstream}")
    if getattr(saved, "hub", "torch") == "torch":
        check_upstream(saved.upstream, saved.upstream_ckpt, saved.upstream_model_config)
    if changes:
        given.override = ",,".join(filter(None, [write_overrides(changes), given.override]))


def _check_new_run(given: Namespace) -> None:
    if given.init_ckpt:
        read_checkpoint(given.init_ckpt)
    if not given.downstream or not given.upstream:
        raise UserError("give -d DOWNSTREAM and -u UPSTREAM (or -e EXPDIR to resume), for example -d distilled_emotion "
                        "-u hubert.")
    check_downstream(given.downstream)
    if given.hub == "torch":
        check_upstream(given.upstream, given.upstream_ckpt, given.upstream_model_config)


def _find_config(given: Namespace) -> Path:
    if given.config:
        return config_path(given.config).resolve()
    for path in (Path("downstream") / given.downstream / "config.yaml", CONFIGS / f"{given.downstream}.yaml"):
        if path.is_file():
            return path.resolve()
    raise UserError(f"downstream {given.downstream}: the package of S3PRL carries no configuration for it. Give -c "
                    "FILE, for example from a clone of S3PRL.")


def _without_worker_trace(text: str) -> str:
    """A DataLoader worker wraps an error's text in its traceback; what was said is the last part."""
    return text.rsplit("UserError: ", 1)[-1].strip() if "Original Traceback" in text else text

"""S3PRL's run_downstream with what we add, in this process alone: `python -m s3prl_dd.run_downstream`.

All of S3PRL's flags mean what they mean there. Added:

    --feature_cache GB  keep a frozen upstream's hidden states of real audio in memory, up to GB gigabytes (default 0: off);
                        of a head that reads utterance means alone (SUPERB's ER and SID), only these (exact, and much faster)
    --feature_folder D  with it: keep such means in folder D too, for the runs that follow
    -c                  may be left away for distilled_emotion, emotion and voxceleb1, or name a shipped configuration
    --device            may be left away: cuda where there is a GPU, else cpu
    --local_rank        is also read as --local-rank and from LOCAL_RANK, as torchrun sets it
"""

import argparse
import difflib
import os
import sys
from argparse import Namespace
from pathlib import Path

import torch

from ..config import CONFIGS, config_path
from ..corpora.sid import check_voxceleb1
from ..errors import UserError
from ..files import text_digest
from .encoder import checkpoint_digest
from .featurizer import find_states, layer_weights, read_checkpoint, to_logits
from .registration import check_downstream, check_upstream, downstreams, register

BLOCKS = ("runner", "optimizer", "scheduler", "specaug", "downstream_expert")
RUNNER_KEYS = ("total_steps", "gradient_clipping", "gradient_accumulate_steps", "log_step", "eval_step", "save_step", "max_keep",
               "eval_dataloaders", "evaluate_ratio", "fp16", "train_dataloader")


def main(argv=None):
    """Run S3PRL with `argv` (default: the command line's). A UserError ends as one message and exit code 2."""
    try:
        launch(sys.argv[1:] if argv is None else list(argv))
    except UserError as error:
        print(f"error: {_without_worker_trace(str(error))}", file=sys.stderr)
        sys.exit(2)


def launch(argv):
    """As main, raising the UserError. It changes sys.argv, and S3PRL's modules, for this process."""
    argv, cache = complete(argv)
    register()
    import s3prl.run_downstream

    from . import emotion

    sys.modules["s3prl.downstream.emotion.expert"] = emotion  # where the Runner looks for -d emotion
    s3prl.run_downstream.Runner = make_runner(**cache)
    sys.argv = [sys.argv[0], *argv]
    s3prl.run_downstream.main()


def complete(argv):
    """(argv for S3PRL, arguments of make_runner): checks what can be checked before anything is loaded or written."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--feature_cache", type=float, default=0.0)
    parser.add_argument("--feature_folder")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=os.environ.get("LOCAL_RANK"))
    ours, argv = parser.parse_known_args(argv)
    if not ours.feature_cache >= 0:
        raise UserError(f"--feature_cache {ours.feature_cache}: expected gigabytes, 0 or more.")

    cache = {"gigabytes": ours.feature_cache, "folder": ours.feature_folder}

    for short, long in (("-c", "config"), ("-d", "downstream"), ("-u", "upstream"), ("-k", "upstream_ckpt"),
                        ("-e", "past_exp"), ("-i", "init_ckpt"), ("-p", "expdir"), ("-n", "expname")):
        parser.add_argument(short, f"--{long}")
    parser.add_argument("-a", "--auto_resume", action="store_true")
    parser.add_argument("--hub", default="torch")
    parser.add_argument("--device")
    seen, _ = parser.parse_known_args(argv)
    if "-h" in argv or "--help" in argv:
        print(__doc__)
        return argv, cache

    if seen.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # S3PRL's evaluation touches any GPU that it sees
    elif seen.device and not torch.cuda.is_available():
        raise UserError(f"--device {seen.device}: torch {torch.__version__} sees no GPU here. Leave --device away to run on the CPU.")
    device = seen.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if ours.local_rank is not None:
        if device == "cpu":
            raise UserError("distributed training (LOCAL_RANK or --local_rank is set): S3PRL's needs a GPU for each process "
                            "and there is none. Run without torchrun.")
        argv += ["--local_rank", str(ours.local_rank)]
    if seen.device is None:
        argv += ["--device", device]

    resumed = _find_resumed(seen)
    if resumed:
        read_checkpoint(resumed)
        return argv, cache
    if seen.init_ckpt:
        read_checkpoint(seen.init_ckpt)
    if not seen.downstream or not seen.upstream:
        raise UserError("give -d DOWNSTREAM and -u UPSTREAM (or -e EXPDIR to resume), for example -d distilled_emotion -u hubert.")
    check_downstream(seen.downstream)
    if seen.hub == "torch":
        check_upstream(seen.upstream, seen.upstream_ckpt)
    return argv + ["-c", str(_find_config(seen))], cache


def _find_resumed(seen):
    """The checkpoint that -e or -a means, the newest of a folder; None for a new run."""
    folder = seen.past_exp
    if seen.auto_resume and not folder:
        folder = seen.expdir or f"result/downstream/{seen.expname}"
        if not list(Path(folder).glob("states-*.ckpt")):
            return None
    if not folder or not Path(folder).is_dir():
        return folder
    states = find_states(folder)
    if not states:
        raise UserError(f"{folder}: no states-*.ckpt to resume from. Give the expdir of a run that has saved one, or a checkpoint.")
    return states[-1]


def _find_config(seen):
    if seen.config:
        return config_path(seen.config).resolve()
    for path in (CONFIGS / f"{seen.downstream}.yaml", Path("downstream") / seen.downstream / "config.yaml"):
        if path.is_file():
            return path.resolve()
    raise UserError(f"downstream {seen.downstream}: the package of S3PRL carries no configuration for it. Give -c FILE, "
                    "for example from a clone of S3PRL.")


def make_runner(gigabytes=0.0, folder=None):
    """S3PRL's Runner, with a frozen upstream that caches, and for distilled_emotion the generator's layer weights."""
    from s3prl.downstream.runner import Runner

    from .cache import FrozenUpstream, every_frame
    from .emotion import reads_means

    class BridgedRunner(Runner):
        def __init__(self, args, config):
            if args.downstream in ("emotion", *downstreams()):
                check_blocks(config)
            if args.downstream == "voxceleb1":
                _own_file_list(config, args.expdir)
            super().__init__(args, config)

        @property
        def distilled(self):
            return self.args.downstream == "distilled_emotion"

        @property
        def means_alone(self):
            """Whether utterance means of a frozen upstream are all that the run's head reads."""
            args, head = self.args, self.config.get("downstream_expert", {}).get("modelrc", {})
            return bool(gigabytes and not args.upstream_trainable and not args.upstream_feature_normalize
                        and args.downstream in ("emotion", "distilled_emotion", "voxceleb1") and reads_means(head))

        def _get_featurizer(self):
            """With it the frozen upstream: Featurizer tries the plain one on noise, which is not worth keeping."""
            featurizer, upstream, args = super()._get_featurizer(), self.upstream, self.args
            if not upstream.trainable and (gigabytes or self.distilled):
                selection, layer = args.upstream_feature_selection, args.upstream_layer_selection
                rate, here = None, None
                if self.means_alone:
                    rate = featurizer.model.downsample_rate
                    here = folder and Path(folder) / _digest_of_upstream(args)
                upstream.model = FrozenUpstream(upstream.model, selection, layer, gigabytes, rate, here)
            elif gigabytes:
                raise UserError("--feature_cache: features of a trained upstream (-f) change at every step. Leave one of them away.")
            return featurizer

        def _init_model(self, model, name, trainable, interfaces=None):
            if name == "Featurizer" and self.means_alone:
                model.tolist = every_frame
            if name == "Featurizer" and self.distilled and self.args.mode == "train":
                _adopt_layer_weights(model, self.config)
                model.requires_grad_(False)  # generated features give it no gradient, and DDP would wait for one
            return super()._init_model(model, name, trainable, interfaces)  # a checkpoint's own weights come last

        def _get_downstream(self):
            if not self.distilled:
                return super()._get_downstream()
            args = self.args
            weights = layer_weights({"Featurizer": self.featurizer.model.state_dict()})
            self.args = Namespace(**vars(args), featurizer_weights=weights)  # for the constructor alone, not for the checkpoint
            try:
                return super()._get_downstream()
            finally:
                self.args = args

    return BridgedRunner


def _digest_of_upstream(args):
    """What tells states of one upstream, checkpoint and selection from another's."""
    digest = checkpoint_digest(args.upstream, args.upstream_ckpt, args.upstream_model_config)
    made_by = [args.hub, args.upstream, digest, args.upstream_feature_selection, args.upstream_layer_selection]
    return text_digest(map(str, made_by))[:16]


def check_blocks(config):
    """Raise UserError for a block or a runner key that S3PRL's Runner does not read, or for one it cannot do without."""
    for where, keys, known in (("config", config, BLOCKS), ("config.runner", config.get("runner", {}), RUNNER_KEYS)):
        for key in keys:
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1)
                hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
                raise UserError(f"{where}: unknown key {key!r}. {hint}")
    for key in ("runner", "optimizer", "downstream_expert"):
        if not config.get(key):
            raise UserError(f"config.{key}: missing. Start from a copy of a shipped configuration.")
    for key in ("datarc", "modelrc"):
        if key not in config["downstream_expert"]:
            raise UserError(f"config.downstream_expert.{key}: missing. Start from a copy of a shipped configuration.")


def _adopt_layer_weights(featurizer, config):
    """Weigh the upstream's states as the generator's features were; what does not fit is left to the expert to refuse."""
    from ..generator import Generator

    path = config.get("downstream_expert", {}).get("datarc", {}).get("generator")
    weights = Generator.load(path).header["features"].get("layer_weights") if path else None
    if weights and getattr(featurizer, "layer_num", None) == len(weights):
        featurizer.weights.data.copy_(to_logits(weights))
        print(f"[s3prl_dd] - layer weights from {path}: {' '.join(f'{weight:.3f}' for weight in weights)}")


def _own_file_list(config, expdir):
    """Check the tree; S3PRL pickles its file list inside its package and never renews it: keep one for each root and list."""
    import s3prl.downstream.voxceleb1.dataset as dataset

    datarc = config["downstream_expert"]["datarc"]
    for key in ("file_path", "meta_data"):
        if not datarc.get(key) or not Path(datarc[key]).exists():
            raise UserError(f"config.downstream_expert.datarc.{key}: {datarc.get(key)}: not found. Set it with -o or in the "
                            "configuration (file_path: the tree with */wav/id10001/, meta_data: S3PRL's veri_test_class.txt).")
    digest = text_digest([str(Path(datarc["file_path"]).resolve()), Path(datarc["meta_data"]).read_text()])
    dataset.CACHE_PATH = str(Path(expdir) / f"file_list_{digest[:16]}")
    if not Path(dataset.CACHE_PATH).exists():  # S3PRL makes it next, so a run that goes on does not check again
        print("[s3prl_dd] - speaker identification:", check_voxceleb1(datarc["file_path"], datarc["meta_data"]))


def _without_worker_trace(text):
    """A DataLoader worker wraps an error's text in its traceback; what was said is the last part."""
    return text.rsplit("UserError: ", 1)[-1].strip() if "Original Traceback" in text else text

"""What we add to S3PRL's Runner: a frozen upstream that caches, layer weights of the generator, refusals."""

import contextlib
import glob
import itertools
import os
from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn.parallel import DistributedDataParallel

from ..errors import UserError, did_you_mean
from ..generator import read_header
from .cache import FrozenUpstream
from .checkpoints import whole_checkpoints
from .checks import Launched
from .encoder import check_layer, spec_of
from .featurizer import layer_weights, to_logits, weigh_by_product
from .placeholder import Recordings
from .registration import downstreams
from .safe_config import check_no_code
from .speakers import own_file_list
from .states import Kind, Listener, describe, reads_means
from .store import StateStore
from .upstreams import check_states, explaining_load_errors

if TYPE_CHECKING:
    from s3prl.downstream.runner import Runner
else:
    Runner = object  # make_runner puts S3PRL's there, once its libraries are mended

BLOCKS = ("runner", "optimizer", "scheduler", "specaug", "downstream_expert")
"""Blocks of a configuration that S3PRL's Runner reads."""

RUNNER_KEYS = (
    "total_steps", "gradient_clipping", "gradient_accumulate_steps", "log_step", "eval_step", "save_step", "max_keep",
    "eval_dataloaders", "evaluate_ratio", "fp16", "train_dataloader",
)
"""Keys of its block `runner`."""

TICKETED = ("emotion", "distilled_emotion", "voxceleb1")
"""Downstreams whose data sets give tickets for recordings, see placeholder.py."""

CACHE_GB = 4.0


class LiteralGlob:
    """Stands for the module glob where S3PRL looks for an expdir's states: a folder's name is no pattern."""

    @staticmethod
    def glob(pattern: str) -> list[str]:
        """The paths that match; the pattern's last part alone counts as one."""
        folder, name = os.path.split(pattern)
        return glob.glob(os.path.join(glob.escape(folder), name))


LITERAL_GLOB = LiteralGlob()


class FeatureCache(NamedTuple):
    """What is kept of a frozen upstream's states of real audio."""

    gigabytes: float = CACHE_GB
    """In memory, and as much in the folder; 0 is off."""

    folder: str | None = None
    """Keeps averaged or weighted states for other runs."""

    asked: bool = False
    """Whether it was asked for, by --feature_cache: then it serves every downstream."""


def make_runner(cache: FeatureCache) -> type:
    """S3PRL's Runner with what we add."""
    import s3prl.downstream.runner

    s3prl.downstream.runner.glob = LITERAL_GLOB
    return type("BridgedRunner", (Bridge, s3prl.downstream.runner.Runner), {"cache": cache})


class Bridge(Runner):
    """Stands before S3PRL's Runner in the order of methods. args, config: S3PRL's command line and configuration."""

    cache = FeatureCache()
    args: Namespace
    config: dict[str, Any]

    def __init__(self, args: Namespace, config: dict[str, Any]) -> None:
        check_no_code(config)
        if args.downstream in ("emotion", *downstreams()):
            check_blocks(config)
        if torch.distributed.is_initialized() and args.local_rank is None:  # on CPU, where S3PRL is not told
            args.local_rank = int(os.environ["LOCAL_RANK"])
        if args.downstream == "voxceleb1":
            own_file_list(config, args.expdir)
        if self.cache.asked and self.cache.gigabytes and args.upstream_trainable:
            raise UserError("--feature_cache: features of a trained upstream (-f) change at every step. "
                            "Leave one of them away.")
        caching = self.cache.gigabytes and not args.upstream_trainable
        self.recordings = Recordings() if caching and args.downstream in TICKETED else None
        super().__init__(args, config)

    @property
    def distilled(self) -> bool:
        """Whether the run trains on a generator's samples."""
        return self.args.downstream == "distilled_emotion"

    def kind_of_states(self, featurizer: Any) -> Kind | None:
        """What of a recording's states the run needs; None where nothing is kept. featurizer: S3PRL's."""
        args = self.args
        if not self.cache.gigabytes or args.upstream_trainable:
            return None
        if self.recordings is None:
            return "states" if self.cache.asked else None
        head = self.config.get("downstream_expert", {}).get("modelrc", {})
        if reads_means(head) and not args.upstream_feature_normalize and not self.config.get("specaug"):
            return "means"
        learns_weights = args.mode == "train" and not self.distilled and hasattr(featurizer, "weights")
        return "states" if learns_weights else "frames"

    def train(self) -> None:
        """S3PRL's training, whose checkpoints are written whole or not at all."""
        with whole_checkpoints(self.args.expdir), contextlib.suppress(TrainingEnds):
            super().train()

    def _get_upstream(self) -> Any:
        """S3PRL's, refused in the words of upstreams.py where it would fail."""
        name = self.args.upstream
        with explaining_load_errors(name, self.args.upstream_ckpt):
            entry = super()._get_upstream()
        check_states(getattr(entry.model, "module", entry.model), name, self.args.device)
        return entry

    def _get_featurizer(self) -> Any:
        """S3PRL's, and after it the frozen upstream: Featurizer tries the plain one on noise, not worth keeping."""
        args = self.args
        if args.upstream_layer_selection is not None:
            check_layer(self.upstream.model.eval(), spec_of(vars(args)), args.device)
        entry = super()._get_featurizer()
        featurizer = getattr(entry.model, "module", entry.model)
        if not self.upstream.trainable and (self.distilled or self.kind_of_states(featurizer)):
            self.upstream.model = self._freeze(self.upstream.model, featurizer)
            featurizer.tolist = self.upstream.model.tolist
            if self.kind_of_states(featurizer) == "states":
                weigh_by_product(featurizer)
        return entry

    def _freeze(self, upstream: Any, featurizer: Any) -> FrozenUpstream:
        """The upstream that skips generated features, and remembers what this run needs of recordings."""
        kind, limit = self.kind_of_states(featurizer), self.cache.gigabytes * 1e9
        if kind is None:
            return FrozenUpstream(upstream, featurizer)
        store, made_by = None, ""
        if self.cache.folder:
            store = StateStore(self.cache.folder, limit)
            made_by = describe(spec_of(vars(self.args)), kind, self.args.hub, getattr(featurizer, "weights", None))
        listener = Listener(upstream, featurizer, kind, self.args.device, store, made_by)
        hears_audio = self.cache.asked and kind != "means"
        return FrozenUpstream(upstream, featurizer, listener, self.recordings, limit, hears_audio)

    def _init_model(self, model: Any, name: str, trainable: bool, interfaces: list[str] | None = None) -> Any:
        if name == "Featurizer" and self.distilled and self.args.mode == "train":
            adopt_layer_weights(model, self.config)
            model.requires_grad_(False)  # generated features give it no gradient, and DDP would wait for one
        if not torch.distributed.is_initialized():
            return super()._init_model(model, name, trainable, interfaces)  # a checkpoint's own weights come last
        entry = super()._init_model(model, name, False, interfaces)
        entry.trainable = trainable
        if trainable and any(parameter.requires_grad for parameter in model.parameters()):
            entry.model = in_parallel(model, self.args)
            for interface in interfaces or []:
                setattr(entry.model, interface, getattr(model, interface))
        return entry

    def _get_optimizer(self, model_params: Any) -> Any:
        """S3PRL's; in all processes but the first, which alone counts S3PRL's steps, it ends the training."""
        optimizer = super()._get_optimizer(model_params)
        if torch.distributed.is_initialized() and torch.distributed.get_rank() > 0:
            steps = self.config["runner"]["total_steps"] - self.init_ckpt.get("Step", 0)
            optimizer.zero_grad = end_after(steps, optimizer.zero_grad)
        return optimizer

    def _get_downstream(self) -> Any:
        """As S3PRL makes an expert; ours are told besides what our launcher alone knows."""
        options: dict[str, Any] = {"recordings": self.recordings}
        expert: Any
        if self.distilled:
            from s3prl.utility.helper import get_model_state

            from .distilled import DistilledExpert as expert

            options["launched"] = Launched(layer_weights({"Featurizer": get_model_state(self.featurizer.model)}))
        elif self.args.downstream == "emotion":
            from .emotion import EmotionExpert as expert
        elif self.args.downstream == "voxceleb1" and self.recordings is not None:
            from .voxceleb1 import SpeakerExpert as expert
        else:
            return super()._get_downstream()
        model = expert(upstream_dim=self.featurizer.model.output_dim,
                       upstream_rate=self.featurizer.model.downsample_rate, **options, **self.config,
                       **vars(self.args))
        return self._init_model(model=model.to(self.args.device), name="Downstream", trainable=True,
                                interfaces=["get_dataloader", "log_records"])


class TrainingEnds(Exception):
    """In a process that is not the first: all steps are done."""


def end_after(steps: int, zero_grad: Callable[..., None]) -> Callable[..., None]:
    """The optimizer's zero_grad, with which each step ends; raises TrainingEnds at the last."""
    done = itertools.count(1)

    def counted(*args: Any, **kwargs: Any) -> None:
        zero_grad(*args, **kwargs)
        if next(done) >= steps:
            raise TrainingEnds

    return counted


def in_parallel(model: torch.nn.Module, args: Namespace) -> DistributedDataParallel:
    """A model that shares its gradients among torchrun's processes; S3PRL's own way asks for GPUs.

    Its buffers are not shared: the first process evaluates alone, and would wait for the others.
    """
    devices = None if args.device == "cpu" else [args.local_rank]
    return DistributedDataParallel(model, devices, find_unused_parameters=True, broadcast_buffers=False)


def adopt_layer_weights(featurizer: Any, config: Mapping[str, Any]) -> None:
    """Weigh the upstream's states as the generator's features were; what does not fit, the expert refuses."""
    path = config.get("downstream_expert", {}).get("datarc", {}).get("generator")
    weights = read_header(path).features.layer_weights if path else None
    if weights and getattr(featurizer, "layer_num", None) == len(weights):
        featurizer.weights.data.copy_(to_logits(weights))
        print(f"[s3prl_dd] - layer weights from {path}: {' '.join(f'{weight:.3f}' for weight in weights)}")


def check_blocks(config: Mapping[str, Any]) -> None:
    """Raise UserError for a block or a runner key that S3PRL's Runner does not read, or one it cannot do without."""
    _check_keys("config", config, BLOCKS)
    _check_keys("config.runner", config.get("runner", {}), RUNNER_KEYS)
    for key in ("runner", "optimizer", "downstream_expert"):
        if not config.get(key):
            raise UserError(f"config.{key}: missing. Start from a copy of a shipped configuration.")
    for key in ("datarc", "modelrc"):
        if not isinstance(config["downstream_expert"].get(key), Mapping):
            raise UserError(f"config.downstream_expert.{key}: missing. Start from a copy of a shipped configuration.")


def _check_keys(where: str, block: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in block:
        if key not in known:
            hint = did_you_mean(key, known, f"Known: {', '.join(known)}.", repr)
            raise UserError(f"{where}: unknown key {key!r}.{hint}")

"""What we add to S3PRL's Runner: a frozen upstream that caches, layer weights of the generator, refusals."""

import difflib
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import UserError
from ..files import text_digest
from ..generator import read_header
from .cache import FrozenUpstream, every_frame
from .checks import Launched
from .encoder import check_layer, checkpoint_digest, explaining_load_errors, spec_of
from .featurizer import layer_weights, to_logits
from .registration import downstreams
from .speakers import own_file_list

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

READ_MEANS = ("emotion", "distilled_emotion", "voxceleb1")
"""Downstreams whose head may read utterance means alone, see plugin.emotion.reads_means."""


class FeatureCache(NamedTuple):
    """gigabytes: of hidden states of real audio to keep in memory; folder: keeps utterance means for other runs."""

    gigabytes: float = 0.0
    folder: str | None = None


def make_runner(cache: FeatureCache) -> type:
    """S3PRL's Runner with what we add."""
    import s3prl.downstream.runner

    return type("BridgedRunner", (Bridge, s3prl.downstream.runner.Runner), {"cache": cache})


class Bridge(Runner):
    """Stands before S3PRL's Runner in the order of methods. args, config: S3PRL's command line and configuration."""

    cache = FeatureCache()
    args: Namespace
    config: dict[str, Any]

    def __init__(self, args: Namespace, config: dict[str, Any]) -> None:
        if args.downstream in ("emotion", *downstreams()):
            check_blocks(config)
        if args.downstream == "voxceleb1":
            own_file_list(config, args.expdir)
        if self.cache.gigabytes and args.upstream_trainable:
            raise UserError("--feature_cache: features of a trained upstream (-f) change at every step. "
                            "Leave one of them away.")
        super().__init__(args, config)

    @property
    def distilled(self) -> bool:
        """Whether the run trains on a generator's samples."""
        return self.args.downstream == "distilled_emotion"

    @property
    def means_alone(self) -> bool:
        """Whether utterance means of a frozen upstream are all that the run's head reads, and a cache keeps them."""
        from .emotion import reads_means

        args = self.args
        if not self.cache.gigabytes or args.upstream_trainable or args.upstream_feature_normalize:
            return False
        head = self.config.get("downstream_expert", {}).get("modelrc", {})
        return args.downstream in READ_MEANS and reads_means(head)

    def _get_upstream(self) -> Any:
        with explaining_load_errors(self.args.upstream, self.args.upstream_ckpt):
            return super()._get_upstream()

    def _get_featurizer(self) -> Any:
        """S3PRL's, and after it the frozen upstream: Featurizer tries the plain one on noise, not worth keeping."""
        args = self.args
        if args.upstream_layer_selection is not None:
            check_layer(self.upstream.model.eval(), spec_of(vars(args)), args.device)
        featurizer = super()._get_featurizer()
        if not self.upstream.trainable and (self.cache.gigabytes or self.distilled):
            rate, folder = None, None
            if self.means_alone:
                rate = featurizer.model.downsample_rate
                folder = Path(self.cache.folder) / means_key(args) if self.cache.folder else None
            self.upstream.model = FrozenUpstream(self.upstream.model, args.upstream_feature_selection,
                                                 args.upstream_layer_selection, self.cache.gigabytes, rate, folder)
        return featurizer

    def _init_model(self, model: Any, name: str, trainable: bool, interfaces: list[str] | None = None) -> Any:
        if name == "Featurizer" and self.means_alone:
            model.tolist = every_frame
        if name == "Featurizer" and self.distilled and self.args.mode == "train":
            adopt_layer_weights(model, self.config)
            model.requires_grad_(False)  # generated features give it no gradient, and DDP would wait for one
        return super()._init_model(model, name, trainable, interfaces)  # a checkpoint's own weights come last

    def _get_downstream(self) -> Any:
        """S3PRL's way to make an expert; distilled_emotion's is told besides how the Featurizer weighs the states."""
        if not self.distilled:
            return super()._get_downstream()
        from s3prl.downstream.distilled_emotion.expert import DownstreamExpert
        from s3prl.utility.helper import get_model_state

        featurizer = self.featurizer.model
        launched = Launched(layer_weights({"Featurizer": get_model_state(featurizer)}))
        expert = DownstreamExpert(upstream_dim=featurizer.output_dim, upstream_rate=featurizer.downsample_rate,
                                  launched=launched, **self.config, **vars(self.args))
        return self._init_model(model=expert.to(self.args.device), name="Downstream", trainable=True,
                                interfaces=["get_dataloader", "log_records"])


def adopt_layer_weights(featurizer: Any, config: Mapping[str, Any]) -> None:
    """Weigh the upstream's states as the generator's features were; what does not fit, the expert refuses."""
    path = config.get("downstream_expert", {}).get("datarc", {}).get("generator")
    weights = read_header(path).features.layer_weights if path else None
    if weights and getattr(featurizer, "layer_num", None) == len(weights):
        featurizer.weights.data.copy_(to_logits(weights))
        print(f"[s3prl_dd] - layer weights from {path}: {' '.join(f'{weight:.3f}' for weight in weights)}")


def means_key(args: Namespace) -> str:
    """The folder's name of utterance means: tells those of one upstream, checkpoint, -s and -l from another's."""
    digest = checkpoint_digest(spec_of(vars(args)))
    made_by = [args.hub, args.upstream, digest, args.upstream_feature_selection, args.upstream_layer_selection]
    return text_digest(map(str, made_by))[:16]


def check_blocks(config: Mapping[str, Any]) -> None:
    """Raise UserError for a block or a runner key that S3PRL's Runner does not read, or one it cannot do without."""
    _check_keys("config", config, BLOCKS)
    _check_keys("config.runner", config.get("runner", {}), RUNNER_KEYS)
    for key in ("runner", "optimizer", "downstream_expert"):
        if not config.get(key):
            raise UserError(f"config.{key}: missing. Start from a copy of a shipped configuration.")
    for key in ("datarc", "modelrc"):
        if key not in config["downstream_expert"]:
            raise UserError(f"config.downstream_expert.{key}: missing. Start from a copy of a shipped configuration.")


def _check_keys(where: str, block: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in block:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
            raise UserError(f"{where}: unknown key {key!r}. {hint}")

"""A trained SER head with its upstream, at work without S3PRL's Runner.

wav [N] -> upstream > Featurizer > projector > S3PRL's model of modelrc -> logits [C]

    model = SerModel.load("result/f1/exp/real_seed0")
    model.predict("speech.wav")     # Prediction(label='hap', probabilities={'neu': 0.11, 'hap': 0.8, ...}, ...)

Of a checkpoint only tensors and plain values are read, and no text in it is run: S3PRL evaluates the names of a modelrc
as Python, so that here each must first be the name of one of its classes.
"""

import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from ..config import Weight, build, settings
from ..corpora.audio import RATE, SHORTEST, load_audio
from ..corpora.metadata import Metadata, session
from ..devices import device_name
from ..errors import UserError, first_line
from ..features.spec import FeatureSpec
from ..files import read_json
from ..generator import read_header
from .compat import mend
from .encoder import Encoder, spec_of
from .featurizer import find_states, layer_weights, read_checkpoint
from .upstreams import check_trust, looks_like_path

DOWNSTREAMS = ("emotion", "distilled_emotion")
RUNS = f"a run of -d {' or -d '.join(DOWNSTREAMS)}"

MOVED = "Say where it is: changes={{'{key}': PATH}}, or --{flag} PATH."
"""How a user of SerModel names another place of an upstream's file."""

VALID_RATIO = 0.2
"""S3PRL's share of dev in the training list."""


WINDOW = 30.0
"""Seconds of a long recording that pass the upstream at a time."""

SHORTEST_REST = 1.0
"""Seconds; what is left of a recording after its last whole window joins it where it is shorter."""


# what a checkpoint says


@settings
class HeadFeatures(FeatureSpec):
    """How a SER run made its features, as its checkpoint says."""

    layer_weights: list[Weight] | None = None
    """Softmaxed weights of the upstream's states; None where it has a single one."""


class Origin(NamedTuple):
    """The corpus that a run's configuration names, as it stands there; None where it names none."""

    root: str | None
    metadata: str | None
    fold: str
    generator: str | None
    valid_ratio: float = VALID_RATIO


PLACES = ("root", "meta_data", "generator")
"""Keys of datarc that an Origin keeps."""

NOWHERE = Origin(None, None, "fold1", None)
"""Of a head whose run is not known."""


def read_ser_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint of a SER run on an upstream of S3PRL's own hub, see featurizer.read_checkpoint; else UserError."""
    checkpoint = read_checkpoint(path)
    arguments, head = checkpoint.get("Args"), checkpoint.get("Downstream")
    downstream = getattr(arguments, "downstream", None)
    parts = set(head) if isinstance(head, Mapping) else set()
    if downstream not in DOWNSTREAMS or not {"projector.weight", "projector.bias"} <= parts:
        contents = f"one of -d {downstream}" if downstream else f"entries {', '.join(map(str, checkpoint))}"
        raise UserError(f"{path}: not a SER checkpoint, found {contents}; expected dev-best.ckpt or states-*.ckpt of "
                        f"{RUNS}.")
    hub = getattr(arguments, "hub", "torch")
    if hub != "torch":
        raise UserError(f"{path}: its upstream came from --hub {hub}; only upstreams of S3PRL's own hub are loaded "
                        "here. Give a head of such a run.")
    return checkpoint


def features_of(checkpoint: Mapping[str, Any], path: str | Path, changes: Mapping[str, Any] | None = None,
                source: str | Path | None = None) -> HeadFeatures:
    """How a SER checkpoint's features were made.

    changes: keys of HeadFeatures that replace the checkpoint's; source: where they stand, for errors
    """
    try:
        spec = spec_of(vars(checkpoint["Args"]))
    except KeyError as error:
        raise UserError(f"{path}: its arguments lack {error}; expected those of S3PRL 0.4. Train the head "
                        "again.") from None
    values = {**dataclasses.asdict(spec), "layer_weights": layer_weights(checkpoint), **(changes or {})}
    return build(HeadFeatures, values, source or path)


def make_encoder(features: HeadFeatures, path: str | Path, remedy: str, device: str = "cpu") -> Encoder:
    """The Encoder of a checkpoint's features. path: of the checkpoint; remedy: how to name another place of a file."""
    for key in ("upstream_ckpt", "upstream_model_config"):
        source = getattr(features, key)
        if source and looks_like_path(source) and not Path(source).exists():
            advice = remedy.format(key=key, flag=key.replace("_", "-"))
            raise UserError(f"{path}: its upstream {features.upstream} was made from {source}, which is not there. "
                            f"{advice}")
    return Encoder(features, device, features.layer_weights)


def find_checkpoint(path: str | Path) -> Path:
    """The checkpoint of an expdir: dev-best.ckpt, else the newest states-*.ckpt that is whole. A file is itself."""
    path = Path(path)
    if not path.is_dir():
        return path
    best = path / "dev-best.ckpt"
    if best.exists():
        return best
    for states in reversed(find_states(path)):
        with contextlib.suppress(UserError):  # cut off: the one before it may be whole
            read_checkpoint(states)
            return states
    raise UserError(f"{path}: neither dev-best.ckpt nor a whole states-*.ckpt in it. Give the expdir of {RUNS}, or a "
                    "checkpoint.")


# the head


class Head(nn.Module):
    """frames, B of [T, D] -> projector > S3PRL's model of modelrc -> logits [B, C], as S3PRL's emotion expert."""

    def __init__(self, dim: int, classes: int, modelrc: Mapping[str, Any]) -> None:
        """modelrc: one that check_modelrc has passed."""
        super().__init__()
        name = modelrc["select"]
        model = head_classes()[name]
        self.projector = nn.Linear(dim, modelrc["projector_dim"])
        self.model = model(input_dim=modelrc["projector_dim"], output_dim=classes, **modelrc.get(name, {}))
        self.classes = classes

    def forward(self, frames: Sequence[torch.Tensor]) -> torch.Tensor:
        """See the class."""
        return head_logits(self.projector, self.model, frames)


def head_logits(projector: nn.Module, model: nn.Module, frames: Sequence[torch.Tensor]) -> torch.Tensor:
    """Logits [B, C] of frames, B of [T, D], as S3PRL's emotion expert makes them."""
    lengths = torch.IntTensor([len(item) for item in frames]).to(frames[0].device)
    logits, _ = model(projector(pad_sequence(list(frames), batch_first=True)), lengths)
    return logits


def head_classes() -> dict[str, type[nn.Module]]:
    """Name -> class of all that S3PRL may build an emotion head from."""
    mend()
    import s3prl.downstream.emotion.model as of_emotion
    import s3prl.downstream.model as of_all

    members = {**vars(of_all), **vars(of_emotion)}
    return {name: value for name, value in members.items()
            if isinstance(value, type) and issubclass(value, nn.Module) and value.__module__.startswith("s3prl.")}


def check_modelrc(modelrc: Any, path: str | Path) -> None:
    """Raise UserError unless each name in a modelrc is a class that S3PRL builds heads from: it evaluates them."""
    where = f"{path}: config.downstream_expert.modelrc"
    if not isinstance(modelrc, Mapping) or not {"select", "projector_dim"} <= set(modelrc):
        raise UserError(f"{where}: expected projector_dim, select and a model's settings, found {modelrc!r:.60}.")
    models = head_classes()
    activations = {name for name, value in vars(nn).items() if isinstance(value, type) and issubclass(value, nn.Module)}
    for key, value in _leaves(modelrc):
        known = activations if key == "activation" else models
        if not isinstance(value, int | float | None) and not (isinstance(value, str) and value in known):
            raise UserError(f"{where}: {key} is {value!r:.60}, which is no class of S3PRL's heads. Give a checkpoint "
                            f"of {RUNS}.")


def _leaves(block: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Key and value of all that stands in a nested block."""
    for key, value in block.items():
        if isinstance(value, Mapping):
            yield from _leaves(value)
        else:
            yield from ((key, item) for item in (value if isinstance(value, list | tuple) else [value]))


def build_head(checkpoint: Mapping[str, Any], path: str | Path) -> Head:
    """The head of a SER checkpoint, frozen, in eval mode, on the CPU; no random number is drawn.

    Raises UserError for a modelrc that S3PRL would not build or that does not fit the weights, and weights that are not
    finite.
    """
    try:
        modelrc = checkpoint["Config"]["downstream_expert"]["modelrc"]
    except (KeyError, TypeError):
        raise UserError(f"{path}: has no configuration of a head (Config). Give a checkpoint that S3PRL's Runner wrote "
                        "in training.") from None
    check_modelrc(modelrc, path)
    state = {name: value for name, value in checkpoint["Downstream"].items() if name != "best_score"}
    for name, value in state.items():
        if not torch.is_tensor(value) or not torch.isfinite(value).all():
            raise UserError(f"{path}: {name} holds what is not a finite number: its training diverged. Give another "
                            "checkpoint.")
    try:
        with torch.device("meta"):  # shapes alone: the weights are the checkpoint's
            head = Head(state["projector.weight"].shape[1], len(list(state.values())[-1]), modelrc)
        head.load_state_dict(state, assign=True)
    except Exception as error:  # S3PRL's classes raise all kinds for settings that they do not take
        said = " ".join(str(error).split())
        raise UserError(f"{path}: its weights are not those of its modelrc ({type(error).__name__}: "
                        f"{said[:200]}). Give a checkpoint that S3PRL's Runner wrote.") from None
    return head.float().eval().requires_grad_(False)


# class names


def origin_of(checkpoint: Mapping[str, Any]) -> Origin:
    """The corpus that a SER checkpoint's run read."""
    datarc = checkpoint["Config"]["downstream_expert"].get("datarc", {})
    root, metadata, generator = [str(datarc[key]) if datarc.get(key) else None for key in PLACES]
    fold = datarc.get("test_fold") or getattr(checkpoint["Args"], "downstream_variant", None) or "fold1"
    valid_ratio = datarc.get("valid_ratio", VALID_RATIO)
    return Origin(root, metadata, str(fold), generator, float(valid_ratio))


def find_labels(folder: Path, origin: Origin, classes: int) -> dict[str, list[str]]:
    """Class names in their order, as far as a run has left any: the file that they stand in -> C names.

    folder: of the checkpoint, where our expert keeps confusion matrices. Of the corpus' metadata and the generator
    what is there and has as many classes counts.
    """
    orders: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*_confusion.json")):
        with contextlib.suppress(UserError, KeyError, TypeError):
            orders[str(path)] = [str(name) for name in read_json(path)["labels"]]
    if origin.metadata:
        lists = Path(origin.metadata) / session(origin.fold)
        with contextlib.suppress(UserError, OSError, ValueError):
            orders[str(lists)] = Metadata.read(lists / "test_meta_data.json").class_names
    if origin.generator:
        with contextlib.suppress(UserError, OSError, ValueError):
            labels = read_header(origin.generator).labels
            orders[origin.generator] = sorted(labels, key=labels.__getitem__)
    return {source: names for source, names in orders.items() if len(names) == classes}


def name_classes(path: Path, origin: Origin, classes: int, given: Sequence[str] | None) -> tuple[str, ...] | None:
    """The C class names of a checkpoint's head, in order; None where nothing tells them.

    Raises UserError where two places tell different ones, and for given names of another number, or one twice.
    """
    if given is not None:
        if len(given) != classes or len(set(given)) != classes:
            raise UserError(f"labels {','.join(given)}: the head of {path} has {classes} classes. Give so many "
                            "different names, in the order of its training.")
        return tuple(given)
    orders = find_labels(path.parent, origin, classes)
    if len({tuple(names) for names in orders.values()}) > 1:
        told = "; ".join(f"{source}: {','.join(names)}" for source, names in orders.items())
        raise UserError(f"{path}: the names of its classes are told differently ({told}). Say which are right with "
                        "--labels.")
    return tuple(next(iter(orders.values()))) if orders else None


# at work


class Prediction(NamedTuple):
    """What a head says of a recording, or of a window of it."""

    label: str
    """The class of the highest probability."""

    probabilities: dict[str, float]
    """Class name -> probability, in the head's order."""

    start: float
    """Seconds from the recording's begin."""

    end: float
    """Seconds from the recording's begin."""

    windows: "tuple[Prediction, ...]" = ()
    """The windows that it was averaged over, where they were asked for."""


class Window(NamedTuple):
    """A part of a recording: samples from start up to end."""

    start: int
    end: int


def cut_windows(samples: int, seconds: float | None) -> list[Window]:
    """A recording's windows, one after the other. seconds: of each, at least 0.1; None takes all as one.

    The last is shorter, or, where less than SHORTEST_REST would be left, longer.
    """
    if seconds is None:
        return [Window(0, samples)]
    if not SHORTEST <= seconds < float("inf"):
        raise UserError(f"window {seconds}: expected at least {SHORTEST} seconds.")
    length = round(seconds * RATE)
    starts = list(range(0, samples, length)) or [0]
    if len(starts) > 1 and samples - starts[-1] < min(SHORTEST_REST * RATE, length):
        starts.pop()
    return [Window(*pair) for pair in zip(starts, [*starts[1:], samples], strict=True)]


class SerModel:
    """A trained head and the frozen upstream that it was trained on."""

    def __init__(self, encoder: Encoder, head: Head, classes: Sequence[str], named: bool = True,
                 origin: Origin = NOWHERE) -> None:
        """classes: C names in the head's order; named: whether they are known, or class0, class1, ..."""
        self.encoder, self.head = encoder, head.to(encoder.device)
        self.classes, self.named, self.origin = tuple(classes), named, origin

    @classmethod
    def load(cls, path: str | Path, device: str | None = None, labels: Sequence[str] | None = None,
             changes: Mapping[str, Any] | None = None) -> "SerModel":
        """Of an expdir (dev-best.ckpt, else the newest whole states-*.ckpt) or a checkpoint of a SER run, S3PRL's own
        or ours.

        device: None takes a GPU where there is one
        labels: names of the classes in the order of training; None finds them beside the checkpoint, in the metadata
            that it was trained on or in its generator, else they are class0, class1, ...
        changes: keys of HeadFeatures for the checkpoint's, for example upstream_ckpt where the file has moved
        Raises UserError for what is no such checkpoint, an upstream that is not as it was, and names in doubt.
        """
        device = device_name(device)
        path = find_checkpoint(path)
        checkpoint = read_ser_checkpoint(path)
        features = features_of(checkpoint, path, changes)
        named = (changes or {}).get("upstream")
        check_trust(features.upstream, named, path, f"name it: --upstream {features.upstream}")
        head, origin = build_head(checkpoint, path), origin_of(checkpoint)
        names = name_classes(path, origin, head.classes, labels)
        with contextlib.redirect_stdout(sys.stderr):  # S3PRL talks; stdout is for results
            encoder = make_encoder(features, path, MOVED, device)
        _adopt_upstream(encoder, checkpoint, features, path)
        dim = head.projector.in_features
        if encoder.dim != dim:
            raise UserError(f"{path}: its head takes {dim} dimensions, upstream {features.upstream} gives "
                            f"{encoder.dim}. Give the upstream of its training.")
        unnamed = [f"class{index}" for index in range(head.classes)]
        return cls(encoder, head, names or unnamed, names is not None, origin)

    @property
    def device(self) -> str:
        """Where it runs."""
        return self.encoder.device

    @torch.no_grad()
    def logits(self, wavs: Sequence[np.ndarray | torch.Tensor]) -> torch.Tensor:
        """wavs: B of float32 [N] at 16 kHz -> float32 [B, C] on the CPU.

        They pass the upstream as one batch, as S3PRL's Runner does it; some upstreams (HuBERT) hear the padding of the
        shorter ones. One at a time is what `predict` and `evaluate` do.
        """
        tensors = [torch.as_tensor(wav, dtype=torch.float32, device=self.device) for wav in wavs]
        frames = self.encoder.featurizer(tensors, self.encoder.upstream(tensors))
        return self.head(frames).float().cpu()

    def predict(self, path: str | Path, window: float | None = WINDOW, windows: bool = False) -> Prediction:
        """The class of a recording; AudioError where it cannot be read. window, windows: see classify."""
        return self.classify(load_audio(path, RATE), window, windows)

    def classify(self, wav: np.ndarray, window: float | None = WINDOW, windows: bool = False) -> Prediction:
        """The class of a wave, float32 [N] at 16 kHz.

        window: seconds that pass the upstream at a time; the probabilities of windows are averaged by their lengths.
            None takes the whole wave at once, as S3PRL does, whatever memory that needs.
        windows: whether each window's own prediction is told too
        Raises UserError for what upstream and head cannot take.
        """
        cuts = cut_windows(len(wav), window)
        logits = torch.cat([self._logits_alone(wav[cut.start:cut.end]) for cut in cuts])  # [W, C]
        each = logits.double().softmax(dim=-1)
        lengths = torch.tensor([cut.end - cut.start for cut in cuts], dtype=torch.float64)
        average = (lengths / lengths.sum()) @ each  # [C]
        parts = tuple(self._name(row, cut) for row, cut in zip(each, cuts, strict=True)) if windows else ()
        return self._name(average, Window(0, len(wav)))._replace(windows=parts)

    def _logits_alone(self, wav: np.ndarray) -> torch.Tensor:
        """Logits [1, C] of a wave; what an upstream or a head cannot take is a UserError."""
        what = f"{len(wav) / RATE:.1f} s of audio through upstream {self.encoder.spec.upstream} and its head"
        try:
            logits = self.logits([wav])
        except torch.cuda.OutOfMemoryError:
            raise UserError(f"{what}: the memory of {self.device} is too small. Choose a shorter window.") from None
        except (RuntimeError, AssertionError, ValueError) as error:  # some take no short ones, each in its own words
            raise UserError(f"{what}: {first_line(error)}. Choose another window or a longer recording.") from None
        if not torch.isfinite(logits).all():
            raise UserError(f"{what}: gives numbers that are not finite. Listen to the recording.")
        return logits

    def _name(self, probabilities: torch.Tensor, window: Window) -> Prediction:
        """probabilities: [C]."""
        label = self.classes[int(probabilities.argmax())]
        by_name = dict(zip(self.classes, probabilities.tolist(), strict=True))
        return Prediction(label, by_name, window.start / RATE, window.end / RATE)


def _adopt_upstream(encoder: Encoder, checkpoint: Mapping[str, Any], features: HeadFeatures, path: Path) -> None:
    """Give a fine-tuned run's upstream its own weights."""
    tuned = checkpoint.get("Upstream")
    if not tuned or features.upstream != checkpoint["Args"].upstream:
        return
    try:
        encoder.upstream.load_state_dict(tuned)
    except (RuntimeError, TypeError) as error:
        raise UserError(f"{path}: its fine-tuned weights do not fit upstream {features.upstream} "
                        f"({first_line(error)}). Give the upstream of its training.") from None

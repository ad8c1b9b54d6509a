"""What a run of -d distilled_emotion refuses: a generator that was made for other features, labels or people."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..corpora.metadata import Metadata, read_corpus, session
from ..errors import UserError
from ..features.spec import public_name
from ..generator import CorpusInfo, Header, Provenance
from .datarc import DATARC, DistilledData
from .encoder import checkpoint_digest, provenance_of, spec_of
from .featurizer import read_layer_weights

REMEDIES = {
    "upstream": "-u {}",
    "upstream_ckpt_digest": "-k and the checkpoint of digest {}",
    "selection": "-s {}",
    "layer": "-l {}",
    "normalize": "--upstream_feature_normalize {}",
    "dim": "the upstream of dim {}",
    "rate": "the upstream of {} samples a frame",
}
"""Field of a Provenance -> how to run with the generator's."""


log = logging.getLogger("s3prl_dd")

UNNAMED = "table"
"""What older versions called every corpus that came as a table."""


class Launched(NamedTuple):
    """What our launcher alone knows, and tells the expert.

    layer_weights: of the run's Featurizer, softmaxed [L]; None where the upstream has a single state
    """

    layer_weights: list[float] | None


def check_run(data: DistilledData, run: Mapping[str, Any]) -> None:
    """Refuse what cannot work with generated features. run: S3PRL's arguments and configuration blocks."""
    if run.get("upstream_trainable"):
        raise UserError("-f: the generator holds features of a frozen upstream; training the upstream on them is "
                        "impossible. Leave -f away.")
    if run.get("specaug"):
        raise UserError("config.specaug: would mask the placeholders, not the generated features. "
                        "Remove it from the configuration.")
    training = run["mode"] == "train"
    if training and not data.generator:
        raise UserError(f'{DATARC}.generator: not set. Give a generator file with -o "{DATARC}.generator=FILE".')
    if data.root:
        return
    evaluated = run["runner"]["eval_dataloaders"] if training else [run["evaluate_split"]]
    if not training or set(evaluated) != {"dev"}:
        raise UserError(f"{DATARC}.root: not set, and {', '.join(evaluated)} needs real audio. Set root and meta_data, "
                        "or train and validate on samples alone with -o \"config.runner.eval_dataloaders=['dev']\".")


def check_upstream_of(path: str | None, features: Provenance, upstream: str) -> None:
    """Refuse features of another upstream, by its name alone. path, features: of the generator; upstream: S3PRL's -u"""
    name = public_name(upstream)
    if features.upstream != name:
        raise _refused(path, "upstream", features.upstream, name)


def _refused(path: str | None, name: str, theirs: object, ours: object) -> UserError:
    return UserError(f"{path}: its features have {name} {theirs}, this run has {ours}. Run with "
                     f"{REMEDIES[name].format(theirs)}, or distil a generator for this run's upstream.")


def check_features(path: str | None, features: Provenance, upstream_dim: int, launched: Launched | None,
                   run: Mapping[str, Any]) -> None:
    """Refuse features made another way than this run makes them. path, features: of the generator."""
    spec = spec_of(run)
    layer_weights = _layer_weights(features.layer_weights, launched, run)
    here = provenance_of(spec, checkpoint_digest(spec), layer_weights, upstream_dim, run["upstream_rate"])
    differences = features.differences(here)
    for name in REMEDIES:
        if name in differences:
            raise _refused(path, name, *differences[name])
    if "layer_weights" in differences:
        theirs, ours = differences["layer_weights"]
        remedy = f"Run `s3prl-dd weights {path} -o weights.ckpt` and add -i weights.ckpt."
        if theirs is None or (launched and (ours is None or len(theirs) != len(ours))):
            remedy = "Distil a generator for this run's upstream."
        raise UserError(f"{path}: its features weigh the upstream's layers {_rounded(theirs)}, this run's Featurizer "
                        f"{_rounded(ours)}. {remedy}")


def _layer_weights(wanted: list[float] | None, launched: Launched | None, run: Mapping[str, Any]) -> list[float] | None:
    """The layer weights of this run's Featurizer, as far as they can be known. wanted: the generator's"""
    if launched:
        return launched.layer_weights
    if wanted is None:
        return None
    from_checkpoint = read_layer_weights(run["init_ckpt"]) if run.get("init_ckpt") else None
    return from_checkpoint or [1 / len(wanted)] * len(wanted)  # as S3PRL starts


def check_corpus(data: DistilledData, header: Header) -> None:
    """Refuse a generator of other labels, or distilled with speakers of this test fold."""
    folder = Path(data.meta_data or "") / session(str(data.test_fold))
    if not data.meta_data or not folder.is_dir():
        return  # open_list says what is wrong
    test = Metadata.read(folder / "test_meta_data.json")
    if header.labels != test.labels:
        raise UserError(f"{data.generator}: its labels are {header.labels}, those of {data.meta_data} {test.labels}. "
                        "Prepare the corpus with the same labels, or distil a generator for these.")
    corpus = header.corpus
    if (Path(data.meta_data) / "corpus.json").is_file():
        described = read_corpus(data.meta_data)
        if corpus.name not in ("", UNNAMED, described.name):
            _tell_namesakes(data, corpus, described.name, test.speakers)
            return  # another corpus, so other people, whatever their names
        if described.shared_speakers and corpus.fold == data.test_fold:
            return  # its own lists share speakers, and whoever prepared it allowed that
    shared = corpus.heard(test.speakers)
    if shared:
        raise UserError(f"{data.generator}: distilled with {len(shared)} speaker(s) of this run's test fold "
                        f"{data.test_fold}, for example {shared[0]} (it was made for {corpus.fold}). Test on "
                        f"{corpus.fold}, or distil for {data.test_fold}.")


def _tell_namesakes(data: DistilledData, corpus: CorpusInfo, name: str, speakers: Sequence[str]) -> None:
    """Warn where a generator of a corpus of another name heard people who are called as some of this test fold."""
    shared = corpus.heard(speakers)
    if shared:
        log.warning("%s: distilled of %s, with %d speaker(s) called as some of %s's test fold, for example %s. If they "
                    "are the same people, the test says nothing about new ones.", data.generator, corpus.name,
                    len(shared), name, shared[0])


def _rounded(weights: Sequence[float] | None) -> str:
    return "none" if weights is None else "[" + " ".join(f"{weight:.3f}" for weight in weights) + "]"

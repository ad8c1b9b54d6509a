"""What a generator file is and was made from, as text or JSON."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .header import Header, Provenance, read_header
from .hub import located
from .layout import Layout, empty_network, read_layout
from .networks import Network


def inspect(path: str | Path, as_json: bool = False) -> None:
    """Print what a generator file is and was made from; its tensors are not read. Errors: see read_header."""
    path = located(path)
    if as_json:
        header, size = read_header(path), Path(path).stat().st_size
        shown = dataclasses.replace(header, corpus=header.corpus.hiding_names())
        print(json.dumps({**dataclasses.asdict(shown), "bytes": size}, indent=2))
        return
    for key, value in described(path).items():
        print(f"{key:<12} {value}")


def described(path: str | Path) -> dict[str, str]:
    """What a generator file is and was made from, key -> text of one line. Errors: see read_header."""
    layout = read_layout(path)
    header, size = layout.header, Path(path).stat().st_size
    lines = {"file": f"{path}, {size / 1e6:.2f} MB, format {header.format_version}, {header.precision}",
             **_network(header.network), **_source(header), **_beside(layout), **_trained(header)}
    return {key: _printable(value) for key, value in lines.items()}


def _network(network: Network) -> dict[str, str]:
    numbers = sum(parameter.numel() for parameter in empty_network(network).parameters())
    deviations = ", frame deviations of any class" if network.movement == "any" else ""
    return {"network": f"{network.architecture}, {numbers:,} parameters, samples of [{network.frames}, {network.dim}]"
                       f"{deviations}"}


def _beside(layout: Layout) -> dict[str, str]:
    """What the file holds beside its network."""
    directions, heads = layout.suppressed, "linear head" if layout.heads == 1 else "linear heads"
    return {
        "soft labels": f"a teacher of {layout.heads} {heads}" if layout.heads else "none",
        "small sets": f"{layout.points} learnt points a class" if layout.points else "as drawn, no learnt points",
        "calibrated": "to the real class means and within-class covariance" if layout.calibrated else "no",
        "speakers": f"suppressed in {directions} directions, for heads too" if directions else "not suppressed",
    }


def _source(header: Header) -> dict[str, str]:
    """What it was made from."""
    corpus = header.corpus
    counts = ", ".join(f"{name} {count}" for name, count in zip(header.names(), header.class_counts, strict=True))
    return {
        "replaces": f"{sum(header.class_counts)} utterances of {corpus.name} ({counts})",
        "test fold": f"{corpus.fold}; {len(corpus.train_speakers)} speakers were heard, "
                     f"the {len(corpus.test_speakers)} of the test fold never",
        "features": _features(header.features),
    }


def _features(features: Provenance) -> str:
    text = f"{features.upstream} -s {features.selection}"
    if features.layer is not None:
        text += f" -l {features.layer}"
    if features.normalize:
        text += " --upstream_feature_normalize"
    if features.layer_weights:
        text += ", layer weights " + " ".join(f"{weight:.2f}" for weight in features.layer_weights)
    return f"{text}, {features.rate} samples a frame"


def _trained(header: Header) -> dict[str, str]:
    """How it was trained, and what was measured. Both blocks hold what the trainer of their day wrote."""
    training = header.training
    return {
        "trained": _listed({key: training.get(key) for key in ("step", "batch", "seed", "framing")}),
        "losses": _listed(_used(training.get("lambdas")), "g"),
        "on dev": _listed(_numbers(header.metrics), ".3f"),
    }


def _used(lambdas: Any) -> dict[str, Any]:
    """The loss terms whose weight is not 0."""
    return {key: value for key, value in lambdas.items() if value != 0} if isinstance(lambdas, Mapping) else {}


def _numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Those of one number each; tables of them are for --json."""
    return {key: value for key, value in metrics.items() if isinstance(value, int | float)}


def _listed(values: Mapping[str, Any], form: str = "") -> str:
    """`key value, ...`, fractions in this form."""
    return ", ".join(f"{key} {value:{form}}" if isinstance(value, float) else f"{key} {value}"
                     for key, value in values.items())


def _printable(text: str) -> str:
    """Without line breaks and control characters, which a header from elsewhere may hold."""
    return "".join(character if character.isprintable() else " " for character in text)

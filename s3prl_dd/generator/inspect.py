"""What a generator file is and was made from, as text or JSON."""

import dataclasses
import json
from pathlib import Path

from .file import Generator


def inspect(path, as_json=False):
    """Print what a generator file is and was made from."""
    generator = Generator.load(path)
    header = dataclasses.asdict(generator.header)
    if as_json:
        print(json.dumps({**header, "bytes": Path(path).stat().st_size}, indent=2))
        return
    network, features, corpus, training = (header.get(key, {}) for key in ("network", "features", "corpus", "training"))
    names = sorted(header["labels"], key=header["labels"].get)
    counts = ", ".join(f"{name} {count}" for name, count in zip(names, header["class_counts"]))
    weights = features.get("layer_weights")
    lines = {
        "file": f"{path}, {Path(path).stat().st_size / 1e6:.2f} MB, format {header['format_version']}, {header['precision']}",
        "network": f"{network['architecture']}, {sum(p.numel() for p in generator.network.parameters()):,} parameters, "
                   f"samples of [{network['frames']}, {network['dim']}]",
        "replaces": f"{sum(header['class_counts'])} utterances of {corpus.get('name')} ({counts})",
        "test fold": f"{corpus.get('fold')}; test speakers {', '.join(corpus.get('test_speakers', []))} were never seen",
        "features": f"{features.get('upstream')} -s {features.get('selection')}"
                    + (f" -l {features['layer']}" if features.get("layer") is not None else "")
                    + (" --upstream_feature_normalize" if features.get("normalize") else "")
                    + (", layer weights " + " ".join(f"{weight:.2f}" for weight in weights) if weights else "")
                    + f", {features.get('rate')} samples a frame",
        "soft labels": f"a teacher of {len(generator.teacher[0])} linear heads" if generator.teacher else "none",
        "calibrated": "to the real class means and within-class covariance" if generator.calibration else "no",
        "trained": ", ".join(f"{key} {training.get(key)}" for key in ("step", "batch", "seed", "framing")),
        "losses": ", ".join(f"{key} {value:g}" for key, value in training.get("lambdas", {}).items()),
        "on dev": ", ".join(f"{key} {value:.3f}" if isinstance(value, float) else f"{key} {value}"
                            for key, value in header.get("metrics", {}).items()),
    }
    for key, value in lines.items():
        print(f"{key:<12} {value}")

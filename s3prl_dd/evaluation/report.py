"""The results of a run's folder: results.json, and the table that is printed from it."""

import importlib.metadata
import os
import platform
from pathlib import Path

import numpy as np

from .. import __version__
from ..files import atomic_path, read_json
from ..recipe.stages import budget_of, points


def collect(run):
    """All that a run measured, as results.json holds it: UARs are fractions on the real test split."""
    fold, corpus = run.fold, run.corpus
    counts = fold.train.class_counts
    arms = {}
    for score in run.scores():
        arms.setdefault(score["arm"], []).append(score)
    results = {}
    for arm, scores in sorted(arms.items(), key=lambda item: order(item[0])):
        scores.sort(key=lambda score: score["seed"])
        results[arm] = {
            "uar": float(np.mean([score["uar"] for score in scores])), "uar_per_seed": [score["uar"] for score in scores],
            "dev_uar": float(np.mean([score["dev_uar"] for score in scores])),
            "accuracy": float(np.mean([score["accuracy"] for score in scores])), "points": points(arm, counts),
            "train_seconds": float(np.mean([score["seconds"] for score in scores])),
            "lr_per_seed": [score["lr"] for score in scores], "command": scores[0]["command"],
            "predicted": [score.get("predicted") for score in scores]}  # class indices [seeds, test utterances], None where not kept
    root = Path(corpus["root"])
    sizes = {"audio": sum((root / item.path).stat().st_size for item in fold.train.utterances)}
    if (run.features / "header.json").is_file():
        from ..features.store import FeatureStore

        store = FeatureStore(run.features)
        sizes["features_float32"] = int(sum(store.lengths[i] for i in store.select(fold.train)) * store.dim * 4)
    if run.generator.is_file():
        sizes["generator"] = run.generator.stat().st_size
    seconds = read_json(run.gan / "seconds.json") if (run.gan / "seconds.json").is_file() else {}
    return {"arms": results, "bytes": sizes, "distill_seconds": seconds.get("distill"), "corpus": corpus["name"],
            "synthetic": corpus["synthetic"], "upstream": run.settings.upstream, "fold": run.settings.fold,
            "config": run.settings.config, "overrides": run.settings.overrides, "labels": run.settings.labels,
            "center": run.settings.center, "lengths": run.settings.lengths, "head": run.settings.head, "classes": len(counts), "test_utterances": len(fold.test.utterances),
            "test": {"truth": [fold.test.labels[item.label] for item in fold.test.utterances],
                     "speakers": [item.speaker for item in fold.test.utterances]},
            "versions": versions(), "machine": machine()}


def order(arm):
    """real, then the distilled arms from many points to few, then the random real ones."""
    kind = ["real", "distilled", "random"].index(arm.split("_")[0])
    budget = budget_of(arm)
    return kind, (-budget if isinstance(budget, int) else ["balanced", "original", None].index(budget) - 1e9)


def versions():
    found = {"s3prl_dd": __version__}
    for name in ("s3prl", "torch", "torchaudio", "numpy"):
        found[name] = importlib.metadata.version(name)
    return found


def machine():
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"system": platform.platform(), "cores": os.cpu_count(), "gpu": gpu}


NAMES = {"real": "all real data", "distilled_full": "GAN samples, full size", "distilled_original": "GAN samples, original mix",
         "distilled": "GAN samples", "random": "random real subset"}
COLORS = {"real": "#4878a8", "distilled": "#d1762f", "random": "#9a9a9a"}


def display_name(arm, config):
    """An arm's row; config: the configuration of the run whose generator made the samples."""
    name = NAMES.get(arm) or f"{NAMES[arm.split('_')[0]]}, {arm.rpartition('_')[2].removesuffix('ppc')} a class"
    return name.replace("GAN", "Gaussian") if Path(config).stem == "gaussian" else name


def plot(results, path):
    """UAR of each arm as a bar, its seeds as dots, chance as a line; written to `path` (PNG)."""
    from matplotlib.figure import Figure

    arms = list(results["arms"].items())[::-1]
    figure = Figure(figsize=(7, 0.5 * len(arms) + 1.4), layout="constrained")
    axis = figure.subplots()
    axis.barh([display_name(arm, results["config"]) for arm, _ in arms], [100 * score["uar"] for _, score in arms],
              color=[COLORS[arm.split("_")[0]] for arm, _ in arms])
    for row, (_, score) in enumerate(arms):
        axis.plot([100 * value for value in score["uar_per_seed"]], [row] * len(score["uar_per_seed"]), "k.", markersize=4)
    axis.axvline(100 / results["classes"], color="k", linestyle=":", linewidth=1)
    axis.set(xlabel="UAR % on held-out speakers (dots: seeds, dotted line: chance)", xlim=(0, 100),
             title=f"{results['corpus']}, {results['upstream']}, {results['fold']}")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def table(results):
    """The results as text."""
    seeds = max(len(arm["uar_per_seed"]) for arm in results["arms"].values())
    head = "SER head" if results["head"] == "superb" else f"{results['head']} SER head"
    lines = ["", f"{results['corpus']}, {results['upstream']}, {results['fold']}: {head} by S3PRL's runner, UAR on "
             f"{results['test_utterances']} real test utterances of held-out speakers, {seeds} seed{'s' * (seeds > 1)}", "",
             f"{'trained on':<32} {'points':>7} {'UAR %':>7} {'+-':>5} {'acc %':>7} {'seconds':>8}", "-" * 71]
    if results["synthetic"]:
        lines[1] = lines[1].replace("real test utterances", "test utterances (synthetic speech)")
    for arm, score in results["arms"].items():
        name = display_name(arm, results["config"])
        spread = f"{100 * np.std(score['uar_per_seed'], ddof=1):.1f}" if len(score["uar_per_seed"]) > 1 else "-"
        lines.append(f"{name:<32} {score['points']:>7} {100 * score['uar']:>7.1f} {spread:>5} {100 * score['accuracy']:>7.1f} "
                     f"{score['train_seconds']:>8.0f}")
    lines.append("-" * 71)
    sizes = results["bytes"]
    names = {"audio": "audio of the training part", "features_float32": "its features (float32)", "generator": "generator file"}
    for key, size in sizes.items():
        share = f"  ({100 * size / sizes['audio']:.1f} % of the audio)" if key == "generator" else ""
        lines.append(f"{names[key]:<32} {size / 1e6:>10.2f} MB{share}")
    if results["distill_seconds"]:
        lines.append(f"{'distillation':<32} {results['distill_seconds']:>10.0f} s")
    lines.append("seconds: a whole run of S3PRL's runner, start and evaluations on real audio included. "
                 f"GAN samples have {results['labels']} labels.")
    return "\n".join(lines)

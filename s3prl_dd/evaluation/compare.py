"""Several runs side by side (folds, configurations, heads): their arms as rows, each against all real data."""

from pathlib import Path

import numpy as np

from ..errors import UserError
from ..files import atomic_path, read_json, write_json
from ..recipe.stages import HEADS
from .report import COLORS, display_name, order
from .significance import mcnemar, uar_difference


def compare(folders):
    """The comparison of finished runs as a dict: `corpus`, `upstream`, `folds`, and `rows`, each with

    trained_on, head, variant: what the row is (see variant())
    uar: fold -> UARs of its head seeds; mean, spread: over folds, of a fold's seeds (standard deviation)
    of_real: share of the UAR of all real data on the same folds and head, None without
    minus_real: [difference, low, high] to it (significance.uar_difference); mcnemar: p over all folds, median over pairs
        of seeds; both None where predictions were not kept
    Runs of one fold and head must share their heads on real data.
    """
    runs = [read_json(result_file(folder), "results") for folder in folders]
    for key in ("corpus", "upstream"):
        if len({run[key] for run in runs}) > 1:
            raise UserError(f"runs of different {key}: {', '.join(sorted({run[key] for run in runs}))}. Compare those of one.")
    rows, tests = {}, {}  # (head, arm, variant or "") -> fold -> (arm's results, folder); fold -> truth and speakers
    for folder, run in zip(folders, runs):
        tests[run["fold"]] = run.get("test")
        for arm, score in run["arms"].items():
            key = run.get("head", "superb"), arm, variant(run) if arm.startswith("distilled") else ""
            found, before = rows.setdefault(key, {}).setdefault(run["fold"], (score, folder))
            if found["uar_per_seed"] != score["uar_per_seed"]:
                raise UserError(f"{folder} and {before}: the row {display_name(arm, run['config'])!r} of {run['fold']} differs. Compare "
                                "runs that share one --base, each reported anew (`s3prl-dd report --out RUN`), and a variant once.")
    rows = {key: {fold: score for fold, (score, _) in found.items()} for key, found in rows.items()}
    ordered = sorted(rows, key=lambda key: (list(HEADS).index(key[0]), order(key[1]), key[2]))
    return {"corpus": runs[0]["corpus"], "upstream": runs[0]["upstream"], "folds": sorted(tests),
            "rows": [one_row(key, rows[key], rows.get((key[0], "real", ""), {}), tests) for key in ordered]}


def one_row(key, found, real, tests):
    head, arm, made_by = key
    uars = {fold: score["uar_per_seed"] for fold, score in sorted(found.items())}
    spreads = [np.std(values, ddof=1) for values in uars.values() if len(values) > 1]
    row = {"trained_on": display_name(arm, made_by.split()[0] if made_by else ""), "arm": arm, "head": head, "variant": made_by, "uar": uars,
           "mean": float(np.mean([np.mean(values) for values in uars.values()])), "spread": float(np.mean(spreads)) if spreads else None,
           "of_real": None, "minus_real": None, "mcnemar": None}
    shared = sorted(set(found) & set(real))
    if shared:
        row["of_real"] = float(np.mean([np.mean(uars[fold]) for fold in shared]) / np.mean([np.mean(real[fold]["uar_per_seed"]) for fold in shared]))
    if arm != "real" and shared == sorted(found) and all(predicted(side[fold]) for side in (found, real) for fold in shared):
        pairs = [(tests[fold]["truth"], tests[fold]["speakers"], found[fold]["predicted"], real[fold]["predicted"]) for fold in shared]
        row["minus_real"] = uar_difference(pairs)
        seeds = min(len(side) for pair in pairs for side in pair[2:])
        truth, first, second = (np.concatenate(parts, axis=-1) for parts in zip(*((truth, one[:seeds], other[:seeds]) for truth, _, one, other in pairs)))
        row["mcnemar"] = float(np.median([mcnemar(truth, *pair) for pair in zip(first, second)]))
    return row


def predicted(score):
    """Whether the predictions of all of an arm's heads were kept."""
    return all(score.get("predicted") or [None])


def result_file(folder):
    path = Path(folder) / "results.json"
    if not path.is_file():
        raise UserError(f"{path}: not there. Give the folders of finished runs (`s3prl-dd report --out {folder}` writes it).")
    return path


def variant(run):
    """A run's configuration in a few words."""
    words = [Path(run["config"]).stem, *run["overrides"], run["labels"] + " labels"] + ["uncentred"] * (not run["center"])
    return " ".join(words + ["corpus lengths"] * (run.get("lengths") == "corpus"))


def describe(row, comparison):
    """A row's configuration, with the head where there are several."""
    heads = {other["head"] for other in comparison["rows"]}
    return row["variant"] if heads == {"superb"} else f"{row['variant']} {row['head']} head".strip()


def table(comparison):
    """The comparison as text."""
    folds = comparison["folds"]
    width = max(len(describe(row, comparison)) for row in comparison["rows"]) + 2
    tested = any(row["minus_real"] for row in comparison["rows"])
    lines = [f"{comparison['corpus']}, {comparison['upstream']}: UAR % on real test speech of held-out speakers", "",
             f"{'trained on':<32} {'configuration':<{width}}" + "".join(f"{fold:>8}" for fold in folds)
             + f"{'mean':>8} {'+-':>5} {'seeds':>6} {'of real':>8}" + (f" {'- real':>7} {'95 %':>14} {'McNemar p':>10}" if tested else "")]
    lines.append("-" * len(lines[-1]))
    for row in comparison["rows"]:
        cells = [f"{100 * np.mean(row['uar'][fold]):>8.1f}" if fold in row["uar"] else f"{'-':>8}" for fold in folds]
        spread = "-" if row["spread"] is None else f"{100 * row['spread']:.1f}"
        share = "-" if row["of_real"] is None else f"{100 * row['of_real']:.1f}%"
        line = (f"{row['trained_on']:<32} {describe(row, comparison):<{width}}" + "".join(cells) + f"{100 * row['mean']:>8.1f} {spread:>5}"
                f" {min(map(len, row['uar'].values())):>6} {share:>8}")
        if row["minus_real"]:
            difference, low, high = (100 * value for value in row["minus_real"])
            line += f" {difference:>7.1f} {f'{low:.1f} .. {high:.1f}':>14} {row['mcnemar']:>10.2g}"
        lines.append(line)
    return "\n".join(lines)


def plot(comparison, path):
    """The rows' mean UAR as bars, a dot for each fold; written to `path` (PNG)."""
    from matplotlib.figure import Figure

    rows = comparison["rows"][::-1]
    figure = Figure(figsize=(9, 0.36 * len(rows) + 1.4), layout="constrained")
    axis = figure.subplots()
    axis.barh(range(len(rows)), [100 * row["mean"] for row in rows], color=[COLORS[row["arm"].split("_")[0]] for row in rows])
    axis.set_yticks(range(len(rows)), [", ".join(filter(None, (row["trained_on"], describe(row, comparison)))) for row in rows], fontsize=7)
    for number, row in enumerate(rows):
        axis.plot([100 * np.mean(values) for values in row["uar"].values()], [number] * len(row["uar"]), "k.", markersize=4)
    axis.set(xlabel="UAR % on held-out speakers (dots: folds)", xlim=(0, 100), title=f"{comparison['corpus']}, {comparison['upstream']}")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def save(comparison, out):
    """comparison.json, .txt (the table) and .png in the folder `out`."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "comparison.json", comparison)
    with atomic_path(out / "comparison.txt") as temporary:
        Path(temporary).write_text(table(comparison) + "\n", encoding="utf-8")
    plot(comparison, out / "comparison.png")

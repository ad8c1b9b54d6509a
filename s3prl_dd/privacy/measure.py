"""What is left of the speaker: the paper's Table 4 through S3PRL's own speaker identification, and attacks on the generator.

    <run>/privacy/<tree>/exp/<row>_seed<s>_lr<lr>/  S3PRL's -d voxceleb1, one run each; what is there is not run again
    <run>/privacy/<tree>/states.npz             the upstream's states of the tree, averaged over time
    <run>/privacy/results.json, privacy.png     everything, and SID accuracy over SER UAR

Rows: the plain upstream, then the first linear layer of SER heads (upstream ser_projector): untrained (what any linear
layer of this size lets through), trained on real data, on the baseline GAN, on the proposed one. SID accuracy is worth
nothing without the head's UAR beside it: a head that knows nothing is private too.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from sklearn.model_selection import StratifiedKFold
from tqdm import tqdm

from ..corpora.sid import FIRST, check_voxceleb1
from ..errors import UserError
from ..files import atomic_path, read_json, text_digest, write_json
from ..pool.heads import Heads
from ..recipe import stages as recipe
from . import attacks

TITLES = {"upstream": "plain upstream", "untrained": "SER head, untrained", "real": "SER head on real data",
          "baseline": "SER head on the baseline GAN", "proposed": "SER head on the proposed GAN"}
PROBED = 5000  # utterances; a larger tree gets no cross-validated probe


@dataclass
class Settings:
    """Of one measurement."""

    arm: str = "distilled_full"  # which heads of the GAN runs
    seeds: int = 3  # SID runs of each row; run s takes the head of seed s, going round
    steps: int = 300  # of S3PRL's SID recipe
    batch: int = 20  # utterances a step
    lrs: list = field(default_factory=lambda: [1e-3, 1e-2])  # Adam; each row takes the best on dev at seed 0
    samples: int = 2000  # of each generator, for the attacks
    device: str | None = None
    jobs: int = 0  # S3PRL runs at a time; 0: one a core on CPU, one on a GPU
    feature_cache: float = 4.0  # gigabytes


@dataclass
class Tree:
    """A SID tree: root, its list file, and what it is."""

    root: Path
    list_file: Path
    counts: dict
    about: dict  # sid.json, or {}

    @classmethod
    def open(cls, root, list_file=None):
        root = Path(root).resolve()
        list_file = Path(list_file).resolve() if list_file else root / "list.txt"
        about = read_json(root / "sid.json") if (root / "sid.json").is_file() else {}
        return cls(root, list_file, check_voxceleb1(root, list_file), about)

    @property
    def name(self):
        digest = text_digest([str(self.root), self.list_file.read_text(encoding="utf-8")])
        return f"{self.root.name}_{digest[:8]}"

    def utterances(self):
        """(paths, parts [N], speakers [N]) in the list's order."""
        lines = [line.split() for line in self.list_file.read_text(encoding="utf-8").splitlines()]
        paths = [next(self.root.glob(f"*/wav/{path}")) for _, path in lines]
        return paths, np.array([int(part) for part, _ in lines]), np.array([int(path[2:7]) - FIRST for _, path in lines])


def measure(out, sid_roots=(), list_file=None, baseline=None, settings=None):
    """Rows and attacks for the recipe run `out` (the proposed GAN) and, if given, `baseline`; prints, writes, returns them."""
    settings = settings or Settings()
    runs = {"proposed": recipe.Run.open(out)} | ({"baseline": recipe.Run.open(baseline)} if baseline else {})
    _same_features(runs)
    trees = [Tree.open(root, list_file) for root in sid_roots]
    folder = runs["proposed"].out / "privacy"
    path = folder / "results.json"
    results = read_json(path) if path.is_file() else {"sid": {}}
    for tree in trees:
        results["sid"][tree.name] = measure_tree(runs, tree, folder / tree.name, settings)
    results["attacks"] = attack_generators(runs, settings)
    write_json(path, results)
    print(table(results))
    if results["sid"]:
        plot(results, folder / "privacy.png")
        print(f"written: {path}, {folder / 'privacy.png'}")
    return results


def _same_features(runs):
    if len(runs) < 2:
        return
    one, other = (runs[name].settings for name in ("proposed", "baseline"))
    for key in ("corpus", "upstream", "upstream_ckpt", "upstream_model_config", "selection", "layer", "normalize", "fold"):
        if getattr(one, key) != getattr(other, key):
            raise UserError(f"{runs['baseline'].out}: its {key} is {getattr(other, key)!r}, that of {runs['proposed'].out} is "
                            f"{getattr(one, key)!r}; two GANs can only be compared on the same features and fold.")


# the rows


def heads_of(run, arm):
    """[(checkpoint, SER test UAR), ...] of an arm, by seed."""
    scores = [score for score in run.scores() if score["arm"] == arm]
    found = [((run.exp(arm) / score["expdir"] / "dev-best.ckpt").resolve(), score["uar"]) for score in scores]
    if not found:
        raise UserError(f"{run.out}/exp: no head of arm {arm!r} (no {arm}_seed*/run.json). Run `s3prl-dd run --out {run.out}` "
                        "first, or choose another --arm.")
    return found


def rows_of(runs, settings, folder):
    """Row -> [(checkpoint or None, UAR or None), ...], one a seed."""
    rows = {"upstream": [(None, None)], "real": heads_of(runs["proposed"], "real")}
    rows |= {name: heads_of(runs[name], settings.arm) for name in ("baseline", "proposed") if name in runs}
    rows["untrained"] = [(untrained(rows["real"][0][0], folder / f"untrained_seed{seed}.ckpt", seed), None) for seed in range(settings.seeds)]
    return {name: [rows[name][seed % len(rows[name])] for seed in range(settings.seeds)] for name in TITLES if name in rows}


def untrained(checkpoint, path, seed):
    """The same checkpoint with an untrained head and uniform layer weights, at `path`."""
    if not path.is_file():
        from ..plugin.featurizer import read_checkpoint

        state = read_checkpoint(checkpoint)
        fresh = Heads.create([f"untrained/{seed}"], state["Downstream"]["projector.weight"].shape[1], 1).state()
        head = {**state["Downstream"], **{key: fresh[key][0] for key in ("projector.weight", "projector.bias")}}
        weights = {key: torch.zeros_like(value) for key, value in state.get("Featurizer", {}).items()}
        with atomic_path(path) as temporary:
            torch.save({"Downstream": head, "Featurizer": weights, "Args": state["Args"], "Config": state.get("Config")}, temporary)
    return path.resolve()


def measure_tree(runs, tree, folder, settings):
    """The rows on one tree: S3PRL's SID recipe and a cross-validated probe."""
    folder.mkdir(parents=True, exist_ok=True)
    run = runs["proposed"]
    rows = rows_of(runs, settings, folder)
    scores = run_rows(run, rows, tree, folder, settings)
    probes = probe_rows(run, rows, tree, folder) if sum(tree.counts[part] for part in ("train", "dev", "test")) <= PROBED else {}
    _, parts, speakers = tree.utterances()
    found = {}
    for name, heads in rows.items():
        per_seed = [score["test"] for score in scores[name]]
        uars = [uar for _, uar in heads if uar is not None]
        found[name] = {"sid_accuracy": attacks.wilson(float(np.mean(per_seed)), int((parts == 3).sum())), "per_seed": per_seed,
                       "lr": scores[name][0]["lr"], "train_accuracy": float(np.mean([score["train"] for score in scores[name]])),
                       "ser_uar": float(np.mean(uars)) if uars else None, **probes.get(name, {}),
                       "heads": [str(checkpoint) for checkpoint, _ in heads], "command": scores[name][0]["command"]}
    own = Path(tree.about.get("root", "/")).resolve() == Path(run.corpus["root"]).resolve()
    known = {*run.fold.train.speakers, *run.fold.dev.speakers}
    return {"root": str(tree.root), "list": str(tree.list_file), **tree.counts, "chance": 1 / tree.counts["speakers"],
            "majority": float(np.bincount(speakers[parts == 3]).max() / (parts == 3).sum()), "split_by": tree.about.get("split_by"),
            "synthetic": run.corpus["synthetic"] and own,
            "measure": f"in-corpus: speakers of {run.corpus['name']} itself, of whom {len(known)} trained the heads; not Table 4's measure"
                       if own else "other speakers than the heads were trained on, as in Table 4",
            "rows": found}


def run_rows(run, rows, tree, folder, settings):
    """Row -> its score of each seed, by S3PRL's voxceleb1 recipe in processes of their own."""
    device = settings.device or run.settings.device_name()
    runs = len(rows) * (settings.seeds + len(settings.lrs) - 1)
    jobs, threads = recipe.share_cores(settings.jobs, device, runs)

    def one(name, seed, lr):
        expdir = folder / "exp" / f"{name}_seed{seed}_lr{lr:g}"
        return run_sid(run, rows[name][seed][0], tree, expdir, seed, lr, settings, device, threads)

    with tqdm(total=runs, desc=f"SID, {tree.root.name}", unit="run") as progress, \
            ThreadPoolExecutor(jobs) as pool:
        def spread(items):
            def job(item):
                score = one(*item)
                progress.write(f"{item[0]} seed {item[1]} lr {item[2]:g}: accuracy {score['test']:.3f} on test, {score['dev']:.3f} on dev")
                progress.update()
                return item[0], score
            return list(pool.map(job, items))

        first = {}
        for name, score in spread([(name, 0, lr) for name in rows for lr in settings.lrs]):
            if name not in first or score["dev"] > first[name]["dev"]:
                first[name] = score
        rest = spread([(name, seed, first[name]["lr"]) for name in rows for seed in range(1, settings.seeds)])
    return {name: [first[name], *(score for row, score in rest if row == name)] for name in rows}


def run_sid(run, checkpoint, tree, expdir, seed, lr, settings, device, threads):
    """One run of S3PRL's SID expert: on the head of `checkpoint`, or on the plain upstream (None). Resumes."""
    wanted = {"steps": settings.steps, "batch": settings.batch, "lr": lr, "checkpoint": str(checkpoint)}
    if (expdir / "run.json").is_file():
        score = read_json(expdir / "run.json")
        changed = [key for key, value in wanted.items() if score.get(key) != value]
        if changed:
            raise UserError(f"{expdir}: was run with {changed[0]} {score.get(changed[0])!r}, now {wanted[changed[0]]!r} is asked for. "
                            "Delete the folder to run it again.")
        return score
    every = max(1, settings.steps // 10)
    overrides = {f"config.downstream_expert.datarc.{key}": value for key, value in {
        "file_path": str(tree.root), "meta_data": str(tree.list_file), "num_workers": 0, "train_batch_size": settings.batch,
        "max_timestep": None}.items()}  # whole utterances, so that they can be cached
    overrides |= {"config.runner.total_steps": settings.steps, "config.runner.gradient_accumulate_steps": 1, "config.runner.log_step": every,
                  "config.runner.eval_step": every, "config.runner.save_step": settings.steps, "config.optimizer.lr": lr}
    flags = ["-u", "ser_projector", "-k", str(checkpoint)] if checkpoint else recipe.upstream_flags(run.settings)
    flags += ["--device", device, "--feature_cache", str(settings.feature_cache),
              "--feature_folder", str(expdir.parent.parent / "means")]
    command = recipe.start_s3prl(expdir, "voxceleb1", flags, overrides, seed, threads)
    score = {**wanted, "seed": seed, **recipe.best_on_dev(expdir, {part: part for part in ("dev", "train", "test")}), "command": command}
    write_json(expdir / "run.json", score)
    return score


def probe_rows(run, rows, tree, folder):
    """A second attacker on the same embeddings: linear discriminant analysis of utterance means, cross-validated.

    Every utterance is tested once (5 folds, or the list's test part where the tree was split by content), so its
    intervals are narrower than those of the list's few test utterances. Row -> probe_accuracy and its distance to
    the head on real data, paired over utterances.
    """
    paths, parts, speakers = tree.utterances()
    states = tree_states(run, paths, folder / "states.npz")  # [N, L, D]
    if tree.about.get("split_by"):
        folds = [(np.flatnonzero(parts != 3), np.flatnonzero(parts == 3))]
    else:
        folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(speakers, speakers))
    tested = np.sort(np.concatenate([test for _, test in folds]))
    right = {}
    for name, heads in rows.items():
        hits = np.zeros((len(heads), len(paths)))
        for index, (checkpoint, _) in enumerate(heads):
            embedded = embed(states, checkpoint)
            for train, test in folds:
                hits[index, test] = attacks.attacker(embedded[train], speakers[train]).predict(embedded[test]) == speakers[test]
        right[name] = hits[:, tested].mean(axis=0)
    draw = np.random.default_rng(0)
    chosen = draw.integers(len(tested), size=(2000, len(tested)))
    found = {}
    for name, hits in right.items():
        difference = hits - right["real"]
        low, high = np.quantile(difference[chosen].mean(axis=1), [0.025, 0.975])
        found[name] = {"probe_accuracy": attacks.wilson(float(hits.mean()), len(tested)), "probe_utterances": len(tested),
                       "probe_minus_real": [float(difference.mean()), float(low), float(high)]}
    return found


def tree_states(run, paths, cache):
    """The upstream's states of every utterance, averaged over time: float32 [N, L, D]; kept in `cache`."""
    if cache.is_file():
        return np.load(cache)["states"]
    from ..corpora.audio import load_audio
    from ..plugin.encoder import Encoder

    source = run.settings
    encoder = Encoder(source.upstream, source.upstream_ckpt, source.upstream_model_config, source.selection, source.layer,
                      source.normalize, source.device_name())
    states = np.stack([encoder.states([load_audio(path)])[0].mean(dim=1).numpy()
                       for path in tqdm(paths, desc="states of the SID tree", unit="utt", leave=False)])
    with atomic_path(cache) as temporary, open(temporary, "wb") as file:
        np.savez(file, states=states)
    return states


def embed(states, checkpoint):
    """Utterance means [N, L, D] -> what the head's first linear layer makes of them [N, 256]; None: uniform weights [N, D]."""
    if checkpoint is None:
        return states.mean(axis=1)
    from ..plugin.upstream.ser_projector import read_head

    head, weight, bias, _ = read_head(checkpoint)
    weights = np.array(head.layer_weights or [1.0], dtype=np.float32)
    return np.einsum("l,nld->nd", weights, states) @ weight.numpy().T + bias.numpy()  # both are linear: means go through


# the generators


def attack_generators(runs, settings):
    """View -> {generator or control -> {attack -> result}}, see privacy.attacks."""
    from ..distill.data import resample
    from ..features.store import FeatureStore
    from ..generator import Generator

    run = runs["proposed"]
    store, fold = FeatureStore(run.features), run.fold
    drawn = {}
    for name, owner in runs.items():
        generator = Generator.load(owner.generator)
        drawn[name] = generator.sample({"total": max(settings.samples, len(generator.header["labels"]))}, seed=0).features.numpy()
    frames = drawn["proposed"].shape[1]
    parts = {key: [resample(store[i], frames).numpy() for i in store.select(part)] for key, part in (("train", fold.train), ("dev", fold.dev))}
    speakers = {key: np.array([utterance.speaker for utterance in part.utterances]) for key, part in (("train", fold.train), ("dev", fold.dev))}
    found = {}
    for view in attacks.VIEWS:
        if any(sample.shape[1] != frames for sample in drawn.values()) and view == "frames":
            continue  # the two GANs make different numbers of frames
        real, *samples = attacks.standardise(attacks.Real(attacks.vectors(parts["train"], view), speakers["train"],
                                                          attacks.vectors(parts["dev"], view), speakers["dev"]),
                                             *(attacks.vectors(sample, view) for sample in drawn.values()))
        found[view] = attacks.attack(real, dict(zip(drawn, samples)), settings.samples, speakers=view == "mean")
    return found


# what is printed


def table(results):
    """The results as text."""
    lines = []
    for tree in results["sid"].values():
        seeds = max(len(row["per_seed"]) for row in tree["rows"].values())
        lines += ["", f"{Path(tree['root']).name}: speaker identification by S3PRL's -d voxceleb1, {tree['speakers']} speakers, {tree['train']} / "
                  f"{tree['dev']} / {tree['test']} utterances, {seeds} seed{'s' * (seeds > 1)}; chance {100 * tree['chance']:.1f} %",
                  tree["measure"] + (" (synthetic speech)" if tree["synthetic"] else ""), "",
                  f"{'first linear layer of':<30} {'SID acc %':>9} {'95 %':>13} {'probe %':>8} {'95 %':>13} {'- real':>7} {'95 %':>13} {'SER UAR %':>10}",
                  "-" * 110]
        for name, row in tree["rows"].items():
            probe = row.get("probe_accuracy")
            difference = row.get("probe_minus_real") if name != "real" else None
            uar = "-" if row["ser_uar"] is None else f"{100 * row['ser_uar']:.1f}"
            lines.append(f"{TITLES[name]:<30} {_figure(row['sid_accuracy'], 9)} {_figure(probe, 8)} {_figure(difference, 7)} {uar:>10}")
    if results["sid"]:
        lines += ["-" * 110, "probe: linear discriminant analysis of the same embeddings, every utterance tested once; - real: paired over utterances.",
                  "The untrained head shows what any linear layer lets through; privacy is only worth something at equal UAR."]
    for view, found in results["attacks"].items():
        titles = [f"{'samples':<20}", f"{'membership AUC':>20}", f"{'train / dev distance':>24}"]
        titles += [f"{'sounds known AUC':>22}", f"{'names real speech %':>26}"] if view == "mean" else []
        lines += ["", f"attacks on generated features, {'utterance means' if view == 'mean' else 'all frames'}; * = caught", "",
                  " ".join(titles), "-" * len(" ".join(titles))]
        for name, result in found.items():
            cells = [_interval(result["membership"], "auc", 20), _interval(result["nearest"], "ratio", 24)]
            if "speakers_from_real" in result:
                cells += [_interval(result["speakers_from_real"], "more_than_unknown", 22),
                          _interval(result["speakers_from_samples"], "accuracy", 26, 100)]
            lines.append(f"{name:<20} " + " ".join(cells))
        blind = attacks.blind(found)
        if blind:
            lines.append("WARNING: copied training data was not caught by " + ", ".join(blind) + ": these figures say nothing here.")
    if results["attacks"]:
        first = results["attacks"]["mean"]["proposed"]["speakers_from_real"]
        lines += ["", f"The attacker on real speech names {100 * first['accuracy_on_dev'][0]:.0f} % of dev utterances rightly; confidence "
                  + ", ".join(f"{value[0]:.2f} in {name.replace('_', ' ')}" for name, value in first["confidence"].items())
                  + f"; among the samples he hears {first['speakers_heard']:.1f} speakers.",
                  "Not caught is no guarantee: these attackers, on this many utterances, did not find it."]
    return "\n".join(lines)


def _figure(values, width):
    if values is None:
        return f"{'-':>{width}} {'':>13}"
    share, low, high = (100 * value for value in values)
    return f"{share:>{width}.1f} {f'{low:.0f} .. {high:.0f}':>13}"


def _interval(result, key, width, scale=1):
    value, low, high = (scale * item for item in result[key])
    digits = 0 if scale > 1 else 2
    return f"{f'{value:.{digits}f} ({low:.{digits}f} .. {high:.{digits}f})' + ('*' if result['caught'] else ' '):>{width}}"


def plot(results, path):
    """SID accuracy over SER UAR, one panel a tree; rows without a head are lines."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    trees = list(results["sid"].values())
    figure, axes = pyplot.subplots(1, len(trees), figsize=(5 * len(trees), 4), squeeze=False)
    for axis, tree in zip(axes[0], trees):
        for index, (name, row) in enumerate(tree["rows"].items()):
            share, low, high = row["sid_accuracy"]
            if row["ser_uar"] is None:
                axis.axhline(100 * share, color=f"C{index}", linestyle="--", label=TITLES[name])
            else:
                axis.errorbar(100 * row["ser_uar"], 100 * share, [[100 * (share - low)], [100 * (high - share)]], fmt="o", capsize=3,
                              color=f"C{index}", label=TITLES[name])
        axis.axhline(100 * tree["chance"], color="grey", linestyle=":", label="chance")
        axis.set(xlabel="SER UAR of the head, %", ylabel="SID accuracy, %", title=Path(tree["root"]).name, ylim=(0, 105))
        axis.legend(fontsize="small")
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    pyplot.close(figure)

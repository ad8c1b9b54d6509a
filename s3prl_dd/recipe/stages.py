"""The recipe: one function a stage, each reading what the stage before wrote into the run's folder.

    prepare > real > extract > experts > distill > train > report

A stage whose result is there already is not run again.
"""

import os
import re
import shlex
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from tqdm import tqdm

from ..corpora.metadata import read_corpus, read_fold
from ..errors import UserError
from ..files import atomic_path, read_json, write_json
from ..generator.budget import class_counts
from ..metrics import BEST_PREDICTIONS

STAGES = ("prepare", "real", "extract", "experts", "distill", "train", "report")

OF_A_VARIANT = ("config", "overrides", "labels", "center", "lengths", "head")
"""Settings in which a run may differ from its base, beside those that may always change."""

MAY_CHANGE = ("device", "jobs", "budgets", "seeds")
"""Settings of a run that do not touch what is there."""

HEADS = {  # modelrc of S3PRL's emotion expert
    "superb": {},  # SUPERB's: mean over time
    "attentive": {"UtteranceLevel.pooling": "AttentivePooling"},
    "cnn": {"select": "DeepModel"},  # CNNSelfAttention: three convolutions over time, then attention
}


@dataclass
class Settings:
    """What a run is made of, kept in <out>/run.json. Flags of the same names change it."""

    corpus: str = "demo"  # see `s3prl-dd prepare --help`
    root: str | None = None  # the corpus; demo makes its own
    upstream: str = "moonshine"  # S3PRL's -u
    upstream_ckpt: str | None = None  # -k
    upstream_model_config: str | None = None  # -g
    selection: str = "hidden_states"  # -s
    layer: int | None = None  # -l
    normalize: bool = False  # --upstream_feature_normalize
    fold: str = "fold1"  # the test fold
    device: str | None = None  # cuda | cpu; None takes cuda where there is one
    config: str = "gan_1d"  # the distiller's configuration, a file or a shipped one
    overrides: list[str] = field(default_factory=list)  # KEY=VALUE for the distiller
    experts: int = 10  # seeds of the pool
    budgets: list = field(default_factory=lambda: [12])  # further arms: points per class; original is the corpus's own mix
    seeds: int = 1  # heads of each arm
    head_steps: int = 600  # of S3PRL's runner
    head_batch: int = 32  # utterances a step
    head_lrs: list[float] = field(default_factory=lambda: [1e-3])  # Adam; every head takes the best on dev
    labels: str = "soft"  # of the generated samples: soft | hard
    center: bool = True  # shift each class of a set of samples to the class's mean, see Generator.shift
    lengths: str = "generator"  # of the samples: generator (T frames) | corpus (stretched to lengths of the corpus)
    head: str = "superb"  # of S3PRL's emotion expert: superb | attentive | cnn, see HEADS; for real data alike
    pool_from: list[str] = field(default_factory=list)  # expdirs of S3PRL's own emotion runs: their states-*.ckpt are the pool
    base: str | None = None  # another run's folder: what it has that would be the same here serves here too, see Run
    feature_cache: float = 4.0  # gigabytes of hidden states in memory, see `s3prl_dd.run_downstream --help`
    jobs: int = 0  # S3PRL runs at a time; 0: one a core on CPU, one on a GPU

    @classmethod
    def of(cls, out, changes, write=True):
        """The settings of run folder `out` with `changes` (key -> value, None: as before); those that made what is there must not change."""
        path = Path(out) / "run.json"
        before = read_json(path, "run description") if path.is_file() else {}
        known = {item.name for item in fields(cls)}
        changes = {key: value for key, value in changes.items() if value is not None and key in known}
        for key in ("root", "upstream_ckpt", "upstream_model_config"):
            if changes.get(key) and Path(changes[key]).exists():
                changes[key] = str(Path(changes[key]).resolve())
        start = before
        if changes.get("base"):
            like = cls.like(changes["base"], changes)
            start, changes["base"] = before or like, like["base"]
        for key, value in changes.items():
            if before and key not in MAY_CHANGE and before.get(key) != value:
                raise UserError(f"{path}: this run's {key} is {before.get(key)!r}, now {value!r} is asked for. Take another --out, "
                                "or delete the folder to start anew.")
        settings = cls(**{**{key: value for key, value in start.items() if key in known}, **changes})
        settings.distill_config()  # a mistake in it shows before any long work, and before it is kept
        if write:
            write_json(path, asdict(settings))
        return settings

    @staticmethod
    def like(base, changes):
        """What a run on run folder `base` takes over of its settings, as a dict; `changes` must not touch it."""
        path = Path(base) / "run.json"
        settings = read_json(need(path, "run"), "run description")
        may_change = ("base", *OF_A_VARIANT, *MAY_CHANGE)
        for key in sorted(set(changes) - set(may_change)):
            if settings.get(key) != changes[key]:
                raise UserError(f"--{key.replace('_', '-')} {changes[key]}: --base {base} was made with {settings.get(key)}, and what "
                                f"is taken from there would not fit. A run on a base may change {', '.join(may_change)}.")
        if changes.get("config", settings["config"]) != settings["config"]:
            settings["overrides"] = []  # they were of the other configuration
        return {**settings, "base": str(Path(base).resolve())}

    def distill_config(self):
        """The distiller's configuration; raises UserError for one that the later stages cannot use."""
        from ..config import load_config
        from ..distill.config import DistillConfig

        config = load_config(DistillConfig, self.config, self.overrides)
        for key, choices in (("labels", ("soft", "hard")), ("lengths", ("generator", "corpus")), ("head", tuple(HEADS))):
            if getattr(self, key) not in choices:
                raise UserError(f"--{key} {getattr(self, key)}: expected {' or '.join(choices)}.")
        if self.labels == "soft" and not config.teacher:
            raise UserError(f"--labels soft: configuration {self.config} carries no teacher (teacher: false). Give --labels hard, "
                            "or --overrides teacher=true.")
        return config

    def device_name(self):
        import torch

        return self.device or ("cuda" if torch.cuda.is_available() else "cpu")


class Run:
    """The paths of a run's folder. What its base has made with the same settings is taken from there."""

    def __init__(self, out, settings):
        self.out, self.settings = Path(out), settings
        self.base = Run.open(settings.base) if settings.base else None
        data, gan = self.owner(), self.owner("config", "overrides")
        self.metadata, self.features, self.means = data / "metadata", data / "features", data / "means"
        self.pool = data / "pool.safetensors"
        self.gan, self.generator = gan / "gan", gan / "generator.safetensors"
        self.results = self.out / "results.json"

    @classmethod
    def open(cls, out):
        """The run of a folder that is there already; UserError where there is none."""
        need(Path(out) / "run.json", "run")
        return cls(out, Settings.of(out, {}, write=False))

    def owner(self, *keys):
        """The folder of what depends on these settings, among those that a variant may change, alone: this run's, or that of
        its base, of its base's base, ... as long as they are the same there."""
        same = self.base and all(getattr(self.base.settings, key) == getattr(self.settings, key) for key in keys)
        return self.base.owner(*keys) if same else self.out

    def expdir(self, arm, seed, lr=None):
        """S3PRL's expdir of a head; lr None is the first of head_lrs."""
        others = f"_lr{lr:g}" if lr not in (None, self.settings.head_lrs[0]) else ""
        return self.exp(arm) / f"{arm}_seed{seed}{others}"

    def exp(self, arm):
        """The folder of an arm's expdirs."""
        return (self.out if arm.startswith("distilled") else self.owner("head")) / "exp"

    def scores(self):
        """The score (run.json) of each arm and seed that is this run's or its base's: the learning rate that is best on dev."""
        found = [path for kind in ("real", "random_real", "distilled") for path in self.exp(kind).glob(f"{kind}*_seed*/run.json")]
        best = {}
        for path in sorted(found):
            score = read_json(path)
            key = score["arm"], score["seed"]
            if key not in best or score["dev_uar"] > best[key]["dev_uar"]:
                best[key] = score
        return [best[key] for key in sorted(best)]

    @property
    def fold(self):
        return read_fold(self.metadata, self.settings.fold)

    @property
    def corpus(self):
        return read_corpus(self.metadata)


# stages


def prepare(run):
    """corpus -> S3PRL metadata"""
    from ..corpora import prepare as prepare_corpus

    if (run.metadata / "corpus.json").is_file():
        return say(f"metadata is there: {run.metadata}")
    prepare_corpus(run.settings.corpus, run.settings.root, run.metadata)


def real(run):
    """metadata -> SER heads on all real training data, by S3PRL's runner; the first one's layer weights serve the extraction"""
    run_arms(run, ["real"])


def extract(run):
    """metadata + layer weights -> feature store of train and dev"""
    from ..features.extract import extract as extract_features
    from ..features.store import FeatureStore
    from ..plugin.encoder import Encoder
    from ..plugin.featurizer import read_layer_weights

    if (run.features / "header.json").is_file() and read_json(run.features / "header.json").get("complete"):
        return say(f"features are there: {run.features} ({len(FeatureStore(run.features))} utterances)")
    settings, fold = run.settings, run.fold
    weights = read_layer_weights(need(run.expdir("real", 0) / "dev-best.ckpt", "real"))
    encoder = Encoder(settings.upstream, settings.upstream_ckpt, settings.upstream_model_config, settings.selection,
                      settings.layer, settings.normalize, settings.device_name(), weights)
    if weights:
        say("layer weights of the real run: " + " ".join(f"{weight:.2f}" for weight in weights))
    alone = settings.device_name() == "cpu"  # one at a time: no padding, and no slower without a GPU
    store = extract_features(encoder, run.corpus["root"], [*fold.train.utterances, *fold.dev.utterances], run.features,
                             batch_seconds=0 if alone else 120)
    say(f"{len(store)} utterances, {int(store.offsets[-1])} frames of {store.dim}")


def experts(run):
    """features -> pool of SER heads along their training"""
    from ..features.store import FeatureStore
    from ..pool.pool import Pool, train_pool

    if run.pool.is_file():
        return say(f"pool is there: {run.pool}")
    store, fold = FeatureStore(run.features), run.fold
    train, dev = ((store.means(store.select(part)), labels_of(part)) for part in (fold.train, fold.dev))
    if train[0].std(dim=0).mean() < 1e-3 * store[0].std():
        say(f"warning: utterance means of {run.settings.upstream} hardly differ. It seems to normalise every utterance by itself (fbank "
            "does), and a head that averages over time learns nothing then, from real data or from samples. Take another upstream, "
            "for example fbank_no_cmvn.")
    if run.settings.pool_from:
        pool = Pool.from_s3prl(states_of(run.settings.pool_from), dev)
    else:
        pool = train_pool(train, dev, seeds=run.settings.experts, classes=len(fold.train.labels))
    pool.save(run.pool)
    say(f"{len(pool)} snapshots of {len(set(pool.seeds))} heads, best UAR on dev {max(pool.dev_uar):.3f}")


def states_of(expdirs):
    """[(path, checkpoint)] of all states-*.ckpt in S3PRL's expdirs. (S3PRL keeps `max_keep` of them.)"""
    from ..plugin.featurizer import find_states, read_checkpoint

    found = []
    for expdir in expdirs:
        paths = find_states(expdir)
        if not paths:
            raise UserError(f"{expdir}: no states-*.ckpt in it. Give expdirs of S3PRL's `-d emotion` runs.")
        found += [(path, read_checkpoint(path)) for path in paths]
    return found


def distill(run, progress=True):
    """features + pool -> generator file"""
    if run.generator.is_file():
        return say(f"generator is there: {run.generator}")
    if run.settings.distill_config().network.architecture == "gaussian":
        return fit_gaussian(run)
    trainer = make_trainer(run)
    started = time.time()
    resumed = (run.gan / "checkpoint.pt").is_file()  # then the time is not that of the whole distillation
    trainer.train(progress)
    if trainer.rank == 0:
        if not resumed:
            write_json(run.gan / "seconds.json", {"distill": time.time() - started, "device": str(trainer.device),
                                                  "ranks": trainer.world})
        with atomic_path(run.generator) as temporary:
            shutil.copyfile(run.gan / "generator.safetensors", temporary)
        say(f"best UAR on dev {trainer.best['dev_uar']:.3f} at step {trainer.best['step']}: {run.generator} "
            f"({run.generator.stat().st_size / 1e6:.2f} MB)")


def fit_gaussian(run):
    """The generator file of the closed-form baseline."""
    from ..distill.gaussian import fit_gaussian as fit

    config, data, header, pool = distill_inputs(run)
    fit(config, data, header, pool).save(run.generator, half=config.half_file)
    say(f"a Gaussian of each class: {run.generator} ({run.generator.stat().st_size / 1e6:.2f} MB)")


def make_trainer(run):
    """The Trainer of a run, from its features and pool."""
    from ..distill.trainer import Trainer

    config, data, header, pool = distill_inputs(run)
    return Trainer(config, data, run.gan, header, pool, run.settings.device_name())


def distill_inputs(run):
    """(DistillConfig, TrainingData, the generator file's labels, features and corpus blocks, Pool or None)"""
    from ..distill.data import TrainingData
    from ..features.store import FeatureStore
    from ..pool.pool import Pool

    settings, fold, corpus = run.settings, run.fold, run.corpus
    config = settings.distill_config()
    store = FeatureStore(run.features)
    data = TrainingData.from_store(store, fold, config.framing, config.network.frames)
    header = {"labels": fold.train.labels, "features": store.header["features"], "corpus": {
        "name": corpus["name"], "synthetic": corpus["synthetic"], "fold": settings.fold,
        "train_speakers": sorted({*fold.train.speakers, *fold.dev.speakers}), "test_speakers": fold.test.speakers,
        "test_digest": fold.test.digest()}}
    pool = Pool.load(need(run.pool, "experts")) if config.needs_pool else None
    return config, data, header, pool


def train(run):
    """generator file -> SER heads on its samples and on random real subsets, by S3PRL's runner"""
    need(run.generator, "distill")
    run_arms(run, ["distilled_full", *(arm for kind in ("distilled", "random_real") for arm in arms_of(kind, run.settings.budgets))])


def arms_of(kind, budgets):
    """Names of the arms of a kind: distilled_original, distilled_12ppc, random_real_12ppc, ..."""
    return [f"{kind}_{budget}ppc" if isinstance(budget, int) else f"{kind}_{budget}" for budget in budgets
            if kind == "distilled" or isinstance(budget, int)]


def budget_of(arm):
    """The budget (budget.class_counts) that an arm's name stands for; None: all real data."""
    word = arm.rpartition("_")[2]
    return {"real": None, "full": "balanced", "original": "original"}[word] if not word.endswith("ppc") else int(word[:-3])


def report(run):
    """everything -> results.json and the table"""
    from ..evaluation.report import collect, plot, table

    results = collect(run)
    write_json(run.results, results)
    plot(results, run.results.with_suffix(".png"))
    print(table(results))
    say(f"\n{run.results} and {run.results.with_suffix('.png').name} hold the same; TensorBoard: {run.gan} and {run.out / 'exp'}")
    return results


# S3PRL's runner


SCORES = {"dev_uar": "dev uar", "uar": "test uar", "accuracy": "test"}
"""What a head is worth, and its name in the log of S3PRL's emotion expert; the first says which step and learning rate."""


def run_arms(run, arms):
    """Train a head for each arm (by name) and seed through S3PRL's runner, in processes of their own."""
    settings = run.settings
    todo = [(arm, seed, lr) for arm in arms for seed in range(settings.seeds) for lr in settings.head_lrs
            if not (run.expdir(arm, seed, lr) / "run.json").is_file()]
    jobs, threads = share_cores(settings.jobs, settings.device_name(), len(todo))
    with tqdm(total=len(todo), desc="S3PRL heads", unit="run", disable=not todo) as progress, ThreadPoolExecutor(jobs) as pool:
        def one(item):
            score = run_downstream(run, *item, threads=threads)
            progress.write(f"{item[0]} seed {item[1]} lr {item[2]:g}: UAR {score['uar']:.3f} on test, {score['dev_uar']:.3f} on dev, "
                           f"{score['seconds']:.0f} s")
            progress.update()

        list(pool.map(one, todo))


def share_cores(jobs, device, todo):
    """(S3PRL runs at a time, threads of each): `jobs` of them, 0 is one a core on CPU and one on a GPU; at most `todo`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    jobs = max(1, min(jobs or (cores if device == "cpu" else 1), todo))
    return jobs, int(os.environ.get("OMP_NUM_THREADS") or max(1, cores // jobs))


def arm_overrides(run, arm, lr):
    """(downstream, overrides) of S3PRL's runner for an arm."""
    settings = run.settings
    data = {"root": run.corpus["root"], "meta_data": str(run.metadata.resolve()), "test_fold": settings.fold, "num_workers": 0,
            "train_batch_size": settings.head_batch, "eval_batch_size": 32 if settings.feature_cache else 1 if settings.device_name() == "cpu" else 8,
            "select_by": "uar"}
    downstream = "emotion"
    if arm.startswith("distilled"):
        downstream = "distilled_emotion"
        data |= {"generator": str(run.generator.resolve()), "resample": False, "labels": settings.labels,
                 "center": settings.center, "lengths": settings.lengths}
    budget = budget_of(arm)
    if budget is not None:
        data["budget"] = budget
    every = max(1, settings.head_steps // 20)
    overrides = {f"config.downstream_expert.datarc.{key}": value for key, value in data.items()}
    overrides |= {f"config.downstream_expert.modelrc.{key}": value for key, value in HEADS[settings.head].items()}
    overrides |= {"config.runner.total_steps": settings.head_steps, "config.runner.gradient_accumulate_steps": 1,
                  "config.runner.eval_step": every, "config.runner.log_step": every, "config.runner.save_step": settings.head_steps,
                  "config.optimizer.lr": lr}
    return downstream, overrides


def run_downstream(run, arm, seed, lr, threads=1):
    """One run of S3PRL; returns its score and keeps it, with the command, in <expdir>/run.json."""
    settings, expdir = run.settings, run.expdir(arm, seed, lr)
    downstream, overrides = arm_overrides(run, arm, lr)
    flags = [*upstream_flags(settings), "--device", settings.device_name(), "--feature_cache", str(settings.feature_cache),
             "--feature_folder", str(run.means)]
    started = time.time()
    command = start_s3prl(expdir, downstream, flags, overrides, seed, threads)
    score = {"arm": arm, "seed": seed, "lr": lr, "expdir": expdir.name, "seconds": time.time() - started, **best_on_dev(expdir, SCORES), "command": command}
    kept = read_json(expdir / BEST_PREDICTIONS) if (expdir / BEST_PREDICTIONS).is_file() else {}
    score["predicted"] = kept["predicted"] if kept.get("step") == score["step"] else None
    write_json(expdir / "run.json", score)
    return score


def upstream_flags(settings):
    """S3PRL's flags for the upstream of a run."""
    flags = ["-u", settings.upstream, "-s", settings.selection]
    for flag, value in (("-k", settings.upstream_ckpt), ("-g", settings.upstream_model_config), ("-l", settings.layer)):
        flags += [flag, str(value)] if value is not None else []
    return flags + (["--upstream_feature_normalize"] if settings.normalize else [])


def start_s3prl(expdir, downstream, flags, overrides, seed, threads=1):
    """Train by our launcher in a process of its own; goes on from the expdir's last state. returns: the command line"""
    from ..plugin import workers

    arguments = ["-m", "train", "-d", downstream, *flags, "--seed", str(seed), "-p", str(expdir), "-a",
                 "-o", ",,".join(f"{key}={value!r}" for key, value in overrides.items())]
    expdir.mkdir(parents=True, exist_ok=True)
    code = workers.run_downstream(arguments, expdir / "stdout.log", threads)
    if code:
        tail = "\n".join((expdir / "stdout.log").read_text(errors="replace").replace("\r", "\n").splitlines()[-15:])
        raise UserError(f"{expdir}: S3PRL's runner ended with code {code}. The end of its stdout.log:\n{tail}")
    return shlex.join(["python", "-m", "s3prl_dd.run_downstream", *arguments])


def best_on_dev(expdir, wanted):
    """Scores of an expdir at the step where the first of them was best (the first such step), what S3PRL's users report.

    wanted: our name -> the score's name in log.log ("dev", "test uar", ...). returns: {"step": ..., our name: value}
    """
    scores = {}
    for name, step, value in re.findall(r"^((?:train|dev|test)(?: uar)?) at step (\d+): ([\d.]+)$", (Path(expdir) / "log.log").read_text(), re.MULTILINE):
        scores.setdefault(int(step), {})[name] = float(value)
    whole = {step: score for step, score in scores.items() if set(wanted.values()) <= set(score)}
    if not whole:
        raise UserError(f"{expdir}/log.log: no step with all of {', '.join(wanted.values())}. See {expdir}/stdout.log.")
    by = next(iter(wanted.values()))
    step = max(whole, key=lambda step: (whole[step][by], -step))
    return {"step": step, **{name: whole[step][logged] for name, logged in wanted.items()}}


# helpers


def labels_of(metadata):
    import torch

    return torch.tensor([metadata.labels[utterance.label] for utterance in metadata.utterances])


def points(arm, counts):
    """How many training points an arm has, of a real training set with these class counts."""
    budget = budget_of(arm)
    wanted = counts if budget is None else class_counts(budget, counts)
    return sum(wanted) if arm.startswith("distilled") else sum(map(min, wanted, counts))


def need(path, stage):
    if not Path(path).is_file():
        raise UserError(f"{path}: not there yet. Run `s3prl-dd {stage}` first.")
    return path


def say(text):
    print(text, flush=True)

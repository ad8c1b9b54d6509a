"""The recipe: one function a stage, each reading what the stage before wrote into the run's folder.

    prepare > real > extract > pool > distill > train > report

A stage whose result is there already is not run again. Messages go to the logger `s3prl_dd`.
"""

import json
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..arms import REAL, TEACHER, Arm
from ..corpora import prepare as prepare_corpus
from ..corpora.metadata import Metadata
from ..distill.config import DistillConfig, with_new_keys
from ..distill.data import TrainingData
from ..distill.parts import Parts
from ..distill.trainer import Trainer
from ..errors import UserError
from ..features.extract import extract as extract_features
from ..features.store import FeatureStore
from ..files import atomic_path, is_writable, read_json, write_json
from ..generator import CorpusInfo, read_header
from ..generator.networks import GANS
from ..plugin.encoder import Encoder
from ..plugin.featurizer import find_states, read_checkpoint, read_layer_weights
from ..plugin.placeholder import recordings_of
from ..plugin.states import fill
from ..plugin.store import StateStore
from ..plugin.waiting import WaitingStates
from ..pool.kinds import HEADS, HeadName
from ..pool.pool import Pool, train_frame_pool, train_pool
from ..pool.training import Utterances
from ..rivals.gaussian import fit_gaussian
from ..rivals.make import Material
from ..rng import evenly
from .collect import collect
from .folder import Run, need
from .results import Results
from .rivals import lacking_files, make_files, score_teacher
from .training import check_trained_on, lacking, train_arms

log = logging.getLogger("s3prl_dd")

GPU_BATCH = 120.0  # seconds of audio in an extraction batch

FRAMES_BYTES = 1 << 30
"""Of frames that heads of the pool which hear them are trained on."""

FLAT_MEANS = (
    "warning: utterance means of %s hardly differ. It seems to normalise every utterance by itself (fbank does), and a "
    "head that averages over time learns nothing then, from real data or from samples. Take another upstream, for "
    "example fbank_no_cmvn.")


def prepare(run: Run) -> None:
    """corpus -> S3PRL metadata"""
    if (run.metadata / "corpus.json").is_file():
        log.info("metadata is there: %s", run.metadata)
        return
    settings = run.settings.corpus
    prepare_corpus(settings.corpus, settings.root, run.metadata, settings.fold, **settings.options())


def real(run: Run) -> None:
    """metadata -> SER heads on all real training data, by S3PRL's runner; their layer weights serve the extraction"""
    run.keep_lists()
    if lacking(run, [REAL]):
        _check_classes(run)
        run.check_audio()
        keeps = run.settings.machine.kept_states and not _is_complete(run.features)
        _fill_means(run, _waiting(run) if keeps else None)
    train_arms(run, [REAL])


def _check_classes(run: Run) -> None:
    """UserError where the training part has nothing of a class: dev is drawn from it by lot, as S3PRL does."""
    train = run.fold.train
    for label, count in zip(train.class_names, train.class_counts, strict=True):
        if not count:
            raise UserError(f"{run.metadata}: class {label!r} has no utterance left in the training part of "
                            f"{run.fold.name}; all that it has are in dev, which is drawn by lot. Give more utterances "
                            f"of it, or leave it out: --emotions {label}=")


def _waiting(run: Run) -> WaitingStates:
    return WaitingStates(run.states, run.settings.machine.kept_states * 1e9, run.settings.upstream)


def _fill_means(run: Run, waiting: WaitingStates | None = None) -> None:
    """Let each recording pass the upstream once, here: heads that are trained beside each other would all wait for it.

    Only for heads that read means; what a head of another kind hears of real audio depends on layer weights it learns.
    waiting: where all states of train and dev are kept for the extraction
    """
    upstream, machine, fold = run.settings.upstream, run.settings.machine, run.fold
    if not machine.feature_cache or upstream.normalize or HEADS[run.settings.heads.head].hears_frames:
        return
    extracted = recordings_of(run.corpus.root, fold.train.utterances + fold.dev.utterances)
    recordings = extracted + recordings_of(run.corpus.root, fold.test.utterances)
    store = StateStore(run.means, machine.feature_cache * 1e9)
    keep = None if waiting is None else waiting.keeper(extracted)
    count = fill(upstream, recordings, store, run.settings.device_name(), keep)
    others = "" if count == len(recordings) else f" ({len(recordings) - count} had before, or do not fit)"
    log.info("%d recordings passed the upstream%s: %s", count, others, store.path)


def extract(run: Run) -> None:
    """metadata + layer weights -> feature store of train and dev"""
    run.keep_lists()
    if _is_complete(run.features):
        log.info("features are there: %s (%d utterances)", run.features, len(FeatureStore(run.features)))
        return
    run.check_audio()
    fold, device = run.fold, run.settings.device_name()
    weights = read_layer_weights(run.best(REAL, seed=0))
    encoder = Encoder(run.settings.upstream, device, weights)
    if weights:
        log.info("layer weights of the real run: %s", " ".join(f"{weight:.2f}" for weight in weights))
    batch_seconds = 0 if device == "cpu" else GPU_BATCH  # one at a time: no padding, and no slower without a GPU
    utterances = [*fold.train.utterances, *fold.dev.utterances]
    waiting = _waiting(run) if run.states.is_dir() else None
    known = None if waiting is None else waiting.features(run.corpus.root, weights)
    store = extract_features(encoder, run.corpus.root, utterances, run.features, batch_seconds=batch_seconds,
                             known=known)
    if waiting is not None:
        waiting.remove()
    log.info("%d utterances, %d frames of %d", len(store), store.offsets[-1], store.dim)


def pool(run: Run) -> None:
    """features -> pool of SER heads along their training"""
    run.keep_lists()
    there = run.pool.is_file()
    if not there:
        _train_pool(run)
    heads = Pool.load(run.pool)
    missing = [kind for kind in run.settings.distiller.distill_config().pool_kinds if kind not in heads.kinds]
    if missing:
        _add_kinds(run, heads, missing)
    elif there:
        log.info("pool is there: %s", run.pool)
        return
    for kind in heads.kinds:
        found = heads.of_kind(kind)
        log.info("%s: %d snapshots of %d %s heads, best UAR on dev %.3f", run.pool, len(found), len(set(found.seeds)),
                 kind, max(found.dev_uar))


def _train_pool(run: Run) -> None:
    """SUPERB's heads, which hear utterance means; or those of S3PRL's own runs, of whatever kind."""
    store, fold, settings = FeatureStore(run.features), run.fold, run.settings.distiller
    train, dev = means_of(store, fold.train), means_of(store, fold.dev)
    if train[0].std(dim=0).mean() < 1e-3 * store[0].std():
        log.warning(FLAT_MEANS, run.settings.upstream.upstream)
    if settings.pool_from:
        heads = Pool.from_s3prl(states_of(settings.pool_from), dev, lambda: frames_of(store, fold.dev)[0])
    else:
        heads = train_pool(train, dev, settings.pool_seeds, settings.pool_steps, classes=len(fold.train.labels))
    heads.save(run.pool)


def _add_kinds(run: Run, heads: Pool, kinds: list[HeadName]) -> None:
    """Frame-level heads, for a configuration that wants them; the base's pool stays as it is."""
    store, fold = FeatureStore(run.features), run.fold
    train, dev = frames_of(store, fold.train), frames_of(store, fold.dev)
    for kind in kinds:
        heads.others[kind] = train_frame_pool(kind, train, dev, classes=len(fold.train.labels))
    heads.save(run.own_pool)


def distill(run: Run, progress: bool = True) -> None:
    """features + pool -> generator file"""
    with run.generator_held():
        _distill(run, progress)


def _distill(run: Run, progress: bool) -> None:
    run.keep_lists()
    config = run.settings.distiller.distill_config()
    if run.generator.is_file():
        _check_made_with(run, config)
        log.info("generator is there: %s", run.generator)
        return
    data, parts, heads = distill_inputs(run, config)
    if config.network.architecture not in GANS:
        fit_gaussian(config, data, parts, heads).save(run.generator, half=config.half_file)
        log.info("a Gaussian of each class: %s (%.2f MB)", run.generator, run.generator.stat().st_size / 1e6)
        return
    trainer = Trainer(config, data, run.gan, parts, heads, run.settings.device_name())
    started = time.time()
    resumed = (run.gan / "checkpoint.pt").is_file()  # then the time is not that of the whole distillation
    trainer.train(progress)
    if trainer.rank == 0:
        seconds = None if resumed else time.time() - started
        _hand_over(run, trainer, seconds)


def _check_made_with(run: Run, config: DistillConfig) -> None:
    """UserError where a configuration file of the user's says something else now than when the generator was made; of
    a shipped one, which a newer version may have changed, the log tells it."""
    then, now = with_new_keys(read_header(run.generator).training), json.loads(json.dumps(asdict(config)))
    changed = [key for key, value in now.items() if key != "batch" and key in then and then[key] != value]
    if not changed:
        return
    file = run.settings.distiller.file
    told = f"{file or run.settings.distiller.config}: {', '.join(changed)} changed since {run.generator} was made of it"
    if file:
        raise UserError(f"{told}. Give another --out, or the file as it was.")
    log.warning("%s, by another version. It is taken as it is; for a new one give another --out.", told)


def _hand_over(run: Run, trainer: Trainer, seconds: float | None) -> None:
    """The generator that is kept takes its place in the run's folder."""
    if seconds is not None:
        about = {"distill": seconds, "device": str(trainer.device), "ranks": trainer.world}
        write_json(run.gan / "seconds.json", about)
    with atomic_path(run.generator) as temporary:
        shutil.copyfile(run.gan / "generator.safetensors", temporary)
    size = run.generator.stat().st_size / 1e6
    kept = next(entry.dev_uar for entry in trainer.history if entry.step == trainer.best.step)
    log.info("step %d is kept, the last that dev does not tell from the best (UAR %.3f, best %.3f): %s (%.2f MB)",
             trainer.best.step, kept, trainer.best.dev_uar, run.generator, size)


def distill_inputs(run: Run, config: DistillConfig) -> tuple[TrainingData, Parts, Pool | None]:
    """What the distiller takes: real features, what the file says of them, and the pool where it needs one."""
    fold, store = run.fold, FeatureStore(run.features)
    data = TrainingData.from_store(store, fold, config.framing, config.network.frames, config.selection)
    heads = Pool.load(need(run.pool, "pool")) if config.needs_pool else None
    return data, parts_of(run, store), heads


def parts_of(run: Run, store: FeatureStore) -> Parts:
    """What a generator file of this run says of the real features."""
    fold, corpus = run.fold, run.corpus
    info = CorpusInfo(name=corpus.name, synthetic=corpus.synthetic, fold=fold.name, test_speakers=fold.test.speakers,
                      train_speakers=sorted({*fold.train.speakers, *fold.dev.speakers}), test_digest=fold.test.digest())
    return Parts(fold.train.labels, store.provenance, info)


def train(run: Run) -> None:
    """generator file -> SER heads on its samples and on rivals, by S3PRL's runner"""
    need(run.generator, "distill")
    run.keep_lists()
    check_trained_on(run)
    arms = run.settings.arms()
    trained = [arm for arm in arms if arm != TEACHER]
    if lacking(run, trained):
        run.check_audio()
        _fill_means(run)
    if TEACHER in arms:
        score_teacher(run)
    _make_rivals(run, trained)
    train_arms(run, trained)


def _make_rivals(run: Run, arms: list[Arm]) -> None:
    """The generator files of rivals that heads of these arms are still to be trained on."""
    todo = lacking_files(run, [(job.arm, job.seed) for job in lacking(run, arms)])
    if todo:
        store = FeatureStore(run.features)
        data = TrainingData.from_store(store, run.fold, frames=run.settings.rivals.rival_frames)
        make_files(run, todo, Material(data, parts_of(run, store), Pool.load(need(run.pool, "pool"))))


def report(run: Run, to: Path | None = None) -> Results:
    """everything -> results.json and the table"""
    results, folder = collect(run), to or run.out
    if is_writable(folder):
        results.write(folder / run.results.name)
    else:
        log.info("%s may only be read: the results are not written; report --to FOLDER writes them elsewhere", folder)
    return results


STAGES: dict[str, Callable[..., Any]] = {
    stage.__name__: stage for stage in (prepare, real, extract, pool, distill, train, report)}
"""Stage name -> function, in order."""


def states_of(expdirs: tuple[str, ...]) -> list[tuple[Path, dict[str, Any]]]:
    """[(path, checkpoint)] of all states-*.ckpt in S3PRL's expdirs. (S3PRL keeps `max_keep` of them.)"""
    states = []
    for expdir in expdirs:
        paths = find_states(expdir)
        if not paths:
            raise UserError(f"{expdir}: no states-*.ckpt in it. Give expdirs of S3PRL's `-d emotion` runs.")
        states += [(path, read_checkpoint(path)) for path in paths]
    return states


def means_of(store: FeatureStore, part: Metadata) -> tuple[torch.Tensor, torch.Tensor]:
    """(utterance means [N, D], class indices [N]) of a metadata's utterances."""
    return store.means(store.select(part)), torch.tensor(part.class_indices)


def frames_of(store: FeatureStore, part: Metadata) -> tuple[Utterances, torch.Tensor]:
    """(frames, class indices [n]) of a metadata's utterances, of as many as FRAMES_BYTES hold, evenly spread."""
    longest = max(store.entries.frames[store.select(part)])
    kept = part.subset(evenly(len(part.utterances), max(1, FRAMES_BYTES // (4 * store.dim * int(longest)))))
    return Utterances.of(store[position] for position in store.select(kept)), torch.tensor(kept.class_indices)


def _is_complete(features: Path) -> bool:
    path = features / "header.json"
    return path.is_file() and bool(read_json(path).get("complete"))

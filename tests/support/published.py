"""A finished run with all that a page or a card reads: results, a generator file, features, curves of its GAN."""

import dataclasses
import json
from pathlib import Path

import numpy as np

from s3prl_dd.corpora.metadata import read_fold
from s3prl_dd.generator import Generator, NetworkConfig, build_generator
from s3prl_dd.recipe.collect import collect
from support.made_up_run import made_up_run
from support.recipe import SCORES, keep_score, start, variant

LOG = """step 10: generator_score 3.5 feature_matching 2 wasserstein 20 clamped 0
dev step 10 dev_uar 0.5 distance_real 2 distance_generated 1
step 20: generator_score 2.5 feature_matching 1 wasserstein 12 clamped 0
step 20: generator_score 2.5 feature_matching 0.5 wasserstein 10 clamp"""
METRICS = {"best": {"dev_uar": 0.75, "step": 20},
           "history": [{"step": 10, "dev_uar": 0.5, "distance_real": 2}, {"step": 20, "dev_uar": 0.75}]}


def reported_run(out: Path, **changes: object):
    """A run whose every stage is made up, with results.json; heads err at random, as often as SCORES says."""
    made_up_run(out)
    fold = read_fold(out / "metadata", "fold1")
    for item in fold.train.utterances:
        (out / item.path).parent.mkdir(exist_ok=True)
        (out / item.path).write_bytes(b"x" * 1000)
    (out / "gan").mkdir()
    (out / "gan/log.log").write_text(LOG)
    (out / "gan/metrics.json").write_text(json.dumps(METRICS))
    (out / "gan/seconds.json").write_text(json.dumps({"distill": 123.4}))
    run = start(out, **changes)
    keep_scores(run, SCORES)
    collect(run).write(run.results)
    return run


def closed_form(out: Path, base):
    """A variant of a reported run whose samples are those of the closed form."""
    run = variant(out, base, config="gaussian")
    made = Generator.load(base.generator)
    network = NetworkConfig(architecture="gaussian").sized(*made.class_means.shape)
    header = dataclasses.replace(made.header, network=network)
    Generator(build_generator(network), made.mean, made.std, made.class_means, header).save(out / run.generator.name)
    keep_scores(run, {"distilled_full": [0.77, 0.73], "distilled_6ppc": [0.65, 0.75]})
    collect(run).write(run.results)
    return run


def keep_scores(run, scores: dict[str, list[float]]) -> None:
    """The score of each arm and seed, with predictions."""
    test = run.fold.test
    truth = np.array([test.labels[item.label] for item in test.utterances])
    for arm, uars in scores.items():
        for seed, uar in enumerate(uars):
            chance = np.random.default_rng([seed, len(arm)])
            wrong = (truth + 1) % len(test.labels)
            predicted = np.where(chance.random(len(truth)) < uar, truth, wrong)
            keep_score(run.out, arm, seed, uar, predicted=predicted.tolist(), seconds=60 + seed)


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder with its size and time: equal before and after what only reads."""
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
            for path in sorted(folder.rglob("*"))}

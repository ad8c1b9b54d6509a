"""A second attacker on the same embeddings: linear discriminant analysis of utterance means, cross-validated.

Every utterance is tested once (5 folds, or the list's test part where the tree was split by content), so its intervals
are narrower than those of the list's few test utterances.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.model_selection import StratifiedKFold
from tqdm import tqdm

from ..corpora.audio import load_audio
from ..corpora.sid_check import TEST
from ..evaluation.significance import Interval, wilson
from ..features.spec import FeatureSpec
from ..files import atomic_path, text_digest
from ..plugin.encoder import Encoder
from ..plugin.upstream.ser_projector import read_head
from . import attacks
from .results import ProbeResult
from .rows import Head, Row, Rows
from .sid import Tree, Utterances

MOST_UTTERANCES = 5000
"""A larger tree is not probed."""

FOLDS, DRAWS = 5, 2000


class Split(NamedTuple):
    """Indices of the utterances that the attacker learns from, and of those that he hears."""

    train: np.ndarray
    test: np.ndarray


def probe_rows(rows: Rows, tree: Tree, spec: FeatureSpec, device: str, folder: Path) -> dict[Row, ProbeResult]:
    """Row -> how well its embeddings tell the tree's speakers, and its distance to the heads on real data.

    The upstream's states are kept in `folder`.
    """
    utterances = tree.utterances()
    states = tree_states(spec, device, utterances.paths, folder / "states.npz")  # [N, L, D]
    splits = _splits(tree, utterances)
    tested = np.sort(np.concatenate([split.test for split in splits]))
    right = {row: _right(heads, states, utterances.speakers, splits)[tested] for row, heads in rows.items()}
    chosen = np.random.default_rng(0).integers(len(tested), size=(DRAWS, len(tested)))  # the same draws for every row
    return {row: ProbeResult(probe_accuracy=wilson(float(share.mean()), len(tested)),
                             probe_utterances=len(tested),
                             probe_minus_real=_paired_difference(share, right[Row.REAL], chosen))
            for row, share in right.items()}


def _splits(tree: Tree, utterances: Utterances) -> list[Split]:
    if tree.split_by:
        held_out = utterances.parts == TEST
        return [Split(np.flatnonzero(~held_out), np.flatnonzero(held_out))]
    fewest = int(np.unique(utterances.speakers, return_counts=True)[1].min())
    folds = StratifiedKFold(min(FOLDS, fewest), shuffle=True, random_state=0)
    return [Split(train, test) for train, test in folds.split(utterances.speakers, utterances.speakers)]


def _right(heads: list[Head], states: np.ndarray, speakers: np.ndarray, splits: list[Split]) -> np.ndarray:
    """[N]: the share of the heads in whose embedding an utterance was named rightly; 0 where it was not tested."""
    hits = np.zeros((len(heads), len(states)))
    for number, head in enumerate(heads):
        embedded = embed(states, head.checkpoint)
        for train, test in splits:
            attacker = attacks.attacker(embedded[train], speakers[train])
            hits[number, test] = attacker.predict(embedded[test]) == speakers[test]
    return hits.mean(axis=0)


def _paired_difference(right: np.ndarray, real: np.ndarray, chosen: np.ndarray) -> Interval:
    """The mean of right - real [N]; its bootstrap takes the utterances `chosen` [DRAWS, N] of both alike."""
    difference = right - real
    low, high = np.quantile(difference[chosen].mean(axis=1), [0.025, 0.975])
    return Interval(float(difference.mean()), float(low), float(high))


def tree_states(spec: FeatureSpec, device: str, paths: list[Path], cache: Path) -> np.ndarray:
    """The upstream's states of every utterance, averaged over time: float32 [N, L, D]; kept in `cache`.

    They are of these files, as they are now: of others, or after a change, they are made anew.
    """
    files = text_digest(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in paths)
    if cache.is_file():
        kept = np.load(cache)
        if str(kept.get("files", "")) == files:
            return kept["states"]
    encoder = Encoder(spec, device)
    means = []
    for path in tqdm(paths, desc="states of the SID tree", unit="utt", leave=False):
        states, = encoder.states([load_audio(path)])  # [L, T, D]
        means.append(states.mean(dim=1).numpy())
    stacked = np.stack(means)
    with atomic_path(cache) as temporary, open(temporary, "wb") as file:
        np.savez(file, states=stacked, files=files)
    return stacked


def embed(states: np.ndarray, checkpoint: Path | None) -> np.ndarray:
    """What a head's first linear layer makes of utterance means [N, L, D]: [N, 256], at the head's own layer weights.

    The weighted sum and the layer are both linear, so means go through. None: uniform weights, [N, D].
    """
    if checkpoint is None:
        return states.mean(axis=1)
    head = read_head(checkpoint)
    layer_weights = np.array(head.features.layer_weights or [1.0], dtype=np.float32)  # [L]
    weighted = np.einsum("l,nld->nd", layer_weights, states)
    return weighted @ head.weight.numpy().T + head.bias.numpy()

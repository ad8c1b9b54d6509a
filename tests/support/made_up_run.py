"""A finished run of made-up features: all that reads a generator file or a run's folder finds what it looks for."""

from pathlib import Path

import numpy as np
import torch

from s3prl_dd.corpora.metadata import read_corpus, read_fold
from s3prl_dd.features.store import FeatureStore
from s3prl_dd.generator import CorpusInfo, Generator, Header, NetworkConfig, build_generator
from support.gauss import write_run


def made_up_run(folder):
    """Write metadata/, features/, pool.safetensors and generator.safetensors, and return the folder.

    The generator's weights are random; its samples lie about the real class means, for it carries those.
    """
    run = write_run(Path(folder))
    fold, store = read_fold(run / "metadata", "fold1"), FeatureStore(run / "features")
    positions = store.select(fold.train)
    labels = torch.tensor([fold.train.labels[utterance.label] for utterance in fold.train.utterances])
    means, lengths = store.means(positions), store.lengths[positions]
    classes = range(len(fold.train.labels))
    network = NetworkConfig(frames=8, noise=8, channels=16).sized(len(classes), store.dim)
    header = Header(
        network=network, labels=fold.train.labels, class_counts=fold.train.class_counts,
        lengths=[np.percentile(lengths[(labels == label).numpy()], range(101)).tolist() for label in classes],
        features=store.provenance,
        corpus=CorpusInfo(name=read_corpus(run / "metadata").name, fold=fold.name, synthetic=True,
                          train_speakers=fold.train.speakers, test_speakers=fold.test.speakers,
                          test_digest=fold.test.digest()))
    class_means = torch.stack([means[labels == label].mean(dim=0) for label in classes])
    Generator(build_generator(network), means.mean(dim=0), means.std(dim=0), class_means, header).save(
        run / "generator.safetensors")
    return run

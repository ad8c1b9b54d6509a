"""S3PRL downstream `distilled_emotion`: S3PRL's emotion head, trained on samples from a generator file.

S3PRL's Runner sends every batch through wavs > upstream > Featurizer > expert. The train loader yields placeholder
wavs with the generated features as a further element, and forward takes these in place of the upstream's. Dev and
test are real audio through the real upstream. The checkpoints have plain emotion's keys and evaluate with -d emotion.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.distributed import is_initialized
from torch.utils.data import DataLoader, Dataset

from s3prl_dd.config import build
from s3prl_dd.corpora.metadata import Metadata, read_corpus, session
from s3prl_dd.errors import UserError
from s3prl_dd.generator import GeneratedDataset, Generator
from s3prl_dd.plugin.cache import PLACEHOLDER_SAMPLES, PROBE_SAMPLES
from s3prl_dd.plugin.emotion import DATARC, EmotionData, EmotionExpert
from s3prl_dd.plugin.encoder import checkpoint_digest
from s3prl_dd.plugin.featurizer import read_layer_weights, same_weights

DEV_SEED = 1 << 40
"""Added to the sample seed for the dev set of a run without real data."""


@dataclass
class DistilledData(EmotionData):
    """datarc of -d distilled_emotion: EmotionData's keys, and the generator's."""

    generator: str | None = None  # the .safetensors that `s3prl-dd distill` wrote
    budget: Any = "original"  # how many samples of each class, see generator.budget.class_counts
    resample: bool = True  # new samples each epoch; False: one fixed set
    labels: str = "hard"  # hard | soft: the softmax of the file's teacher
    lengths: str = "generator"  # generator | corpus: stretched to lengths drawn from the corpus's
    center: bool = True  # shift each class of a set to the class's mean: what makes small sets good
    sample_seed: int | None = None  # of the samples; None is --seed
    select_by: str = "uar"

    def __post_init__(self):
        super().__post_init__()
        if self.labels not in ("hard", "soft"):
            raise ValueError(f"labels must be hard or soft, found {self.labels!r}")
        if self.lengths not in ("generator", "corpus"):
            raise ValueError(f"lengths must be generator or corpus, found {self.lengths!r}")


class DownstreamExpert(EmotionExpert):
    """generated frames [T, D] each -> Linear -> mean over time -> Linear -> class; dev and test as EmotionExpert.

    With datarc.root null no real data is read: dev is a fixed set of other samples, and there is no test.
    """

    data_class = DistilledData

    def __init__(self, upstream_dim, downstream_expert, expdir, **kwargs):
        """As S3PRL's Runner calls it. Raises UserError where the generator does not fit this run."""
        data = build(DistilledData, downstream_expert["datarc"], DATARC)
        data.test_fold = data.test_fold or kwargs.get("downstream_variant") or "fold1"
        _check_run(data, kwargs)
        generator = None
        if kwargs["mode"] != "train" and not Path(data.generator or "").is_file():
            print(f"[s3prl_dd] - no generator at {data.generator}: evaluating on real audio without checking where the head came from")
        else:
            generator = Generator.load(data.generator, device=kwargs["device"])
            check_features(data.generator, generator.header["features"], upstream_dim, kwargs)
            if data.root:
                check_corpus(data, generator.header)
        self.__dict__["generator"] = generator  # never a part of the module's state
        launched = "featurizer_weights" in kwargs  # by our launcher, where no upstream runs on placeholders
        self.__dict__["placeholder"] = np.zeros(PLACEHOLDER_SAMPLES if launched else PROBE_SAMPLES, dtype=np.float32)
        super().__init__(upstream_dim, downstream_expert, expdir, **kwargs)
        self.objective = LabelLoss()

    def open_list(self, data, path):
        return super().open_list(data, path) if data.root else Labels(self.generator.header["labels"])

    def make_train_dataset(self):
        data, generator = self.data, self.generator
        seed = self.seed if data.sample_seed is None else data.sample_seed
        if data.labels == "soft" and generator.teacher is None:
            raise UserError(f"{data.generator}: has no teacher for soft labels. Set {DATARC}.labels=hard, or distil with one.")
        samples = GeneratedDataset(generator, data.budget, seed, data.resample, data.lengths, data.center)
        self.train_dataset, counts = Placeholders(samples, self.placeholder), samples.counts
        kind = ("resampled each epoch" if data.resample else "one fixed set") + (", centred" if data.center else "")
        self.say(f"training on {sum(counts)} generated points ({'/'.join(map(str, counts))}), {kind}, {data.labels} labels, "
                 f"seed {seed}, from {data.generator}")
        if not data.root:
            samples = GeneratedDataset(generator, data.budget, seed + DEV_SEED, False, data.lengths, data.center)
            self.dev_dataset = Placeholders(samples, self.placeholder)
            self.say("no real data (datarc.root is null): dev is other samples of the same generator, which says nothing of real speech")

    def get_dataloader(self, mode, epoch=0):
        if mode == "train":
            self.train_dataset.generated.set_epoch(epoch)
            return self.train_loader(self.train_dataset, epoch, workers=0, collate=collate)
        if mode == "dev" and isinstance(self.dev_dataset, Placeholders):
            return DataLoader(self.dev_dataset, self.data.eval_batch_size, collate_fn=collate)
        return super().get_dataloader(mode)

    def forward(self, mode, features, labels, filenames, generated=None, soft_labels=None, records=None, **kwargs):
        """features: B of [T, D] from the upstream; generated: None, or B of [T, D] to take instead. returns: the loss"""
        if generated is None:
            return super().forward(mode, features, labels, filenames, records=records, **kwargs)
        device = features[0].device
        if self.data.labels == "soft":
            self.objective.soft = torch.stack(soft_labels).to(device)  # [B, C]
        try:
            generated = [frames.to(device) for frames in generated]
            loss = super().forward(mode, generated, labels, filenames, records=records, **kwargs)
        finally:
            self.objective.soft = None
        if is_initialized() and features[0].requires_grad:  # DDP waits for the Featurizer's gradient: give it zero
            loss = loss + 0 * sum(frames.nan_to_num().sum() for frames in features)
        return loss


class LabelLoss(nn.CrossEntropyLoss):
    """Cross entropy of logits [B, C] against class indices [B], or against `soft` [B, C] while it is set."""

    soft = None

    def forward(self, predicted, labels):
        return super().forward(predicted, labels if self.soft is None else self.soft)


class Placeholders(Dataset):
    """A GeneratedDataset as S3PRL's items: (placeholder wav, label, name, features [T, D], soft label [C] or None)."""

    def __init__(self, generated, placeholder):
        self.generated, self.placeholder = generated, placeholder

    def __len__(self):
        return len(self.generated)

    def __getitem__(self, index):
        return self.__getitems__([index])[0]

    def __getitems__(self, indices):
        return [(self.placeholder, label, name, features, soft)
                for features, label, soft, name in self.generated.__getitems__(indices)]


class Labels(Dataset):
    """Stands for a metadata file where there is none: a label map, and just enough items to be split in two."""

    def __init__(self, class_dict):
        self.class_dict, self.class_num = class_dict, len(class_dict)
        self.idx2emotion = {index: name for name, index in class_dict.items()}

    def __len__(self):
        return 2


def collate(items):
    return tuple(zip(*items))


# what is refused

def _check_run(data, kwargs):
    if kwargs.get("upstream_trainable"):
        raise UserError("-f: the generator holds features of a frozen upstream; training the upstream on them is impossible. "
                        "Leave -f away.")
    if kwargs.get("specaug"):
        raise UserError("config.specaug: would mask the placeholders, not the generated features. "
                        "Remove it from the configuration.")
    if kwargs["mode"] == "train" and not data.generator:
        raise UserError(f'{DATARC}.generator: not set. Give a generator file with -o "{DATARC}.generator=FILE".')
    if not data.root:
        evaluated = kwargs["runner"]["eval_dataloaders"] if kwargs["mode"] == "train" else [kwargs["evaluate_split"]]
        if kwargs["mode"] != "train" or set(evaluated) != {"dev"}:
            raise UserError(f"{DATARC}.root: not set, and {', '.join(evaluated)} needs real audio. Set root and meta_data, or train "
                            "and validate on samples alone with -o \"config.runner.eval_dataloaders=['dev']\".")


def check_features(path, features, upstream_dim, kwargs):
    """Refuse features made another way than this run makes them. features: the block of the generator's header."""
    here = {
        "upstream": (kwargs["upstream"], "-u {}"),
        "upstream_ckpt_digest": (checkpoint_digest(kwargs["upstream"], kwargs["upstream_ckpt"], kwargs["upstream_model_config"]),
                                 "-k and the checkpoint of digest {}"),
        "selection": (kwargs["upstream_feature_selection"], "-s {}"),
        "layer": (kwargs["upstream_layer_selection"], "-l {}"),
        "normalize": (bool(kwargs["upstream_feature_normalize"]), "--upstream_feature_normalize {}"),
        "dim": (upstream_dim, "the upstream of dim {}"),
        "rate": (kwargs["upstream_rate"], "the upstream of {} samples a frame"),
    }
    for key, (value, remedy) in here.items():
        if features.get(key) != value:
            raise UserError(f"{path}: its features have {key} {features.get(key)}, this run has {value}. "
                            f"Run with {remedy.format(features.get(key))}, or distil a generator for this run's upstream.")
    wanted = features.get("layer_weights")
    if wanted is None:
        return
    if "featurizer_weights" in kwargs:  # our launcher says what the Featurizer holds
        found = kwargs["featurizer_weights"]
    else:
        found = read_layer_weights(kwargs["init_ckpt"]) if kwargs.get("init_ckpt") else None
        found = found or [1 / len(wanted)] * len(wanted)  # as S3PRL starts
    if not same_weights(wanted, found):
        raise UserError(f"{path}: its features weigh the upstream's layers {_rounded(wanted)}, this run's Featurizer "
                        f"{_rounded(found)}. Run `s3prl-dd weights {path} -o weights.ckpt` and add -i weights.ckpt.")


def check_corpus(data, header):
    """Refuse a generator of other labels, or distilled with speakers of this test fold."""
    if not data.meta_data or not (Path(data.meta_data) / session(data.test_fold)).is_dir():
        return  # open_list says what is wrong
    test = Metadata.read(Path(data.meta_data) / session(data.test_fold) / "test_meta_data.json")
    if header["labels"] != test.labels:
        raise UserError(f"{data.generator}: its labels are {header['labels']}, those of {data.meta_data} {test.labels}. "
                        "Prepare the corpus with the same labels, or distil a generator for these.")
    corpus = header.get("corpus", {})
    described = (Path(data.meta_data) / "corpus.json").is_file()
    if described and corpus.get("name") and read_corpus(data.meta_data).get("name") != corpus["name"]:
        return  # another corpus, so other people, whatever their names
    shared = sorted(set(test.speakers) & set(corpus.get("train_speakers", ())))
    if shared:
        raise UserError(f"{data.generator}: distilled with {len(shared)} speaker(s) of this run's test fold {data.test_fold}, for "
                        f"example {shared[0]} (it was made for {corpus.get('fold')}). Test on {corpus.get('fold')}, or distil for "
                        f"{data.test_fold}.")


def _rounded(weights):
    return "none" if weights is None else "[" + " ".join(f"{weight:.3f}" for weight in weights) + "]"

"""S3PRL's emotion expert, with what a fair comparison needs beside it.

Its head, loss, split, records and checkpoint keys are S3PRL's own. Added: UAR and a confusion matrix, the best dev
checkpoint by either metric, a random real subset, audio of any rate and channel count, and a seed that counts.

S3PRL's constructor calls torch.manual_seed(0): whatever --seed says, the head starts from the same weights, and every
epoch up to the first evaluation shuffles the same way; after each evaluation the order repeats, for it seeds torch
again. Here the head's weights and each epoch's order come from --seed; the split of train and dev stays S3PRL's.
"""

import contextlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import confusion_matrix
from torch import nn
from torch.distributed import get_rank, is_initialized
from torch.utils.data import DataLoader, DistributedSampler, Subset

from ..config import build
from ..corpora.audio import load_audio
from ..corpora.metadata import Metadata
from ..errors import UserError
from ..files import write_json
from ..generator.budget import class_counts
from ..metrics import BEST_PREDICTIONS, uar
from ..rng import keyed
from .compat import mend

mend()
import s3prl.downstream.emotion.expert as s3prl_emotion  # noqa: E402
from s3prl.downstream.emotion.dataset import IEMOCAPDataset  # noqa: E402

DATARC = "config.downstream_expert.datarc"


@dataclass
class EmotionData:
    """datarc of -d emotion. All but the last two are S3PRL's own."""

    root: str | None = None  # the corpus; the metadata's paths are relative to it
    meta_data: str | None = None  # folder of Session1/{train,test}_meta_data.json, ...
    test_fold: str | None = None  # fold1, ...; None takes -v, else fold1
    pre_load: bool = True  # keep the audio in memory
    train_batch_size: int = 4
    eval_batch_size: int = 4
    num_workers: int = 4
    valid_ratio: float = 0.2  # of the training list that is dev, in (0, 1)
    select_by: str = "acc"  # acc | uar: dev-best.ckpt by which
    budget: Any = None  # a random real subset of train, drawn by --seed (see generator.budget.class_counts); None is all of it

    def __post_init__(self):
        if self.select_by not in ("acc", "uar"):
            raise ValueError(f"select_by must be acc or uar, found {self.select_by!r}")
        if min(self.train_batch_size, self.eval_batch_size) < 1 or self.num_workers < 0 or not 0 < self.valid_ratio < 1:
            raise ValueError("batch sizes must be at least 1, num_workers at least 0 and valid_ratio between 0 and 1")


class AudioDataset(IEMOCAPDataset):
    """S3PRL's emotion dataset over load_audio: each file from its own rate, channels averaged, clear errors."""

    def __init__(self, root, meta_path, pre_load=False):
        """pre_load: ignored, `keep` says which files are kept in memory."""
        metadata = Metadata.read(meta_path)
        self.data_dir, self.pre_load = root, False
        self.meta_data = [asdict(utterance) for utterance in metadata.utterances]
        self.class_dict, self.class_num = metadata.labels, len(metadata.labels)
        self.idx2emotion = {index: name for name, index in metadata.labels.items()}

    def _load_wav(self, path):
        try:
            return torch.from_numpy(load_audio(Path(self.data_dir) / path))  # [samples] at 16 kHz
        except UserError as error:  # of its plain kind: a DataLoader's worker process hands over no other
            raise UserError(str(error)) from None

    def check(self, indices):
        missing = [path for path in (Path(self.data_dir) / self.meta_data[index]["path"] for index in indices) if not path.is_file()]
        if missing:
            raise UserError(f"{missing[0]}: no such audio file ({len(missing)} of {len(indices)} are missing). "
                            f"Check {DATARC}.root, or run `s3prl-dd prepare` again.")

    def keep(self, indices):
        """Load these files now and keep them; from then on there are no others."""
        self.wavs = {index: self._load_wav(self.meta_data[index]["path"]) for index in indices}
        self.pre_load = True

    def label(self, index):
        return self.class_dict[self.meta_data[index]["label"]]


class EmotionExpert(s3prl_emotion.DownstreamExpert):
    """frames [T, D] each -> Linear -> mean over time -> Linear -> class, trained on real audio."""

    data_class = EmotionData

    def __init__(self, upstream_dim, downstream_expert, expdir, **kwargs):
        """As S3PRL's Runner calls it; kwargs hold the configuration's other blocks and all the command line's arguments."""
        data = build(self.data_class, downstream_expert["datarc"], DATARC)
        data.test_fold = data.test_fold or kwargs.get("downstream_variant") or "fold1"
        _check_model(downstream_expert["modelrc"])
        with _opening_lists_by(lambda root, path, pre_load: self.open_list(data, path)):
            datarc = {**asdict(data), "meta_data": data.meta_data or ""}
            super().__init__(upstream_dim, {**downstream_expert, "datarc": datarc}, expdir, **kwargs)
        self.data, self.seed, self.mode = data, kwargs["seed"], kwargs["mode"]
        self.parts = _parts(self.mode, kwargs)
        self.best_step = None  # of dev-best.ckpt, once this process has seen it
        torch.manual_seed(self.seed)  # S3PRL left it at 0
        for module in (*self.projector.modules(), *self.model.modules()):
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        if self.mode == "train":
            self.make_train_dataset()
        self.open_audio()

    # data

    def open_list(self, data, path):
        """The dataset of a metadata file. Raises UserError where root or metadata are missing."""
        for key, value in (("root", data.root), ("meta_data", data.meta_data)):
            if not value or not Path(value).is_dir():
                raise UserError(f'{DATARC}.{key}: {value}: no such folder. Set it in the configuration or with -o "{DATARC}.{key}=FOLDER"'
                                + (" (written by `s3prl-dd prepare`)." if key == "meta_data" else "."))
        if not Path(path).is_file():
            folds = sorted(folder.name.replace("Session", "fold") for folder in Path(data.meta_data).glob("Session*"))
            raise UserError(f"{path}: no such file. {DATARC}.test_fold is {data.test_fold}, found {', '.join(folds) or 'no fold'}.")
        return AudioDataset(data.root, path)

    def make_train_dataset(self):
        """Check the train part, and draw the budget from it."""
        dataset, indices = self.train_dataset.dataset, list(self.train_dataset.indices)
        counts = np.bincount([dataset.label(index) for index in indices], minlength=dataset.class_num).tolist()
        if min(counts) == 0:
            raise UserError(f"{self.data.meta_data}: class {dataset.idx2emotion[counts.index(0)]} has no training utterance in "
                            f"{self.fold}. Add some, or leave the class out.")
        if self.data.budget is None:
            return
        wanted = class_counts(self.data.budget, counts)
        chosen = []
        for label, number in enumerate(wanted):
            of_class = [index for index in indices if dataset.label(index) == label]
            order = torch.randperm(len(of_class), generator=keyed(self.seed, "real subset", label)).tolist()
            chosen += [of_class[i] for i in order[:number]]
        self.train_dataset = Subset(dataset, sorted(chosen))
        taken = [min(number, count) for number, count in zip(wanted, counts)]
        text = f"training on {len(chosen)} random real points ({_slashed(taken)}) of {len(indices)}, drawn by seed {self.seed}"
        if taken != wanted:
            text += f"; the budget asked for {_slashed(wanted)}, some classes have fewer"
        self.say(text)

    def open_audio(self):
        """Check, and with pre_load read, the audio of the splits that this run will see."""
        needed = {}
        for part in self.parts:
            subset = getattr(self, f"{part}_dataset")
            if isinstance(subset, AudioDataset):
                needed[subset] = list(range(len(subset)))
            elif isinstance(subset, Subset):
                needed[subset.dataset] = needed.get(subset.dataset, []) + list(subset.indices)
        for dataset, indices in needed.items():
            dataset.check(indices)
        for dataset, indices in needed.items() if self.data.pre_load else ():
            dataset.keep(indices)

    def get_dataloader(self, mode, epoch=0):
        """The split's DataLoader; S3PRL's Runner gives `epoch` for train."""
        if mode == "train":
            return self.train_loader(self.train_dataset, epoch, self.data.num_workers, s3prl_emotion.collate_fn)
        return super().get_dataloader(mode)

    def train_loader(self, dataset, epoch, workers, collate):
        """Batches in an order drawn by (seed, epoch), each process its share under torch.distributed."""
        sampler = DistributedSampler(dataset, seed=self.seed) if is_initialized() else None
        if sampler is not None:
            sampler.set_epoch(epoch)
        return DataLoader(dataset, self.data.train_batch_size, shuffle=sampler is None, sampler=sampler, num_workers=workers,
                          collate_fn=collate, generator=keyed(self.seed, "order", epoch))

    # results

    def log_records(self, mode, records, logger, global_step, **kwargs):
        """S3PRL's log, and UAR beside it. returns: names of the checkpoints to write"""
        truth, predicted = records["truth"], records["predict"]
        score, best = uar(truth, predicted), self.best_score
        by_uar = self.data.select_by == "uar"
        if by_uar:
            self.best_score = torch.full((1,), float("inf"))  # S3PRL's own choice, by acc, stands back
        save_names = super().log_records(mode, records=records, logger=logger, global_step=global_step, **kwargs)
        logger.add_scalar(f"emotion-{self.fold}/{mode}-uar", score, global_step=global_step)
        print(f"{mode} uar: {score}")
        self.write_log(f"{mode} uar at step {global_step}: {score}")
        if by_uar:
            self.best_score = best
            if mode == "dev" and score > best:
                self.best_score = torch.ones(1) * score
                self.write_log(f"New best uar on {mode} at step {global_step}: {score}")
                save_names.append(f"{mode}-best.ckpt")
        if "dev-best.ckpt" in save_names:
            self.best_step = global_step
        if mode in ("dev", "test"):
            names = [name for _, name in sorted(self.test_dataset.idx2emotion.items())]
            matrix = confusion_matrix(truth, predicted, labels=names)  # [C, C], rows are the truth
            write_json(Path(self.expdir) / f"{mode}_{self.fold}_confusion.json",
                       {"labels": names, "matrix": matrix.tolist(), "uar": score,
                        "accuracy": float(np.trace(matrix) / matrix.sum()), "step": global_step})
            if mode == "test" and self.best_step == global_step:
                indices = {key: list(map(names.index, values)) for key, values in (("truth", truth), ("predicted", predicted))}
                write_json(Path(self.expdir) / BEST_PREDICTIONS, {"step": global_step, "labels": names, **indices})
        return save_names

    def say(self, text):
        """Tell the user, on screen and in log.log, once for all processes."""
        if not is_initialized() or get_rank() == 0:
            print(f"[s3prl_dd] - {text}")
            self.write_log(text)

    def write_log(self, line):
        with open(Path(self.expdir) / "log.log", "a") as file:
            file.write(line + "\n")


DownstreamExpert = EmotionExpert  # the name that S3PRL's Runner looks for


def reads_means(modelrc):
    """Whether S3PRL's head of this modelrc is linear in the frames until it averages them (SUPERB's is): then utterance
    means give the same logits and gradients."""
    head = modelrc.get(modelrc.get("select"), {})
    return modelrc.get("select") == "UtteranceLevel" and head.get("pooling", "MeanPooling") == "MeanPooling" and not head.get("pre_net")


@contextlib.contextmanager
def _opening_lists_by(function):
    """Let S3PRL's constructor open its metadata files by `function`."""
    original, s3prl_emotion.IEMOCAPDataset = s3prl_emotion.IEMOCAPDataset, function
    try:
        yield
    finally:
        s3prl_emotion.IEMOCAPDataset = original


def _check_model(modelrc):
    models = {name for name, value in vars(s3prl_emotion).items() if isinstance(value, type) and issubclass(value, nn.Module)}
    unknown = sorted(set(modelrc) - models - {"projector_dim", "select"})
    if unknown:
        raise UserError(f"config.downstream_expert.modelrc: unknown key {unknown[0]!r}. Known: projector_dim, select and a model's name.")
    if modelrc.get("select") not in models:
        raise UserError(f"config.downstream_expert.modelrc.select: {modelrc.get('select')!r}: S3PRL has no such model. "
                        "Take UtteranceLevel.")


def _parts(mode, kwargs):
    """The splits that a run of this mode reads."""
    evaluated = {"train": kwargs.get("runner", {}).get("eval_dataloaders", ()), "evaluate": [kwargs["evaluate_split"]]}.get(mode, ())
    for part in evaluated:
        if part not in ("dev", "test"):
            raise UserError(f"split {part!r}: expected dev or test (-t, and config.runner.eval_dataloaders).")
    return (["train"] if mode == "train" else []) + list(dict.fromkeys(evaluated))


def _slashed(counts):
    return "/".join(map(str, counts))

"""S3PRL's emotion expert, with what a fair comparison needs beside it.

Its head, loss, split, records and checkpoint keys are S3PRL's own. Added: UAR and a confusion matrix, the best dev
checkpoint by either metric, a random real subset, audio of any rate and channel count, and a seed that counts.

S3PRL's constructor calls torch.manual_seed(0): whatever --seed says, the head starts from the same weights, and every
epoch up to the first evaluation shuffles the same way; after each evaluation the order repeats, for it seeds torch
again. Here the head's weights and each epoch's order come from --seed; the split of train and dev stays S3PRL's.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import confusion_matrix
from torch import nn
from torch.distributed import get_rank, is_initialized
from torch.nn.functional import pad
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Subset

from ..corpora.metadata import DEV_FILE, Metadata, Utterance, given_dev, session
from ..errors import UserError
from ..files import write_json
from ..generator import class_counts
from ..metrics import BEST_PREDICTIONS, uar
from ..rivals.subsets import random_subset
from ..rng import keyed
from .compat import mend
from .datarc import DATARC, EmotionData, check_folders, read_datarc
from .inference import Inference
from .memory import free_memory
from .placeholder import Recording, Recordings, make_ticket

mend()
import s3prl.downstream.emotion.expert as s3prl_emotion  # noqa: E402
from s3prl.downstream.emotion.dataset import IEMOCAPDataset  # noqa: E402


def pad_frames(frames: Sequence[torch.Tensor], batch_first: bool = True) -> torch.Tensor:
    """torch's pad_sequence of [T, D] -> [B, T, D], equal in every bit; the gradient of torch's passes the whole batch
    once for each utterance."""
    assert batch_first
    longest = max(map(len, frames))
    return torch.stack([pad(utterance, (0, 0, 0, longest - len(utterance))) for utterance in frames])


s3prl_emotion.pad_sequence = pad_frames


class AudioDataset(IEMOCAPDataset):
    """S3PRL's emotion dataset over load_audio: each file from its own rate, channels averaged, clear errors.

    Item i is (wav float32 [N] at 16 kHz, class index, name); with `recordings` a ticket takes the wav's place.
    """

    def __init__(self, root: str, meta_path: str | Path, recordings: Recordings | None = None) -> None:
        """Reads the list alone; `keep` says which files are kept in memory."""
        metadata = Metadata.read(meta_path)
        self.data_dir, self.pre_load = root, False
        self.meta_data = [asdict(utterance) for utterance in metadata.utterances]
        self.class_dict, self.class_num = metadata.labels, len(metadata.labels)
        self.idx2emotion = {index: name for name, index in metadata.labels.items()}
        self.tickets: list[np.ndarray] | None = None
        if recordings is not None:
            self.tickets = [make_ticket(recordings.add(self.recording(index))) for index in range(len(self.meta_data))]

    def __getitem__(self, index: int) -> tuple[np.ndarray, int, str]:
        name = Path(Utterance(**self.meta_data[index]).id).stem
        if self.tickets is not None:
            return self.tickets[index], self.label(index), name
        wav = self.wavs[index] if self.pre_load else self._load(index)
        return wav, self.label(index), name

    def recording(self, index: int) -> Recording:
        """Where an item's audio is."""
        return Recording.of(self.data_dir, self.meta_data[index])

    def _load(self, index: int) -> np.ndarray:
        try:
            return self.recording(index).load()
        except UserError as error:  # of its plain kind: a DataLoader's worker process hands over no other
            raise UserError(str(error)) from None

    def check(self, indices: Sequence[int]) -> None:
        """Raise UserError unless the files of these items are there."""
        paths = [Path(self.recording(index).path) for index in indices]
        missing = [path for path in paths if not path.is_file()]
        if missing:
            raise UserError(f"{missing[0]}: no such audio file ({len(missing)} of {len(indices)} are missing). "
                            f"Check {DATARC}.root, or run `s3prl-dd prepare` again.")

    def keep(self, indices: Iterable[int]) -> None:
        """Load these files now and keep them; from then on there are no others."""
        self.wavs = {index: self._load(index) for index in indices}
        self.pre_load = True

    def label(self, index: int) -> int:
        """Class index of an item, without its audio."""
        return self.class_dict[self.meta_data[index]["label"]]


class EmotionExpert(Inference, s3prl_emotion.DownstreamExpert):
    """frames [T, D] each -> Linear -> mean over time -> Linear -> class, trained on real audio."""

    data_class: type[EmotionData] = EmotionData

    train_dataset: Any  # S3PRL's constructor sets these
    dev_dataset: Any
    test_dataset: Any
    best_score: torch.Tensor  # [1]

    def __init__(self, upstream_dim: int, downstream_expert: dict[str, Any], expdir: str,
                 recordings: Recordings | None = None, **run: Any) -> None:
        """As S3PRL's Runner calls it. run: the configuration's other blocks and all the command line's arguments.

        recordings: of our launcher, whose upstream takes tickets: no audio is read here then.
        """
        data = read_datarc(self.data_class, downstream_expert["datarc"], run.get("downstream_variant"))
        self.recordings = recordings
        if recordings is not None:
            data = replace(data, pre_load=False, num_workers=0)  # a ticket is at hand
        _check_model(downstream_expert["modelrc"])
        with _opening_lists_by(lambda root, path, pre_load: self.open_list(data, path)):
            datarc = {**asdict(data), "meta_data": data.meta_data or ""}
            super().__init__(upstream_dim, {**downstream_expert, "datarc": datarc}, expdir, **run)
        self._take_given_dev(data)
        self.data, self.seed, self.mode = data, run["seed"], run["mode"]
        self.splits = _splits(self.mode, run)
        self.best_step: int | None = None  # of dev-best.ckpt, once this process has seen it
        torch.manual_seed(self.seed)  # S3PRL left it at 0
        for module in (*self.projector.modules(), *self.model.modules()):
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        if self.mode == "train":
            self.make_train_dataset()
        self.open_audio()

    # data

    def open_list(self, data: EmotionData, path: str) -> Dataset:
        """The dataset of a metadata file. Raises UserError where root or metadata are missing."""
        check_folders(data)
        return AudioDataset(str(data.root), path, self.recordings)

    def _take_given_dev(self, data: EmotionData) -> None:
        """Where the corpus came with a dev list: that one as dev, and the whole train list as train."""
        folder = Path(data.meta_data or "") / session(str(data.test_fold))
        if not data.root or given_dev(folder) is None:
            return
        whole = self.train_dataset.dataset
        self.train_dataset = Subset(whole, range(len(whole)))
        self.dev_dataset = self.open_list(data, str(folder / DEV_FILE))

    def make_train_dataset(self) -> None:
        """Check the train part, and draw the budget from it."""
        dataset, indices = self.train_dataset.dataset, list(self.train_dataset.indices)
        labels = [dataset.label(index) for index in indices]
        counts = np.bincount(labels, minlength=dataset.class_num).tolist()
        if min(counts) == 0:
            raise UserError(f"{self.data.meta_data}: class {dataset.idx2emotion[counts.index(0)]} has no training "
                            f"utterance in {self.fold}. Add some, or leave the class out.")
        if self.data.budget is None:
            return
        wanted = class_counts(self.data.budget, counts)
        chosen = sorted(indices[place] for place in random_subset(labels, wanted, self.seed))
        self.train_dataset = Subset(dataset, chosen)
        taken = [min(number, count) for number, count in zip(wanted, counts, strict=True)]
        text = (f"training on {len(chosen)} random real points ({slashed(taken)}) of {len(indices)}, drawn by "
                f"seed {self.seed}")
        if taken != wanted:
            text += f"; the budget asked for {slashed(wanted)}, some classes have fewer"
        self.say(text)

    def open_audio(self) -> None:
        """Check, and with pre_load read, the audio of the splits that this run will see."""
        needed: dict[Any, list[int]] = {}  # AudioDataset -> its items
        for split in self.splits:
            part = getattr(self, f"{split}_dataset")
            if isinstance(part, AudioDataset):
                needed[part] = list(range(len(part)))
            elif isinstance(part, Subset):
                needed.setdefault(part.dataset, []).extend(part.indices)
        for dataset, indices in needed.items():
            dataset.check(indices)
        if self.data.pre_load and self._fits_memory(needed):
            for dataset, indices in needed.items():
                dataset.keep(indices)

    def _fits_memory(self, needed: Mapping[Any, Sequence[int]]) -> bool:
        """Whether half of the free memory holds this audio; says so where it does not. needed: AudioDataset -> items"""
        recordings = [dataset.recording(index) for dataset, indices in needed.items() for index in indices]
        size = 4 * sum(recording.length() for recording in recordings)  # float32
        if size <= free_memory() / 2:
            return True
        self.say(f"pre_load is switched off: {len(recordings)} recordings are {size / 1e9:.1f} GB, more than half of "
                 "the memory that is free. Each is read when it is needed")
        return False

    def get_dataloader(self, mode: str, epoch: int = 0) -> DataLoader:
        """The split's DataLoader; S3PRL's Runner gives `epoch` for train."""
        if mode == "train":
            return self.train_loader(self.train_dataset, epoch, self.data.num_workers, s3prl_emotion.collate_fn)
        return super().get_dataloader(mode)

    def train_loader(self, dataset: Dataset, epoch: int, workers: int, collate: Callable) -> DataLoader:
        """Batches in an order drawn by (seed, epoch), each process its share under torch.distributed."""
        sampler: DistributedSampler | None = None
        if is_initialized():
            sampler = DistributedSampler(dataset, seed=self.seed)
            sampler.set_epoch(epoch)
        return DataLoader(dataset, self.data.train_batch_size, shuffle=sampler is None, sampler=sampler,
                          num_workers=workers, collate_fn=collate, generator=keyed(self.seed, "order", epoch))

    # results

    def log_records(self, mode: str, records: dict[str, list], logger: Any, global_step: int,
                    **others: Any) -> list[str]:
        """S3PRL's log, and UAR beside it. returns: names of the checkpoints to write"""
        truth, predicted = records["truth"], records["predict"]
        score, best = uar(truth, predicted), self.best_score
        by_uar = self.data.select_by == "uar"
        if by_uar:
            self.best_score = torch.full((1,), float("inf"))  # S3PRL's own choice, by acc, stands back
        save_names = super().log_records(mode, records=records, logger=logger, global_step=global_step, **others)
        logger.add_scalar(f"emotion-{self.fold}/{mode}-uar", score, global_step=global_step)
        print(f"{mode} uar: {score}")
        self.write_log(f"{mode} uar at step {global_step}: {score}")
        if by_uar:
            self.best_score = best
            if mode == "dev" and self._is_best(score, best):
                self.best_score = torch.ones(1) * score
                self.write_log(f"New best uar on {mode} at step {global_step}: {score}")
                save_names.append(f"{mode}-best.ckpt")
        if "dev-best.ckpt" in save_names:
            self.best_step = global_step
        if mode in ("dev", "test"):
            self._write_results(mode, truth, predicted, score, global_step)
        return save_names

    def _is_best(self, score: float, best: torch.Tensor) -> bool:
        """Whether a dev score is above the best [1], in float32 as that is kept: of equals the first; 0.0 may be it."""
        first = self.best_step is None and not (Path(self.expdir) / "dev-best.ckpt").is_file()
        return first or bool(score > best)

    def _write_results(self, split: str, truth: list[str], predicted: list[str], score: float, step: int) -> None:
        """The confusion matrix [C, C], rows are the truth; of test, at dev-best.ckpt's step, every prediction."""
        names = [name for _, name in sorted(self.test_dataset.idx2emotion.items())]
        matrix = confusion_matrix(truth, predicted, labels=names)
        accuracy = float(np.trace(matrix) / matrix.sum())
        write_json(Path(self.expdir) / f"{split}_{self.fold}_confusion.json",
                   {"labels": names, "matrix": matrix.tolist(), "uar": score, "accuracy": accuracy, "step": step})
        if split == "test" and self.best_step == step:
            write_json(Path(self.expdir) / BEST_PREDICTIONS,
                       {"step": step, "labels": names, "truth": [names.index(name) for name in truth],
                        "predicted": [names.index(name) for name in predicted]})

    def say(self, text: str) -> None:
        """Tell the user, on screen and in log.log, once for all processes."""
        if not is_initialized() or get_rank() == 0:
            print(f"[s3prl_dd] - {text}")
            self.write_log(text)

    def write_log(self, line: str) -> None:
        """Append a line to S3PRL's log.log."""
        with open(Path(self.expdir) / "log.log", "a") as file:
            file.write(line + "\n")


def slashed(counts: Sequence[int]) -> str:
    """Counts a class, as users read them: 3/3/3/3."""
    return "/".join(map(str, counts))


@contextlib.contextmanager
def _opening_lists_by(open_list: Callable[..., Dataset]) -> Iterator[None]:
    """Let S3PRL's constructor open its metadata files by `open_list`."""
    original, s3prl_emotion.IEMOCAPDataset = s3prl_emotion.IEMOCAPDataset, open_list
    try:
        yield
    finally:
        s3prl_emotion.IEMOCAPDataset = original


def _check_model(modelrc: Mapping[str, Any]) -> None:
    """Raise UserError for a modelrc that S3PRL's constructor would not read."""
    models = {name for name, value in vars(s3prl_emotion).items()
              if isinstance(value, type) and issubclass(value, nn.Module)}
    unknown = sorted(set(modelrc) - models - {"projector_dim", "select"})
    if unknown:
        raise UserError(f"config.downstream_expert.modelrc: unknown key {unknown[0]!r}. Known: projector_dim, select "
                        "and a model's name.")
    if modelrc.get("select") not in models:
        raise UserError(f"config.downstream_expert.modelrc.select: {modelrc.get('select')!r}: S3PRL has no such model. "
                        "Take UtteranceLevel.")


def _splits(mode: str, run: Mapping[str, Any]) -> list[str]:
    """The splits that a run of this mode reads."""
    by_mode = {"train": run.get("runner", {}).get("eval_dataloaders", ()), "evaluate": [run["evaluate_split"]]}
    evaluated = by_mode.get(mode, ())
    for split in evaluated:
        if split not in ("dev", "test"):
            raise UserError(f"split {split!r}: expected dev or test (-t, and config.runner.eval_dataloaders).")
    return (["train"] if mode == "train" else []) + list(dict.fromkeys(evaluated))

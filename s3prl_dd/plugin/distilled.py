"""S3PRL downstream `distilled_emotion`: S3PRL's emotion head, trained on samples from a generator file.

S3PRL's Runner sends every batch through wavs > upstream > Featurizer > expert. The train loader yields placeholder
wavs with the generated features as a further element, and forward takes these in place of the upstream's. Dev and
test are real audio through the real upstream. The checkpoints have plain emotion's keys and evaluate with -d emotion.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.distributed import is_initialized
from torch.utils.data import DataLoader, Dataset

from ..errors import UserError
from ..generator import GeneratedDataset, Generator
from ..generator.hub import fetch, on_hub
from ..generator.sampling import Center, Resample, sets_in_words
from .checks import Launched, check_corpus, check_features, check_run
from .datarc import DATARC, DistilledData, EmotionData, read_datarc
from .emotion import EmotionExpert, slashed
from .hearing import Hearing
from .placeholder import Recordings, make_placeholder, make_silence
from .ser_head import head_logits
from .states import reads_means

DEV_SEED = 1 << 40
"""Added to the sample seed for the dev set of a run without real data."""


class Item(NamedTuple):
    """An item of Placeholders; S3PRL's Runner reads the wav, the expert's forward the rest. D: of the features."""

    wav: np.ndarray  # float32 [N], see placeholder.py
    label: int
    name: str
    features: torch.Tensor  # [T, D]
    soft: torch.Tensor | None  # [C], where the generator has a teacher


class DistilledExpert(EmotionExpert):
    """generated frames [T, D] each -> Linear -> mean over time -> Linear -> class; dev and test as EmotionExpert.

    With datarc.root null no real data is read: dev is a fixed set of other samples, and there is no test.
    """

    data_class = DistilledData
    data: DistilledData

    def __init__(self, upstream_dim: int, downstream_expert: dict[str, Any], expdir: str,
                 launched: Launched | None = None, recordings: Recordings | None = None, **run: Any) -> None:
        """As S3PRL's Runner calls it; our launcher adds `launched` and `recordings`, see EmotionExpert.

        UserError where the generator does not fit.
        """
        data = read_datarc(DistilledData, downstream_expert["datarc"], run.get("downstream_variant"))
        check_run(data, run)
        self.generator = _open_generator(data, upstream_dim, launched, run, expdir)
        self.placeholder = make_placeholder() if launched else make_silence()
        super().__init__(upstream_dim, downstream_expert, expdir, recordings, **run)
        if self.generator is not None and self.generator.suppression is not None:
            self.projector = Hearing(self.projector, self.generator.suppression)

    # data

    def open_list(self, data: EmotionData, path: str) -> Dataset:
        """The dataset of a metadata file, or a stand-in where there is no real data."""
        if data.root or self.generator is None:
            return super().open_list(data, path)
        return Labels(self.generator.header.labels)

    def make_train_dataset(self) -> None:
        """The generator's samples in place of the train part, and of dev where there is no real data."""
        data, generator = self.data, self.generator
        assert generator is not None  # check_run: training needs one
        seed = self.seed if data.sample_seed is None else data.sample_seed
        if data.labels == "soft" and generator.teacher is None:
            raise UserError(f"{data.generator}: has no teacher for soft labels. Set {DATARC}.labels=hard, or "
                            "distil with one.")
        samples = self._samples(generator, seed, data.resample, data.center)
        self.train_dataset = Placeholders(samples, self.placeholder)
        kind = sets_in_words(samples.resample, samples.ways) + (", centred" if data.center else "")
        self.say(f"training on {sum(samples.counts)} generated points ({slashed(samples.counts)}), {kind}, "
                 f"{data.labels} labels, seed {seed}, from {data.generator}")
        if not data.root:
            others = self._samples(generator, seed + DEV_SEED, resample=False, center=bool(data.center))
            self.dev_dataset = Placeholders(others, self.placeholder)
            self.say("no real data (datarc.root is null): dev is other samples of the same generator, which says "
                     "nothing of real speech")

    def _samples(self, generator: Generator, seed: int, resample: Resample, center: Center) -> GeneratedDataset:
        """A set, or several in turn, as utterance means where the head reads no more; kept on disk if asked for.

        center: of a set for dev true or false: at learnt points it would be the training set once more
        """
        data = self.data
        return GeneratedDataset(generator, data.budget, seed, resample, data.lengths, center,
                                store=data.sample_folder, means=reads_means(self.modelrc))

    def get_dataloader(self, mode: str, epoch: int = 0) -> DataLoader:
        """The split's DataLoader; S3PRL's Runner gives `epoch` for train."""
        if mode == "train":
            self.train_dataset.generated.set_epoch(epoch)
            return self.train_loader(self.train_dataset, epoch, workers=0, collate=collate)
        if mode == "dev" and isinstance(self.dev_dataset, Placeholders):
            return DataLoader(self.dev_dataset, self.data.eval_batch_size, collate_fn=collate)
        return super().get_dataloader(mode)

    # training

    def forward(self, mode: str, features: list[torch.Tensor], labels: Sequence[int], names: Sequence[str],
                generated: Sequence[torch.Tensor] | None = None, soft: Sequence[torch.Tensor] | None = None, *,
                records: dict[str, list], **others: Any) -> torch.Tensor:
        """The loss of a batch, as S3PRL's Runner asks for it.

        features: B of [T, D] from the upstream; generated: None, or B of [T, D] to take instead
        soft: with `generated`, B of [C], the loss's targets where the configuration says labels: soft
        records: S3PRL's, extended by each item's
        """
        if generated is None:
            return super().forward(mode, features, labels, names, records=records, **others)
        device = features[0].device
        frames = [item.to(device) for item in generated]
        targets = torch.stack(list(soft)).to(device) if soft and self.data.labels == "soft" else None  # [B, C]
        loss = self.loss_of(frames, labels, names, targets, records)
        if is_initialized() and features[0].requires_grad:  # DDP waits for the Featurizer's gradient: give it zero
            loss = loss + 0 * sum(item.nan_to_num().sum() for item in features)
        return loss

    def loss_of(self, frames: list[torch.Tensor], labels: Sequence[int], names: Sequence[str],
                soft: torch.Tensor | None, records: dict[str, list]) -> torch.Tensor:
        """S3PRL's emotion loss and records for generated frames, B of [T, D]; with soft [B, C] against these."""
        logits = head_logits(self.projector, self.model, frames)  # [B, C]
        truth = torch.LongTensor(labels).to(logits.device)
        loss = self.objective(logits, truth if soft is None else soft)

        predicted = logits.max(dim=-1).indices
        emotions = self.test_dataset.idx2emotion
        records["acc"] += (predicted == truth).view(-1).cpu().float().tolist()
        records["loss"].append(loss.item())
        records["filename"] += names
        records["predict"] += [emotions[index] for index in predicted.cpu().tolist()]
        records["truth"] += [emotions[index] for index in truth.cpu().tolist()]
        return loss


class Placeholders(Dataset):
    """A GeneratedDataset as S3PRL's items, see Item. placeholder: the wav of each, float32 [N]."""

    def __init__(self, generated: GeneratedDataset, placeholder: np.ndarray) -> None:
        self.generated, self.placeholder = generated, placeholder

    def __len__(self) -> int:
        return len(self.generated)

    def __getitem__(self, index: int) -> Item:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Item]:
        """A whole batch at once (torch's DataLoader calls this where it can)."""
        return [Item(self.placeholder, label, name, features, soft)
                for features, label, soft, name in self.generated.__getitems__(indices)]


class Labels(Dataset):
    """Stands for a metadata file where there is none: a label map, and just enough items to be split in two."""

    def __init__(self, labels: Mapping[str, int]) -> None:
        self.class_dict, self.class_num = labels, len(labels)
        self.idx2emotion = {index: name for name, index in labels.items()}

    def __len__(self) -> int:
        return 2


def collate(items: Sequence[Item]) -> tuple:
    """Items -> a batch as S3PRL's Runner takes it: all wavs, all labels, ..."""
    return tuple(zip(*items, strict=True))


def _open_generator(data: DistilledData, upstream_dim: int, launched: Launched | None, run: Mapping[str, Any],
                    expdir: str) -> Generator | None:
    """The generator of this run, on its device; None for an evaluation without one. UserError if it does not fit."""
    path = _find(data.generator, run["mode"] == "train", expdir)
    if path is None:
        print(f"[s3prl_dd] - no generator at {data.generator}: evaluating on real audio without checking where the "
              "head came from")
        return None
    generator = Generator.load(path, device=run["device"])
    check_features(data.generator, generator.header.features, upstream_dim, launched, run)
    if data.root:
        check_corpus(data, generator.header)
    return generator


def _find(generator: str | None, training: bool, expdir: str) -> Path | None:
    """Where the generator file lies; None for an evaluation where it is gone. The Hub's is pinned in the expdir."""
    if not on_hub(generator):
        path = Path(generator or "")
        return path if training or path.is_file() else None
    try:
        found = fetch(str(generator))
    except UserError:
        if training:
            raise
        return None
    if training:
        found.pin(expdir)
    return found.path

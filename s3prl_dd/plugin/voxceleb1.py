"""S3PRL's speaker identification expert over tickets: its lists, labels, head and log are S3PRL's own.

Training audio that is cropped at random (max_timestep) stays audio, for each crop is another.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .compat import mend
from .placeholder import Recording, Recordings, make_ticket

mend()
import s3prl.downstream.voxceleb1.expert as s3prl_voxceleb1  # noqa: E402
from s3prl.downstream.voxceleb1.dataset import SpeakerClassifiDataset  # noqa: E402


class TicketDataset(SpeakerClassifiDataset):
    """S3PRL's data set with a ticket in the place of each wav: item i is (float32 [2], label, name)."""

    dataset: list[str]  # S3PRL's constructor sets these
    label: list[int]

    def __init__(self, recordings: Recordings, *arguments: Any) -> None:
        """arguments: of S3PRL's."""
        super().__init__(*arguments)
        self.tickets = [make_ticket(recordings.add(Recording.of("", {"path": path}))) for path in self.dataset]

    def __getitem__(self, index: int) -> tuple[np.ndarray, int, str]:
        name = Path("-".join(Path(self.dataset[index]).parts[-3:])).stem  # as S3PRL's
        return self.tickets[index], self.label[index], name


class SpeakerExpert(s3prl_voxceleb1.DownstreamExpert):
    """frames [T, D] each -> Linear -> mean over time -> Linear -> speaker."""

    def __init__(self, downstream_expert: dict[str, Any], recordings: Recordings, **run: Any) -> None:
        """run: what S3PRL's Runner gives besides."""
        datarc = downstream_expert["datarc"]
        if datarc["max_timestep"] is None:
            datarc = {**datarc, "num_workers": 0}  # tickets are at hand
        with _opening_lists(recordings):
            super().__init__(downstream_expert={**downstream_expert, "datarc": datarc}, **run)


@contextlib.contextmanager
def _opening_lists(recordings: Recordings) -> Iterator[None]:
    """Let S3PRL's constructor make data sets of tickets where audio is not cropped."""
    original = s3prl_voxceleb1.SpeakerClassifiDataset

    def open_list(mode: str, root: Path, listed: str, max_timestep: int | None = None) -> Any:
        if max_timestep is not None:
            return original(mode, root, listed, max_timestep)
        return TicketDataset(recordings, mode, root, listed)

    s3prl_voxceleb1.SpeakerClassifiDataset = open_list
    try:
        yield
    finally:
        s3prl_voxceleb1.SpeakerClassifiDataset = original

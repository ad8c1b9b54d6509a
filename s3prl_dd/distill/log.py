"""What a distillation tells while it runs: log.log as text, and TensorBoard."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter


class RunLog:
    """Log files in a run's folder, a context manager; a resumed run appends to them."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """first_step: TensorBoard forgets what a killed run told of this step and later ones"""
        folder.mkdir(parents=True, exist_ok=True)
        self._board = SummaryWriter(folder, purge_step=first_step)
        self._file = open(folder / "log.log", "a", encoding="utf-8")

    def line(self, text: str) -> None:
        """A line of log.log."""
        self._file.write(text + "\n")
        self._file.flush()

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Curves of TensorBoard."""
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def together(self, name: str, values: Mapping[str, float], step: int) -> None:
        """Curves of TensorBoard in one plot."""
        self._board.add_scalars(name, dict(values), step)

    def figure(self, name: str, figure: Figure, step: int) -> None:
        """A picture of TensorBoard."""
        self._board.add_figure(name, figure, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._board.close()
        self._file.close()

"""Upstream `moonshine`: the encoder of Moonshine tiny (Useful Sensors, English ASR), run by onnxruntime.

Its weights come in the PyPI package moonshine-voice, so it needs no hub and no download. It was trained supervised,
for speech recognition: it is not a self-supervised model.

    wav [N] -> conv front-end -> 5 transformer blocks -> final norm     7 hidden states [1, T, 288], 384 samples a frame
"""

import importlib.util
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from ...errors import UserError

RATE = 384  # samples a frame, 24 ms
SHORTEST = 1024  # samples: below 895 the front-end has no frame to give
STATES = ("/Transpose_output_0", *(f"/layers.{block}/Add_1_output_0" for block in range(5)), "last_hidden_state")


def encoder_file() -> Path:
    """Path of the encoder's .ort file. The package itself is not imported: that starts its audio library."""
    package = importlib.util.find_spec("moonshine_voice")
    if package is None or not package.submodule_search_locations or importlib.util.find_spec("onnxruntime") is None:
        raise UserError('upstream moonshine: needs the packages moonshine-voice==0.0.49 and onnxruntime. '
                        'Install them with `pip install "s3prl_dd[moonshine]"`, or take -u fbank.')
    path = Path(package.submodule_search_locations[0]) / "assets" / "tiny-en" / "encoder_model.ort"
    if not path.is_file():
        raise UserError(f"{path}: not in the installed moonshine-voice. Install moonshine-voice==0.0.49.")
    return path


def expose_outputs(model: bytes, names: Sequence[str]) -> bytes:
    """The bytes of an ORT-format `model` whose graph outputs are the tensors `names` instead of the last one alone.

    The list of outputs is a flatbuffer vector of strings. A new one is appended and the graph's reference to the old
    one bent to it; nothing else moves.
    """
    from onnxruntime.tools.ort_format_model.ort_flatbuffers_py.fbs.InferenceSession import InferenceSession

    graph = InferenceSession.GetRootAsInferenceSession(model, 0).Model().Graph()
    outputs_field = 16  # of the table Graph in onnxruntime's schema
    reference = graph._tab.Pos + graph._tab.Offset(outputs_field)
    data = bytearray(model)
    data += bytes(-len(data) % 4)
    vector = len(data)
    struct.pack_into("<I", data, reference, vector - reference)  # flatbuffer references are relative
    data += struct.pack("<I", len(names)) + bytes(4 * len(names))
    for index, name in enumerate(names):
        slot = vector + 4 + 4 * index
        struct.pack_into("<I", data, slot, len(data) - slot)
        text = name.encode()
        data += struct.pack("<I", len(text)) + text + b"\0"
        data += bytes(-len(data) % 4)
    return bytes(data)


class UpstreamExpert(nn.Module):
    """wavs: list of float [N] at 16 kHz -> 7 hidden states [B, max T, 288] on the wavs' device, T = round(N / 384).

    Each utterance runs alone: the model's normalisation over time and its quantisation over the whole batch would
    otherwise make a result depend on its batch mates' lengths, attention mask or not. The model gives 1 or 2 frames
    less than round(N / 384), the count by which S3PRL's Featurizer cuts; the last frame is repeated to fill it.
    """

    calls_at_once = True
    """Several threads may call it at once: a session keeps nothing of a call."""

    def __init__(self, ckpt: str | Path | None = None, **ignored: Any) -> None:
        super().__init__()
        path = Path(ckpt) if ckpt else encoder_file()
        if not path.is_file():
            raise UserError(f"{path}: no such file. -u moonshine takes its weights from moonshine-voice; leave -k "
                            "away.")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # utterances go side by side
        options.add_session_config_entry("session.load_model_format", "ORT")
        self.session = onnxruntime.InferenceSession(expose_outputs(path.read_bytes(), STATES), options,
                                                    providers=["CPUExecutionProvider"])

    def get_downsample_rates(self, key: str | None = None) -> int:
        """Samples a frame, as S3PRL asks an upstream for it."""
        return RATE

    def forward(self, wavs: list[torch.Tensor]) -> dict[str, Any]:
        """See the class; last_hidden_state is the last of the hidden states."""
        states = [self._run(wav.detach().float().cpu().numpy()) for wav in wavs]  # B times 7 of [T, 288]
        hidden = tuple(pad_sequence([utterance[layer] for utterance in states], batch_first=True).to(wavs[0].device)
                       for layer in range(len(STATES)))
        return {"hidden_states": hidden, "last_hidden_state": hidden[-1]}

    def _run(self, wav: np.ndarray) -> list[torch.Tensor]:
        """float32 [N] -> 7 states [T, 288]"""
        frames = max(1, round(len(wav) / RATE))
        wav = np.pad(wav, (0, max(0, SHORTEST - len(wav))))[None]
        states = self.session.run(None, {"input_values": wav, "attention_mask": np.ones(wav.shape, np.int64)})
        return [torch.from_numpy(_fit(state[0], frames)) for state in states]


def _fit(state: np.ndarray, frames: int) -> np.ndarray:
    """[t, D] -> [frames, D], cut, or filled with the last frame."""
    return np.pad(state[:frames], ((0, max(0, frames - len(state))), (0, 0)), mode="edge")


def moonshine(ckpt: str | None = None, *args: Any, **kwargs: Any) -> UpstreamExpert:
    """The hub's entry, as S3PRL calls it: (ckpt=, model_config=, refresh=)."""
    return UpstreamExpert(ckpt)

"""A frozen upstream of S3PRL's hub with S3PRL's own Featurizer on top: wavs in, one [T, D] each out.

    encoder = Encoder("hubert", layer=9)
    frames = encoder.encode([wav, wav])     # [T, 768] each, T = round(len(wav) / 320) or a frame or two less
"""

import importlib.metadata
from pathlib import Path

import torch

from ..errors import UserError
from ..files import file_digest, text_digest
from .featurizer import to_logits
from .registration import check_upstream, register


class Encoder:
    """Runs in this process; features equal what S3PRL's Runner gives to a downstream for the same batch."""

    def __init__(self, upstream, ckpt=None, model_config=None, selection="hidden_states", layer=None, normalize=False,
                 device="cpu", layer_weights=None):
        """upstream, ckpt, model_config, selection, layer, normalize: S3PRL's -u, -k, -g, -s, -l, --upstream_feature_normalize
        layer_weights: softmaxed weights of the states, a list; None is uniform, as S3PRL starts
        Raises UserError for a name that the hub lacks, a checkpoint that does not load, a selection it does not give.
        """
        check_upstream(upstream, ckpt)
        hub = register()
        from s3prl.upstream.interfaces import Featurizer

        self.device = device
        with torch.random.fork_rng(devices=[]):  # models are made with random weights and Featurizer tries them on noise
            try:
                model = getattr(hub, upstream)(ckpt=ckpt, model_config=model_config, refresh=False)
                self.upstream = model.to(device).eval().requires_grad_(False)
            except OSError as error:  # no file, no network
                raise UserError(f"upstream {upstream}: could not be loaded ({error}). Check -k {ckpt} and the network.") from None
            try:
                self.featurizer = Featurizer(self.upstream, selection, device, layer, normalize)
            except IndexError:
                raise UserError(f"layer {layer}: {selection} of upstream {upstream} has fewer states.") from None
            except (AttributeError, ValueError):
                raise UserError(f"selection {selection!r}: upstream {upstream} does not give it.") from None
        self.featurizer.to(device).requires_grad_(False)
        if self.featurizer.feature_selection != selection:
            raise UserError(f"selection {selection!r}: upstream {upstream} does not give it, and S3PRL would take "
                            f"{self.featurizer.feature_selection} without an error. Choose -s hidden_states; with -l N "
                            "for one layer, -l -1 for the last.")
        self._provenance = {
            "upstream": upstream, "upstream_ckpt_digest": checkpoint_digest(upstream, ckpt, model_config),
            "selection": selection, "layer": layer, "normalize": bool(normalize),
            "dim": self.dim, "rate": self.rate, "s3prl": importlib.metadata.version("s3prl"),
        }
        if layer_weights is not None:
            self.layer_weights = layer_weights

    @property
    def layers(self):
        """How many states are weighted and summed; 1 where there is nothing to weigh."""
        return getattr(self.featurizer, "layer_num", 1)

    @property
    def dim(self):
        return self.featurizer.output_dim

    @property
    def rate(self):
        """Samples (at 16 kHz) a frame."""
        return self.featurizer.downsample_rate

    @property
    def layer_weights(self):
        """Softmaxed weights of the states, a list of `layers` floats; None where there is nothing to weigh."""
        return self.featurizer.weights.softmax(dim=-1).tolist() if self.layers > 1 else None

    @layer_weights.setter
    def layer_weights(self, weights):
        if weights is None:
            weights = [1 / self.layers] * self.layers
        if len(weights) != self.layers:
            raise UserError(f"{len(weights)} layer weights: upstream {self._provenance['upstream']} has {self.layers} state(s).")
        if self.layers > 1:
            self.featurizer.weights.data.copy_(to_logits(weights))

    @property
    def provenance(self):
        """How the features are made: the block `features` of a store's and a generator's header."""
        return {**self._provenance, "layer_weights": self.layer_weights}

    @torch.no_grad()
    def encode(self, wavs):
        """wavs: list of 1-D float32 arrays at 16 kHz -> list of float32 [T, D] on the CPU, weighted over the states."""
        wavs = self._tensors(wavs)
        return [frames.float().cpu() for frames in self.featurizer(wavs, self.upstream(wavs))]

    @torch.no_grad()
    def states(self, wavs):
        """As encode, before the weighting: list of float32 [L, T, D], L = layers."""
        wavs = self._tensors(wavs)
        selected = self.featurizer._select_feature(self.upstream(wavs))
        selected = selected if self.layers > 1 else [selected]
        if self.featurizer.normalize and self.layers > 1:
            selected = [torch.nn.functional.layer_norm(state, state.shape[-1:]) for state in selected]
        cut = [self.featurizer.tolist(wavs, state) for state in selected]  # L times B of [T, D]
        return [torch.stack(utterance).float().cpu() for utterance in zip(*cut)]

    def _tensors(self, wavs):
        return [torch.as_tensor(wav, dtype=torch.float32, device=self.device) for wav in wavs]


def checkpoint_digest(upstream, ckpt=None, model_config=None):
    """What tells one checkpoint from another under the same -u name: hex SHA-256, or None where the name says it all.

    A file by its bytes, a folder by its files' names and bytes, a URL or a hub's model id by its text.
    """
    if upstream == "moonshine" and ckpt is None:
        from .upstream.moonshine import encoder_file

        ckpt = encoder_file()
    digests = [_digest(Path(source), str(source)) for source in (ckpt, model_config) if source]
    return (text_digest(digests) if len(digests) > 1 else digests[0]) if digests else None


def _digest(path, text):
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
        return text_digest(f"{file.name}\t{file_digest(file)}" for file in files)
    return file_digest(path) if path.is_file() else text_digest([text])

"""SER heads, many at once: S3PRL's emotion head (SUPERB) and an attentive one, as stacks of M heads.

The SUPERB head is Linear D->256, mean over time, Linear 256->C: it is linear in the utterance mean, so on equal
means it gives equal logits whatever the number of frames.
"""

import torch
import torch.nn as nn

from ..errors import UserError
from ..rng import keyed

PROJECTOR_DIM = 256  # S3PRL's projector_dim
KINDS = ("superb", "attentive")
# S3PRL's own state_dict keys, so that checkpoints of a real run can be stacked as they are
SUPERB_KEYS = ("projector.weight", "projector.bias", "model.post_net.linear.weight", "model.post_net.linear.bias")
ATTENTION_KEYS = ("model.pooling.sap_layer.W_a.weight", "model.pooling.sap_layer.W_a.bias",
                  "model.pooling.sap_layer.W.weight", "model.pooling.sap_layer.W.bias")


class Heads(nn.Module):
    """M heads of one kind. `superb`: Linear > mean > Linear; `attentive`: Linear > S3PRL's AttentivePooling > Linear."""

    def __init__(self, stack, kind="superb"):
        """stack: S3PRL key -> [M, ...] tensors."""
        super().__init__()
        self.kind = kind
        self.stack = nn.ParameterDict({key.replace(".", "/"): nn.Parameter(value) for key, value in stack.items()})

    @classmethod
    def create(cls, seeds, dim, classes, kind="superb"):
        """Fresh heads with torch's initial weights for nn.Linear, one for each seed."""
        if kind not in KINDS:
            raise UserError(f"head {kind!r}: expected one of {', '.join(KINDS)}.")
        sizes = {"projector": (dim, PROJECTOR_DIM), "model.post_net.linear": (PROJECTOR_DIM, classes)}
        if kind == "attentive":
            sizes |= {"model.pooling.sap_layer.W_a": (PROJECTOR_DIM, PROJECTOR_DIM), "model.pooling.sap_layer.W": (PROJECTOR_DIM, 1)}
        stack = {}
        for name, (fan_in, fan_out) in sizes.items():
            for part, shape in (("weight", (fan_out, fan_in)), ("bias", (fan_out,))):
                draws = [torch.rand(shape, generator=keyed(seed, name, part)) for seed in seeds]
                stack[f"{name}.{part}"] = (2 * torch.stack(draws) - 1) / fan_in ** 0.5
        return cls(stack, kind)

    def get(self, key):
        return self.stack[key.replace(".", "/")]

    def __len__(self):
        return len(self.get("projector.weight"))

    def state(self):
        """S3PRL key -> [M, ...], detached."""
        return {key.replace("/", "."): value.detach().clone() for key, value in self.stack.items()}

    def pick(self, indices):
        """The heads of these numbers, as Heads."""
        return Heads({key.replace("/", "."): value.detach()[indices] for key, value in self.stack.items()}, self.kind)

    def forward(self, frames, mask=None):
        """frames: [B, T, D]; mask: [B, T], True on real frames, None where all are -> logits [M, B, C]"""
        if self.kind == "superb":
            return self.of_means(pool_mean(frames, mask))
        hidden = torch.einsum("btd,mhd->mbth", frames, self.get("projector.weight")) + self.get("projector.bias")[:, None, None]
        weight_a, bias_a, weight, bias = (self.get(key) for key in ATTENTION_KEYS)
        energy = torch.einsum("mbth,mgh->mbtg", hidden, weight_a) + bias_a[:, None, None]
        energy = torch.einsum("mbtg,mg->mbt", energy.relu(), weight[:, 0]) + bias[:, None]
        if mask is not None:
            energy = energy + mask  # S3PRL adds the 0/1 mask to the energies; kept as it is there
        return self.output(torch.einsum("mbt,mbth->mbh", energy.softmax(dim=-1), hidden))

    def of_means(self, means):
        """SUPERB heads on utterance means [B, D], or a batch for each head [M, B, D] -> logits [M, B, C]"""
        return self.output(means @ self.get("projector.weight").transpose(1, 2) + self.get("projector.bias")[:, None])

    def output(self, hidden):
        weight, bias = (self.get(f"model.post_net.linear.{part}") for part in ("weight", "bias"))
        return hidden @ weight.transpose(1, 2) + bias[:, None]

    def linear(self):
        """SUPERB heads as one linear map of the utterance mean: (weight [M, C, D], bias [M, C])."""
        if self.kind != "superb":
            raise UserError(f"{self.kind} heads are not linear in the utterance mean; only superb heads are.")
        first, last = self.get("projector.weight"), self.get("model.post_net.linear.weight")
        bias = torch.einsum("mch,mh->mc", last, self.get("projector.bias")) + self.get("model.post_net.linear.bias")
        return last @ first, bias


def pool_mean(frames, mask=None):
    """[B, T, D] -> [B, D], over the frames where mask [B, T] is True."""
    if mask is None:
        return frames.mean(dim=-2)
    return (frames * mask[..., None]).sum(dim=-2) / mask.sum(dim=-1, keepdim=True)


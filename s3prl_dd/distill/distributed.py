"""Many processes under torchrun: each takes its share of the same global batch."""

import os
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn as nn
from torch.distributed.nn.functional import all_gather, all_reduce


class Ranks(NamedTuple):
    """This process among all: rank 0 to world - 1."""

    rank: int = 0
    world: int = 1

    def share(self, batch: torch.Tensor) -> torch.Tensor:
        """This rank's part [B / world, ...] of a global batch [B, ...], which is laid out rank by rank."""
        size = len(batch) // self.world
        return batch[self.rank * size:(self.rank + 1) * size]


def torchrun_ranks() -> Ranks:
    """What torchrun told this process by its environment, before any group is joined; alone without torchrun."""
    return Ranks(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))


def joined_ranks() -> Ranks:
    """This process in the group that it joined; alone where it joined none."""
    return Ranks(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else Ranks()


def start_group(device: str) -> Ranks:
    """Join torchrun's process group, where there is more than one process: nccl on "cuda", where each rank takes the
    GPU of its number on this machine, else gloo."""
    ranks = torchrun_ranks()
    if ranks.world == 1:
        return ranks
    if device.startswith("cuda"):
        gpu = int(os.environ["LOCAL_RANK"])
        torch.cuda.set_device(gpu)
        dist.init_process_group("nccl", device_id=torch.device("cuda", gpu))
    else:
        dist.init_process_group("gloo")
    return ranks


def end_group() -> None:
    """Leave the group, where one was joined."""
    if dist.is_initialized():
        dist.destroy_process_group()


def wait_for_all(world: int) -> None:
    """Every rank waits here for the slowest, say for rank 0 that measures and saves."""
    if world > 1:
        dist.barrier()


def gather(tensor: torch.Tensor, world: int) -> torch.Tensor:
    """The tensors [B, ...] of all ranks behind one another [world * B, ...]; gradients add up over the ranks."""
    return torch.cat(all_gather(tensor.contiguous())) if world > 1 else tensor


def mean_over_ranks(tensor: torch.Tensor, world: int) -> torch.Tensor:
    """The mean of the ranks' tensors, of the same shape, with gradients."""
    return all_reduce(tensor) / world if world > 1 else tensor


def average_gradients(network: nn.Module, world: int) -> None:
    """Give every parameter the mean of the ranks' gradients. (DDP does not take the critic's double backward.)"""
    if world == 1:
        return
    for parameter in network.parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= world

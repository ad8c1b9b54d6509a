"""`python -m s3prl_dd.distill`: `s3prl-dd distill` with the same flags, also on many GPUs or processes:

    torchrun --nproc_per_node 2 -m s3prl_dd.distill --out RUN
"""

import os
import sys

import torch
import torch.distributed as dist

from ..cli import parser
from ..errors import UserError
from ..recipe import stages as recipe


def main(argv=None):
    arguments = parser().parse_args(["distill", *(sys.argv[1:] if argv is None else argv)])
    rank, ranks = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    try:
        settings = recipe.Settings.of(arguments.out, vars(arguments), write=rank == 0)
        if ranks > 1:
            start_group(settings.device_name())
        recipe.distill(recipe.Run(arguments.out, settings), progress=rank == 0)
    except UserError as error:
        print(f"s3prl-dd: error: {f'rank {rank}: ' if ranks > 1 else ''}{error}", file=sys.stderr, flush=True)
        return 2
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    return 0


def start_group(device):
    """Join torchrun's process group; with CUDA each rank takes the GPU of its number on this machine."""
    if device.startswith("cuda"):
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl", device_id=torch.device("cuda", int(os.environ["LOCAL_RANK"])))
    else:
        dist.init_process_group("gloo")


if __name__ == "__main__":
    sys.exit(main())

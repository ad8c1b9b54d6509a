"""The size of a GAN, counted without its memory: parameters on torch's meta device."""

import torch
import torch.nn as nn

from ..errors import UserError
from ..generator import Network, build_generator
from ..generator.networks import GANS
from .critic import Critic

MAX_PARAMETERS = 2 * 10**9
"""Of generator and critic together; with their gradients, Adam's moments and the average, 36 GB."""


def count_parameters(network: Network) -> int:
    """Parameters of the generator and, where there is one, the critic."""
    with torch.device("meta"):
        modules: list[nn.Module] = [build_generator(network)]
        if network.architecture in GANS:
            modules.append(Critic(network))
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def check_size(network: Network) -> None:
    """UserError for a network that is larger than any that fits a machine, before memory is asked for."""
    parameters = count_parameters(network)
    if parameters > MAX_PARAMETERS:
        raise UserError(f"network: {parameters:,} parameters, expected {MAX_PARAMETERS:,} or fewer. "
                        "Set fewer network.channels, network.critic_channels or network.frames.")

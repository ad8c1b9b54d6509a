"""A GAN on paper: layers, shapes, parameters, FLOPs and file size, without training."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..generator.networks import GANS, build_generator
from .critic import Critic


def describe(config, dim, classes=4):
    """config: DistillConfig; returns a dict: parameters, file_bytes, flops_per_sample, layers, and the critic's."""
    network = config.network
    network.dim, network.classes = dim, classes
    is_gan = network.architecture in GANS
    if not is_gan:
        network.noise = dim  # the Gaussian's
    with torch.device("meta"):  # shapes without numbers
        generator, critic = build_generator(network).eval(), Critic(network).eval() if is_gan else torch.nn.Identity()
        noise, labels = torch.empty(1, network.noise), torch.zeros(1, dtype=torch.long)
    layers = []

    def note(name):
        return lambda module, inputs, output: layers.append(
            {"layer": name, "kind": type(module).__name__, "shape": list(output.shape[1:]),
             "parameters": sum(parameter.numel() for parameter in module.parameters())})

    hooks = [module.register_forward_hook(note(name)) for name, module in generator.named_modules()
             if not list(module.children()) or type(module).__name__ == "TimeAttention"]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        frames = generator(noise, labels)
    for hook in hooks:
        hook.remove()
    with torch.no_grad(), FlopCounterMode(display=False) as critic_counter:
        critic(frames)
    values = sum(tensor.numel() for tensor in generator.state_dict().values()) + 2 * dim + classes * dim  # and mean, std, class means
    if config.calibrate:
        values += dim * dim + 2 * classes * dim
    return {"architecture": network.architecture, "frames": network.frames, "dim": dim, "noise": network.noise,
            "parameters": sum(parameter.numel() for parameter in generator.parameters()),
            "file_bytes": values * (2 if config.half_file else 4), "flops_per_sample": counter.get_total_flops(),
            "critic_parameters": sum(parameter.numel() for parameter in critic.parameters()),
            "critic_flops_per_sample": critic_counter.get_total_flops(), "layers": layers}


def print_description(description):
    print(f"{description['architecture']}: [{description['noise']} noise ; label] -> [{description['frames']}, {description['dim']}]")
    for layer in description["layers"]:
        print(f"  {layer['layer']:<22} {layer['kind']:<16} {' x '.join(map(str, layer['shape'])):<18} {layer['parameters']:>12,}")
    print(f"generator: {description['parameters']:,} parameters, {description['file_bytes'] / 1e9:.4f} GB file, "
          f"{description['flops_per_sample'] / 1e9:.3f} GFLOP a sample")
    if description["critic_parameters"]:
        print(f"critic:    {description['critic_parameters']:,} parameters, {description['critic_flops_per_sample'] / 1e9:.3f} GFLOP a sample")

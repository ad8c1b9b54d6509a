"""The distiller: real features and a pool of heads in, a generator file out. Knows nothing of S3PRL.

    config.py       every setting with its meaning and origin          parts.py         what the file says of its data
    losses.py       the paper's equations                              evaluator.py     a generator measured on dev
    critic.py       D(x), its class head and feature maps              checkpoint.py    resume, or refuse to
    layers.py       what the networks are trained with: fast           log.py           log.log and TensorBoard
    norms.py        the critic's layer norm                            distributed.py   torchrun's ranks
    fused.py        its passes, compiled on a GPU
    data.py         a fold's real utterances, and draws of them        sources.py       real frames in memory
                                                                       stored.py        and where they would not fit
    batches.py      balanced batches, keyed by seed and step           selection.py     quick heads; which file is kept
    trainer.py      the step, the loop, resume                         finish.py        trained weights to a file

Beside the way: describe.py and bench.py (sizes and times), plain.py (the loop that bench.py measures against), size.py.
"""

from .config import DistillConfig, Lambdas

__all__ = ["DistillConfig", "Lambdas"]

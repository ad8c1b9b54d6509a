"""The distiller: real features and a pool of heads in, a generator file out. Knows nothing of S3PRL.

    config.py       every setting with its meaning and origin          parts.py         what the file says of its data
    losses.py       the paper's equations                              selection.py     a generator measured on dev
    critic.py       D(x), its class head and feature maps              checkpoint.py    resume, or refuse to
    layers.py       what the networks are trained with: fast           log.py           log.log and TensorBoard
    norms.py        the critic's layer norm                            distributed.py   torchrun's ranks
    fused.py        its passes, compiled on a GPU
    data.py         real utterances as T frames, standardised
    stored.py       the same where memory would not hold them
    batches.py      balanced batches, keyed by seed and step
    trainer.py      the step and the loop

Beside the way: describe.py and bench.py (sizes and times), plain.py (the loop that bench.py measures against), size.py.
"""

from .config import DistillConfig, Lambdas

__all__ = ["DistillConfig", "Lambdas"]

"""The distiller: real features and a pool of heads in, a generator file out. Knows nothing of S3PRL.

    config.py       every setting with its meaning and origin          trainer.py       the step, the loop, resume
    losses.py       the paper's equations                              evaluator.py     a generator measured on dev
    critic.py       D(x), its class head and feature maps              selection.py     quick heads; which file is kept
    fast/           what both networks are trained with                finish.py        trained weights to a file
    data.py         a fold's real utterances, and draws of them        parts.py         what the file says of its data
    sources.py      real frames in memory                              checkpoint.py    resume, or refuse to
    stored.py       the same where memory would not hold them          log.py           log.log and TensorBoard
    batches.py      balanced batches, keyed by seed and step           distributed.py   torchrun's ranks

Beside the way: describe.py and bench.py (sizes and times), plain.py (the loop that bench.py measures against), size.py.
"""

from .config import DistillConfig, Lambdas

__all__ = ["DistillConfig", "Lambdas"]

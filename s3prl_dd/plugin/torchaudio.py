"""Stands before torchaudio in the folder of a clone's run_downstream.py, where `s3prl-dd link` puts a link to it.

Python looks there first, and S3PRL imports torchaudio before anything of ours. This makes way for the real torchaudio
and applies the remedies for new libraries (compat.mend), which come too late once S3PRL's imports have failed.
"""

import sys
from pathlib import Path

here = Path(__file__).parent.resolve()
path = list(sys.path)
sys.path[:] = [folder for folder in path if Path(folder or ".").resolve() != here]
del sys.modules[__name__]
try:
    from s3prl_dd.plugin.compat import mend

    mend()
    import torchaudio  # noqa: F401  the real one; Python hands it to whoever imported this
finally:
    sys.path[:] = path

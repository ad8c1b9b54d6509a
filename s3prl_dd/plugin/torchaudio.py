"""Stands before torchaudio in the folder of a clone's run_downstream.py, where `s3prl-dd link` puts a link to it.

Python looks there first, and S3PRL imports torchaudio before anything of its own or of ours. Of run_downstream.py this
makes our launcher, over the clone's own S3PRL: without it Python would import one that is installed. Any other script
gets the real torchaudio, after the remedies for new libraries (compat.mend), which come too late once S3PRL's imports
have failed.
"""

import sys
from pathlib import Path

here = Path(__file__).parent.resolve()
path = list(sys.path)
sys.path[:] = [folder for folder in path if Path(folder or ".").resolve() != here]
del sys.modules[__name__]
started = Path(getattr(sys.modules["__main__"], "__file__", None) or "").resolve()
try:
    if started == here / "run_downstream.py":
        sys.path.insert(0, str(here.parent))
        from s3prl_dd.plugin.launcher import main

        main()
        sys.exit()
    from s3prl_dd.plugin.compat import mend

    mend()
    import torchaudio  # noqa: F401  the real one; Python hands it to whoever imported this
except ModuleNotFoundError as error:
    if error.name != "s3prl_dd":
        raise
    sys.exit(f"error: {here}: is linked to s3prl_dd, which this Python ({sys.executable}) does not have. Activate its "
             "environment, or delete the link torchaudio.py there.")
finally:
    sys.path[:] = path

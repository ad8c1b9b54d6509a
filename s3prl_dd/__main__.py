"""`python -m s3prl_dd`: the `s3prl-dd` command; under torchrun, `torchrun -m s3prl_dd distill --out RUN`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())

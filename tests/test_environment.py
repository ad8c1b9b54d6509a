"""What importing the package sets in the environment: how threads wait, how products round, how often bars in files are
written."""

import json
import os
import subprocess
import sys

import pytest

SCRIPT = "import json, os, s3prl_dd; print(json.dumps(dict(os.environ)))"


def after_import(**variables: str) -> dict[str, str]:
    """The environment of a process whose messages go to a file, behind the import."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TQDM", "OMP", "GOMP", "MKL"))}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env={**kept, **variables}, capture_output=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("variables, expected", [
    ({}, {"TQDM_MININTERVAL": "10", "TQDM_MAXINTERVAL": "10", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "2000"}),
    ({"TQDM_MININTERVAL": "1"}, {"TQDM_MININTERVAL": "1", "TQDM_MAXINTERVAL": "10"}),
    ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": None}),
    ({"GOMP_SPINCOUNT": "5"}, {"OMP_WAIT_POLICY": None, "GOMP_SPINCOUNT": "5"}),
    ({}, {"MKL_CBWR": "AUTO,STRICT"}),
    ({"MKL_CBWR": "AVX2"}, {"MKL_CBWR": "AVX2"}),
])
def test_what_the_user_sets_wins(variables, expected):
    found = after_import(**variables)
    assert {name: found.get(name) for name in expected} == expected

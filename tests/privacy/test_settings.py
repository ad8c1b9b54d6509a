"""What a measurement refuses before it begins."""

import pytest

from s3prl_dd.errors import UserError
from s3prl_dd.privacy.settings import Settings


def test_defaults():
    settings = Settings()
    assert (settings.arm, settings.seeds, settings.steps, settings.lrs) == ("distilled_full", 3, 300, (1e-3, 1e-2))


@pytest.mark.parametrize("change, told", [
    ({"lrs": (1e-3, 0.001000000001)}, "lrs: two of them print as 0.001 and would share a folder"),
    ({"lrs": (1e-3, 1e-2, 1e-3)}, "lrs: two of them print as 0.001"),
    ({"lrs": ()}, "lrs: "), ({"lrs": (0.0,)}, "lrs.0: "), ({"lrs": (float("nan"),)}, "lrs.0: "),
    ({"seeds": 0}, "seeds: "), ({"steps": -1}, "steps: "), ({"batch": 0}, "batch: "), ({"samples": 0}, "samples: "),
    ({"jobs": -1}, "jobs: "), ({"feature_cache": -1}, "feature_cache: "),
    ({"arm": "real"}, "arm 'real': expected heads on samples"), ({"arm": "distiled_full"}, "arm 'distiled_full'"),
    ({"sedes": 1}, "unknown key 'sedes'. Did you mean 'seeds'")])
def test_refused_in_one_line(change, told):
    with pytest.raises(UserError) as raised:
        Settings(**change)
    assert str(raised.value).startswith(told) and "\n" not in str(raised.value)

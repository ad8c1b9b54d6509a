"""Which features are meant, and S3PRL's flags for them."""

import pytest

from s3prl_dd.errors import UserError
from s3prl_dd.features.spec import FeatureSpec


def test_flags_are_s3prls_and_only_what_is_set():
    assert FeatureSpec("hubert").flags() == ["-u", "hubert", "-s", "hidden_states"]
    spec = FeatureSpec("hubert_local", "base.pt", "model.yaml", "last_hidden_state", layer=0, normalize=True)
    assert spec.flags() == ["-u", "hubert_local", "-s", "last_hidden_state", "-k", "base.pt", "-g", "model.yaml",
                            "-l", "0", "--upstream_feature_normalize"]


def test_a_misspelt_field_is_refused():
    with pytest.raises(UserError, match="unknown key 'upstrem'.*upstream"):
        FeatureSpec(upstrem="hubert")

"""Options of a set of samples: what resample may be."""

import pytest
from support.tiny_generator import tiny_generator

from s3prl_dd.config import build
from s3prl_dd.errors import UserError
from s3prl_dd.generator import GeneratedDataset, Sampling
from s3prl_dd.generator.sampling import set_of, sets_of


@pytest.mark.parametrize("resample, sets", [(False, [0] * 6), (True, [0, 1, 2, 3, 4, 5]), (2, [0, 1, 0, 1, 0, 1]),
                                            (4, [0, 1, 2, 3, 0, 1])])
def test_which_set_an_epoch_sees(resample, sets):
    assert [set_of(resample, epoch) for epoch in range(6)] == sets
    for made in (Sampling(resample=resample), build(Sampling, {"resample": resample}, "run.yaml")):
        assert made.resample == resample and type(made.resample) is type(resample)


@pytest.mark.parametrize("budget, sets", [("original", 8), ("balanced", 8), (50, False), ({"total": 200}, False),
                                          ({"counts": [1, 2, 1]}, False)])
def test_auto_is_several_sets_where_a_budget_names_no_number(budget, sets):
    """A budget in numbers is a promise of so many points."""
    assert sets_of("auto", budget) is sets
    assert [sets_of(resample, budget) for resample in (True, False, 3)] == [True, False, 3]
    assert GeneratedDataset(tiny_generator(), budget).resample is sets


@pytest.mark.parametrize("resample", [0, 1, -3, 2.5, "often", None])
def test_what_resample_cannot_be(resample):
    """1 would be one set to one reader, and true to another."""
    expected = "resample: expected auto, true, false, or a number of sets from 2 up"
    for make in (lambda: Sampling(resample=resample), lambda: build(Sampling, {"resample": resample}, "run.yaml"),
                 lambda: GeneratedDataset(tiny_generator(), 2, resample=resample)):
        with pytest.raises(UserError, match=expected) as error:
            make()
        assert "\n" not in str(error.value)

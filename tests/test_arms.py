"""Arms: names that are read back, the order of tables, points."""

import random

import pytest

from s3prl_dd.arms import REAL, Arm, Source, arms_of
from s3prl_dd.errors import UserError

IN_ORDER = [
    "real",
    "teacher",
    "distilled_full",
    "distilled_original",
    "random_real_soft_original",
    "distilled_100ppc",
    "random_real_100ppc",
    "distilled_6ppc",
    "gradient_matching_6ppc",
    "random_real_6ppc",
]


@pytest.mark.parametrize("name", IN_ORDER)
def test_names_are_read_back(name):
    assert Arm.parse(name).name == name


@pytest.mark.parametrize(
    "name", ["", "reals", "distilled", "distilled_0ppc", "distilled_ppc", "random_real", "real_6ppc"]
)
def test_names_of_no_arm(name):
    with pytest.raises(UserError, match="expected real, distilled_full"):
        Arm.parse(name)


def test_order():
    shuffled = random.Random(0).sample(IN_ORDER, len(IN_ORDER))
    assert [arm.name for arm in sorted(map(Arm.parse, shuffled))] == IN_ORDER


def test_points():
    """Samples are as many as asked for; a real subset is never larger than the class."""
    counts = [5, 3, 4]
    points = {
        name: Arm.parse(name).points(counts)
        for name in ("real", "distilled_full", "distilled_original", "distilled_6ppc", "random_real_4ppc")
    }
    assert points == {
        "real": 12,
        "distilled_full": 12,
        "distilled_original": 12,
        "distilled_6ppc": 18,
        "random_real_4ppc": 11,
    }


def test_arms_of_a_source():
    assert [arm.name for arm in arms_of(Source.RANDOM_REAL, [6, "original", 12])] == [
        "random_real_6ppc",
        "random_real_12ppc",
    ]
    assert [arm.name for arm in arms_of(Source.GENERATED, ["balanced", 6, "original"])] == [
        "distilled_full",
        "distilled_6ppc",
        "distilled_original",
    ]


def test_titles():
    titles = [arm.title() for arm in map(Arm.parse, IN_ORDER)]
    assert titles[:6] == [
        "all real data",
        "teacher alone, no samples",
        "GAN samples, full size",
        "GAN samples, original mix",
        "soft labels on all real data",
        "GAN samples, 100 a class",
    ]
    assert titles[-2:] == ["gradient matching, 6 a class", "random real subset, 6 a class"]
    assert Arm.parse("distilled_6ppc").title(gaussian=True) == "Gaussian samples, 6 a class"


def test_real_data_has_no_budget():
    with pytest.raises(ValueError, match="no budget"):
        Arm(Source.REAL, 6)
    with pytest.raises(ValueError, match="no budget"):
        Arm(Source.GENERATED)
    assert REAL.budget is None


@pytest.mark.parametrize(("name", "labels", "center", "alike"), [
    ("distilled_6ppc", "soft", "auto", "random_real_centred_6ppc"),
    ("distilled_6ppc", "soft", False, "random_real_soft_6ppc"),
    ("distilled_6ppc", "hard", False, "random_real_6ppc"),
    ("distilled_6ppc", "hard", True, None),
    ("gaussian_6ppc", "soft", "auto", "random_real_centred_6ppc"),
    ("closed_form_6ppc", "soft", "auto", "random_real_soft_6ppc"),
    ("herding_centred_6ppc", "soft", False, "random_real_centred_6ppc"),
    ("random_real_6ppc", "soft", "auto", None),
    ("random_real_soft_6ppc", "soft", "auto", None),
    ("distilled_full", "soft", "auto", None),
    ("real", "soft", "auto", None),
])
def test_random_utterances_treated_alike(name, labels, center, alike):
    found = Arm.parse(name).random_alike(labels, center)
    assert (found and found.name) == alike


def test_every_real_utterance_with_soft_labels_is_no_random_subset():
    arm = Arm.parse("random_real_soft_original")
    assert (arm.title(), arm.size) == ("soft labels on all real data", "")
    assert Arm.parse("random_real_soft_6ppc").title() == "random real, soft, 6 a class"

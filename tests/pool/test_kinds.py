"""Kinds of heads: their names, and how a table tells them."""

from typing import get_args

from s3prl_dd.pool.kinds import HEADS, HeadName, head_label


def test_names_that_flags_take_are_those_that_there_are():
    assert get_args(HeadName) == tuple(HEADS)


def test_superb_is_named_beside_others_alone():
    assert head_label("cnn") == "cnn head" and head_label("superb") == ""
    assert head_label("superb", {"superb"}) == "" and head_label("superb", {"superb", "cnn"}) == "superb head"

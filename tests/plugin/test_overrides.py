"""S3PRL's -o: what S3PRL reads means the same, and any value can be written and read back."""

from argparse import Namespace

import pytest

from s3prl_dd.errors import UserError
from s3prl_dd.plugin.overrides import override, read_overrides, set_options, write_overrides

NASTY = ["result/lr=1e-4", "a,,b", "-dash", "it's", 'say "so"', "two\nlines", "r/o*", "[x]", "{y}", "tab\tx", "日本😀",
         "1/2", "2024", "None", "True", "back\\slash", " spaces ", "a=b,,c='d'", "bytes\udcff", "", "'quoted'", "$HOME"]


def test_any_value_comes_back():
    values = {f"config.a.k{number}": value for number, value in enumerate([*NASTY, 1, 0.5, None, True, ["dev", "a,,b"],
                                                                           {"total": 3}, ("x",)])}
    options = read_overrides(write_overrides(values))
    assert {".".join(option.keys): option.value for option in options} == values


@pytest.mark.parametrize("text", [
    "config.optimizer.lr=1.0e-3,,config.optimizer.name='AdamW',,config.runner.eval_dataloaders=['dev', 'test']",
    "args.verbose=True,,config.runner.total_steps=7", " args.seed = 3 ,, config.new.block.key = some text ",
    "config.runner.total_steps=10*2,,config.optimizer.lr=-1e-4/2", "config.a=/data/x,,config.b=../y", "config.a=None",
    "config.a={'total': 48},,config.b=(1, 2)", "config.a=lr", "config.a='it''s'", "config.a=2+3,,config.b=1/0",
])
def test_what_s3prl_reads_means_the_same(text):
    from s3prl.utility.helper import override as of_s3prl

    ours, theirs = (Namespace(seed=1), {"optimizer": {"lr": 1}}), (Namespace(seed=1), {"optimizer": {"lr": 1}})
    override(text, *ours)
    of_s3prl(text, *theirs)
    assert ours == theirs


def test_paths_need_no_quotes_but_for_two_commas():
    options = read_overrides("config.a=result/lr=1e-4/x,,config.b=it's")
    assert [option.value for option in options] == ["result/lr=1e-4/x", "it's"]


@pytest.mark.parametrize("text, message", [
    ("config.a=/x,,y", "-o: 'y' has no value. .* in quotes a VALUE that has ,, itself"),
    ("config.a=/x,,y,,config.b=1", "-o: 'y' has no value"),
    ("total_steps=3", "-o: 'total_steps' is neither config.KEY nor args.NAME"),
    ("args.a.b=3", "-o: 'args.a.b' is neither"),
    ("config.a.b.c=3", "-o: config.a.b.c: b is a value, 1, and has no keys"),
])
def test_refused(text, message):
    with pytest.raises(UserError, match=message):
        set_options(text, Namespace(), {"a": {"b": 1}})

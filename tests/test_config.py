"""YAML to dataclasses: every mistake is one clear error."""

from dataclasses import field
from typing import Literal

import pytest

from s3prl_dd.config import (
    Count,
    Fraction,
    Positive,
    Seed,
    Share,
    Weight,
    Whole,
    build,
    config_path,
    load_config,
    merge,
    read_yaml,
    settings,
)
from s3prl_dd.errors import UserError


@settings
class Inner:
    """Inside."""

    size: Count = 1
    """Of it."""
    rate: Positive = 0.5
    """Of it."""


@settings
class Outer:
    """Outside."""

    inner: Inner = field(default_factory=Inner)
    """Inside."""
    weights: dict[str, Weight] = field(default_factory=dict)
    """Of terms."""
    betas: tuple[Fraction, Fraction] = (0.0, 0.9)
    """Of Adam."""
    name: str = "x"
    """Of it."""
    layer: int | None = None
    """Of it."""
    flag: bool = False
    """Of it."""
    choice: Literal["soft", "hard"] = "soft"
    """Of it."""


def load(tmp_path, text, *overrides):
    (tmp_path / "made.yaml").write_text(text)
    return load_config(Outer, tmp_path / "made.yaml", overrides)


def refused(tmp_path, text, *messages, overrides=()):
    with pytest.raises(UserError) as caught:
        load(tmp_path, text, *overrides)
    assert "\n" not in str(caught.value)
    assert all(message in str(caught.value) for message in messages), caught.value


def test_types(tmp_path):
    text = "{inner: {size: 3, rate: 1e-4}, weights: {a: 2, b: 1.5e3}, betas: [0, 1e-1], name: y, flag: true, layer: 3}"
    loaded = load(tmp_path, text)
    assert loaded == Outer(Inner(3, 1e-4), {"a": 2.0, "b": 1500.0}, (0.0, 0.1), "y", 3, True)
    assert all(isinstance(value, float) for value in (loaded.inner.rate, *loaded.weights.values(), *loaded.betas))
    assert load(tmp_path, "") == Outer()
    assert load(tmp_path, "layer: null").layer is None
    assert load(tmp_path, "inner: {size: 1e3}").inner.size == 1000  # as 1e-4 is read, so is 1e3


@pytest.mark.parametrize(
    "text, messages",
    [
        ("inner: {siz: 3}", ("made.yaml: unknown key 'inner.siz'", "Did you mean 'size'?")),
        ("{inner: {siz: 3}, betas: [0.1]}", ("unknown key 'inner.siz'",)),
        ("zebra: 3", ("unknown key 'zebra'", "Known keys: inner, weights")),
        ("3: 3", ("unknown key '3'",)),
        ("inner: 3", ("inner: expected", "found 3")),
        ("inner: {size: 1.5}", ("inner.size: expected a valid integer", "found 1.5")),
        ("inner: {size: true}", ("inner.size: expected a number, found true",)),
        ("inner: {size: 0}", ("inner.size: expected greater than or equal to 1, found 0",)),
        ("inner: {rate: fast}", ("inner.rate: expected a valid number", "found 'fast'")),
        ("inner: {rate: true}", ("inner.rate: expected a number, found true",)),
        ("inner: {rate: -1}", ("inner.rate: expected greater than 0, found -1",)),
        ("inner: {rate: .nan}", ("inner.rate: expected a finite number, found nan",)),
        ("inner: {rate: .inf}", ("inner.rate: expected a finite number, found inf",)),
        ("weights: {a: much}", ("weights.a: expected a valid number",)),
        ("weights: {a: -1}", ("weights.a: expected greater than or equal to 0",)),
        ("weights: [1]", ("weights: expected a valid dictionary, found [1]",)),
        ("betas: 1", ("betas: expected a valid tuple, found 1",)),
        ("betas: [0.9]", ("betas.1: missing",)),
        ("betas: [0.9, 1.0]", ("betas.1: expected less than 1, found 1.0",)),
        ("betas: [a, 0]", ("betas.0: expected a valid number",)),
        ("name: 3", ("name: expected a valid string, found 3",)),
        ("layer: deep", ("layer: expected a valid integer", "found 'deep'")),
        ("flag: 3", ("flag: expected a valid boolean", "found 3")),
        ("choice: firm", ("choice: expected 'soft' or 'hard', found 'firm'",)),
        ("- 1", ("expected a mapping of keys to values, found list",)),
        ("base: 5", ("base: expected the name of a YAML file beside it, found 5",)),
        ("a: [1", ("not valid YAML",)),
        ("{zebra: 3, rabbit: 4}", ("unknown key 'zebra'", "1 more such")),
    ],
)
def test_mistakes(tmp_path, text, messages):
    refused(tmp_path, text, "made.yaml", *messages)


@pytest.mark.parametrize(
    "kind, good, bad",
    [
        (Count, (1, 10**9), (0, -1, 1.5, True, "x", 10**13)),
        (Whole, (0, 7), (-1, False)),
        (Seed, (0, 2**61), (-1, 2**62, 10**30)),
        (Positive, (1e-9, 3), (0, -1, float("nan"), float("inf"))),
        (Weight, (0, 0.3), (-0.1, float("nan"), float("inf"))),
        (Fraction, (0, 0.999), (1, -0.1, float("nan"))),
        (Share, (0.2,), (0, 1)),
    ],
)
def test_ranges(kind, good, bad):
    @settings
    class One:
        """One number."""

        number: kind = good[0]
        """It."""

    assert [One(number=value).number for value in good] == list(good)
    for value in bad:
        with pytest.raises(UserError, match="number: expected"):
            One(number=value)


def test_a_settings_object_does_not_change():
    with pytest.raises(AttributeError):
        Outer().name = "z"
    with pytest.raises(UserError, match="unknown key 'nam'. Did you mean 'name'"):
        Outer(nam="z")


def test_not_text(tmp_path):
    (tmp_path / "made.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="made.yaml: not valid YAML"):
        read_yaml(tmp_path / "made.yaml")


def test_overrides(tmp_path):
    words = ("inner.rate=1e-3", "weights.a=2", "betas=[0, 0.5]", "layer=null", "name=a=b", "flag=true")
    assert load(tmp_path, "inner: {size: 3}", *words) == Outer(
        Inner(3, 1e-3), {"a": 2.0}, (0.0, 0.5), "a=b", None, True
    )
    assert load_config(Outer, None, ["inner.size=4"]).inner.size == 4
    refused(tmp_path, "", "override 'size'", "KEY=VALUE", overrides=["size"])
    refused(tmp_path, "", "override '=3'", "KEY=VALUE", overrides=["=3"])
    refused(tmp_path, "", "unknown key 'inner.sizes'", "'size'", overrides=["inner.sizes=3"])
    refused(tmp_path, "", "not valid YAML", overrides=["betas=[1"])
    refused(tmp_path, "inner: {size: 2}", "inner: expected", overrides=["inner=5"])


def test_base_merges_nested_keys(tmp_path):
    (tmp_path / "deep").mkdir()
    root = "inner: {size: 1, rate: 0.1}\nweights: {a: 1, b: 2}\nbetas: [0.1, 0.2]\nname: root"
    (tmp_path / "deep/root.yaml").write_text(root)
    (tmp_path / "deep/middle.yaml").write_text("base: root.yaml\nweights: {b: 3}\nbetas: [0.5, 0.6]")
    loaded = load(tmp_path, "base: deep/middle.yaml\ninner: {rate: 0.9}\nweights: {c: 4}")
    assert loaded == Outer(Inner(1, 0.9), {"a": 1.0, "b": 3.0, "c": 4.0}, (0.5, 0.6), "root")


def test_base_that_is_missing_or_itself(tmp_path):
    refused(tmp_path, "base: none.yaml", "none.yaml: cannot be read", "the base of", "made.yaml")
    (tmp_path / "other.yaml").write_text("base: made.yaml")
    refused(tmp_path, "base: other.yaml", "is its own base")


def test_merge():
    under = {"a": {"b": 1, "c": 2}, "d": 3}
    assert merge(under, {"a": {"b": 9}, "e": 5}) == {"a": {"b": 9, "c": 2}, "d": 3, "e": 5}
    assert under == {"a": {"b": 1, "c": 2}, "d": 3}
    assert merge({"a": {"b": 1}}, {"a": 7}) == {"a": 7}


def test_build_names_its_source():
    with pytest.raises(UserError, match="run.json: inner.size: expected greater"):
        build(Outer, {"inner": {"size": -1}}, "run.json")


def test_shipped_names():
    assert config_path("gan_1d").name == config_path("gan_1d.yaml").name == "gan_1d.yaml"
    with pytest.raises(UserError, match="gan_9d: no such configuration. Did you mean gan_1d"):
        config_path("gan_9d")
    with pytest.raises(UserError, match="nothing_like_it: no such configuration. Give a YAML file or one of: .*gan_1d"):
        config_path("nothing_like_it")

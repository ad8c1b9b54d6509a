"""YAML to dataclasses: every mistake is one clear error."""

from dataclasses import dataclass, field

import pytest

from s3prl_dd import cli
from s3prl_dd.config import config_path, load_config, merge, read_yaml
from s3prl_dd.distill.config import TERMS, DistillConfig
from s3prl_dd.errors import UserError


@dataclass
class Inner:
    size: int = 1
    rate: float = 0.5


@dataclass
class Outer:
    inner: Inner = field(default_factory=Inner)
    weights: dict[str, float] = field(default_factory=dict)
    betas: list[float] = field(default_factory=list)
    name: str = "x"
    layer: int | None = None
    either: int | float = 1
    flag: bool = False


def load(tmp_path, text, *overrides):
    (tmp_path / "made.yaml").write_text(text)
    return load_config(Outer, tmp_path / "made.yaml", overrides)


def refused(tmp_path, text, *messages, overrides=()):
    with pytest.raises(UserError) as caught:
        load(tmp_path, text, *overrides)
    assert all(message in str(caught.value) for message in messages), caught.value


def test_types(tmp_path):
    found = load(tmp_path, "{inner: {size: 3, rate: 1e-4}, weights: {a: 2, b: 1.5e3}, betas: [0, 1e-1], name: y, flag: true, layer: 3}")
    assert found == Outer(Inner(3, 1e-4), {"a": 2.0, "b": 1500.0}, [0.0, 0.1], "y", 3, 1, True)
    assert all(isinstance(value, float) for value in (found.inner.rate, *found.weights.values(), *found.betas))
    assert load(tmp_path, "") == Outer()
    assert load(tmp_path, "layer: null").layer is None
    assert isinstance(load(tmp_path, "either: 2").either, int) and load(tmp_path, "either: 2.5").either == 2.5


@pytest.mark.parametrize("text, messages", [
    ("inner: {siz: 3}", ("made.yaml: inner", "unknown key 'siz'", "Did you mean 'size'?")),
    ("zebra: 3", ("unknown key 'zebra' for Outer", "Known keys: inner, weights")),
    ("3: 3", ("unknown key '3'",)),
    ("inner: 3", ("inner: expected a mapping, found 3",)),
    ("inner: {size: 1.5}", ("size: expected int, found 1.5",)),
    ("inner: {size: true}", ("size: expected int, found True",)),
    ("inner: {size: '3'}", ("expected int, found '3'",)),
    ("inner: {rate: fast}", ("rate: expected float, found 'fast'",)),
    ("inner: {rate: true}", ("rate: expected float, found True",)),
    ("weights: {a: much}", ("weights.a: expected float",)),
    ("weights: [1]", ("weights: expected a dict, found [1]",)),
    ("betas: 1", ("betas: expected a list, found 1",)),
    ("betas: [a]", ("betas: expected float",)),
    ("name: 3", ("name: expected str, found 3",)),
    ("layer: deep", ("layer: expected int or NoneType, found 'deep'",)),
    ("flag: 1", ("flag: expected bool, found 1",)),
    ("- 1", ("expected a mapping of keys to values, found list",)),
    ("a: [1", ("not valid YAML",)),
])
def test_mistakes(tmp_path, text, messages):
    refused(tmp_path, text, "made.yaml", *messages)


def test_not_text(tmp_path):
    (tmp_path / "made.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="made.yaml: not valid YAML"):
        read_yaml(tmp_path / "made.yaml")


def test_overrides(tmp_path):
    found = load(tmp_path, "inner: {size: 3}", "inner.rate=1e-3", "weights.a=2", "betas=[1, 2]", "layer=null", "name=a=b", " flag = true")
    assert found == Outer(Inner(3, 1e-3), {"a": 2.0}, [1.0, 2.0], "a=b", None, 1, True)
    assert load_config(Outer, None, ["inner.size=4"]).inner.size == 4
    refused(tmp_path, "", "override 'size'", "KEY=VALUE", overrides=["size"])
    refused(tmp_path, "", "unknown key 'sizes'", "'size'", overrides=["inner.sizes=3"])
    refused(tmp_path, "", "not valid YAML", overrides=["betas=[1"])


def test_base_merges_nested_keys(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/root.yaml").write_text("inner: {size: 1, rate: 0.1}\nweights: {a: 1, b: 2}\nbetas: [1, 2]\nname: root")
    (tmp_path / "deep/middle.yaml").write_text("base: root.yaml\nweights: {b: 3}\nbetas: [5]")
    found = load(tmp_path, "base: deep/middle.yaml\ninner: {rate: 0.9}\nweights: {c: 4}")
    assert found == Outer(Inner(1, 0.9), {"a": 1.0, "b": 3.0, "c": 4.0}, [5.0], "root")


def test_base_that_is_missing_or_itself(tmp_path):
    refused(tmp_path, "base: none.yaml", "none.yaml: cannot be read", "the base of", "made.yaml")
    (tmp_path / "other.yaml").write_text("base: made.yaml")
    refused(tmp_path, "base: other.yaml", "is its own base")


def test_merge():
    under = {"a": {"b": 1, "c": 2}, "d": 3}
    assert merge(under, {"a": {"b": 9}, "e": 5}) == {"a": {"b": 9, "c": 2}, "d": 3, "e": 5}
    assert under == {"a": {"b": 1, "c": 2}, "d": 3}
    assert merge({"a": {"b": 1}}, {"a": 7}) == {"a": 7}


def test_shipped_names(tmp_path):
    assert config_path("gan_1d").name == config_path("gan_1d.yaml").name == "gan_1d.yaml"
    with pytest.raises(UserError, match="gan_9d: no such configuration.*gan_1d"):
        config_path("gan_9d")


@pytest.mark.parametrize("override, told", [
    ("lambdas.diversty=1", "unknown term 'diversty'; known: .*diversity"), ("schedule=step", "schedule must be one of constant, linear, cosine"),
    ("softmax_pairing=best", "label, assignment"), ("precision=float16", "float32, bfloat16"), ("framing=repeat", "resample, crop"),
    ("steps=0", "must be positive"), ("network.frames=6", "multiple of 4"), ("network.kernel=2", "kernel must be odd"), ("step=5", "Did you mean 'steps'")])
def test_distill_config(override, told):
    with pytest.raises(UserError, match=told):
        load_config(DistillConfig, "gan_1d", [override])


def test_weights():
    config = load_config(DistillConfig, None, ["lambdas.diversity=0.5"])
    assert config.weight("diversity") == 0.5 and config.weight("mmd") == 0 and set(TERMS) > {"diversity", "mmd"}
    assert config.needs_pool  # the teacher
    assert not load_config(DistillConfig, None, ["teacher=false"]).needs_pool
    assert load_config(DistillConfig, None, ["teacher=false", "lambdas.softmax_matching=1"]).needs_pool


def test_command_tells_the_mistake(tmp_path, capsys):
    (tmp_path / "made.yaml").write_text("netwrk: {}")
    assert cli.main(["describe", str(tmp_path / "made.yaml")]) == 2
    assert "unknown key 'netwrk' for DistillConfig. Did you mean 'network'?" in capsys.readouterr().err

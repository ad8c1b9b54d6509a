"""Configuration: a documented dataclass read from YAML. A key that nothing reads is an error."""

import dataclasses
import difflib
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from .errors import UserError

CONFIGS = Path(__file__).parent / "downstream_configs"  # in a checkout this is a link to ../downstream_configs


def config_path(name):
    """The path of a configuration: a file as it is, else `name` or `name.yaml` among the shipped ones."""
    for path in (Path(name), CONFIGS / name, CONFIGS / f"{name}.yaml"):
        if path.is_file():
            return path
    shipped = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.yaml")))
    raise UserError(f"{name}: no such configuration. Give a YAML file or one of: {shipped}.")


def read_yaml(path, above=()):
    """A YAML mapping with its `base:` files (relative to it) merged underneath, nested keys one by one."""
    path = Path(path)
    if path.resolve() in above:
        raise UserError(f"{path}: is its own base. Remove the `base:` that leads back to it.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML ({error}).") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error}). Check the path" + (f", it is the base of {above[-1]}." if above else ".")) from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a mapping of keys to values, found {type(values).__name__}.")
    base = values.pop("base", None)
    return merge(read_yaml(path.parent / base, (*above, path.resolve())), values) if base else values


def merge(under, over):
    """`over` on top of `under`; mappings are merged key by key."""
    if isinstance(under, dict) and isinstance(over, dict):
        return {**under, **{key: merge(under[key], value) if key in under else value for key, value in over.items()}}
    return over


def load_config(cls, path=None, overrides=()):
    """An instance of the dataclass `cls` from YAML `path` (see config_path) and `key.key=value` strings."""
    source = config_path(path) if path else cls.__name__
    values = read_yaml(source) if path else {}
    for item in overrides:
        key, separator, text = item.partition("=")
        if not separator:
            raise UserError(f"override {item!r}: expected KEY=VALUE, for example steps=2000.")
        try:
            nested = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"override {item!r}: {text!r} is not valid YAML ({error}).") from None
        for part in reversed(key.strip().split(".")):
            nested = {part: nested}
        values = merge(values, nested)
    return build(cls, values, source)


def build(cls, values, source):
    """Make dataclass `cls` from a mapping; unknown keys and wrong types are UserErrors naming `source`."""
    hints = get_type_hints(cls)
    unknown = sorted(str(key) for key in values if key not in hints)
    if unknown:
        close = difflib.get_close_matches(unknown[0], hints, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else f" Known keys: {', '.join(hints)}."
        raise UserError(f"{source}: unknown key {unknown[0]!r} for {cls.__name__}.{hint}")
    made = {key: _convert(hints[key], value, f"{source}: {key}") for key, value in values.items()}
    try:
        return cls(**made)
    except (TypeError, ValueError) as error:
        raise UserError(f"{source}: {error}") from None


def _convert(hint, value, where):
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise UserError(f"{where}: expected a mapping, found {value!r}.")
        return build(hint, value, where)
    if hint is Any:
        return value
    if get_origin(hint) in (list, tuple, dict):
        kind = get_origin(hint)
        if kind is dict and isinstance(value, dict):
            return {key: _convert(get_args(hint)[1], item, f"{where}.{key}") for key, item in value.items()}
        if kind is not dict and isinstance(value, (list, tuple)):
            return kind(_convert(get_args(hint)[0], item, where) for item in value)
        raise UserError(f"{where}: expected a {kind.__name__}, found {value!r}.")
    kinds = get_args(hint) or (hint,)  # a union, else the type itself
    if float in kinds and not isinstance(value, bool):
        if isinstance(value, (int, str)):  # YAML reads 1e-4 as text
            try:
                return value if isinstance(value, int) and int in kinds else float(value)
            except ValueError:
                pass
    if isinstance(value, bool) and bool not in kinds or not isinstance(value, kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise UserError(f"{where}: expected {names}, found {value!r}.")
    return value

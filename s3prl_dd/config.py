"""Configuration: documented dataclasses whose types carry their ranges, read from YAML and from `key=value` words.

    @settings
    class Example:
        '''What it is.'''

        steps: Count = 100
        '''Generator steps.'''

    load_config(Example, "example.yaml", ["steps=1e3"])

pydantic checks types and ranges, OmegaConf reads and merges YAML, tyro (cli.py) reads flags and turns the docstrings
into help. A key that nothing reads, a wrong type and a number out of its range are one-line UserErrors.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, dataclass_transform, get_args

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated_dataclass

from .errors import UserError, did_you_mean, one_line

CONFIGS = Path(__file__).parent / "downstream_configs"  # in a checkout this is a link to ../downstream_configs

T = TypeVar("T")


# types with their ranges


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"expected a number, found {str(value).lower()}")
    return value


Number = BeforeValidator(_no_bool)
"""Marks a number for which true and false do not pass (Python counts them as 1 and 0)."""

Count = Annotated[int, Field(ge=1, le=10**12), Number]
"""A whole number from 1 up."""

Whole = Annotated[int, Field(ge=0, le=10**12), Number]
"""A whole number from 0 up."""

Seed = Annotated[int, Field(ge=0, lt=2**62), Number]
"""A seed: a whole number from 0 to 2^62 - 1."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), Number]
"""A finite number above 0: learning rates, bounds."""

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False), Number]
"""A finite number from 0 up: weights of losses, gigabytes."""

Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False), Number]
"""A number from 0 up to, but not, 1: decays of averages."""

Share = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False), Number]
"""A number between 0 and 1, neither included."""


# dataclasses


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, Field))
def settings(cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass that checks types and ranges; the string below a field is its documentation.

    Unknown keys are refused. Constructing it with bad values raises a UserError of one line.
    """
    config = ConfigDict(extra="forbid", use_attribute_docstrings=True, arbitrary_types_allowed=True)
    made = validated_dataclass(cls, frozen=True, config=config)
    check = made.__init__

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            check(self, *args, **kwargs)
        except ValidationError as error:
            raise UserError(explain(error, made)) from None

    made.__init__ = __init__  # type: ignore[method-assign]
    return cast(type[T], made)


def build(cls: type[T], values: Mapping[str, Any], source: str | Path) -> T:
    """An instance of the dataclass `cls` from a mapping; a UserError names `source`, the key and what was expected."""
    if not isinstance(values, Mapping):
        raise UserError(f"{source}: expected an object of keys and values, found {values!r:.60}. Mend or delete it.")
    try:
        return TypeAdapter(cls).validate_python(dict(values))
    except ValidationError as error:
        raise UserError(f"{source}: {explain(error, cls)}") from None


def explain(error: ValidationError, cls: type) -> str:
    """The first complaint in one line, with what comes close to an unknown key, and how many more there are."""
    complaints = error.errors(include_url=False)
    first = min(complaints, key=lambda item: item["type"] not in UNKNOWN)  # a misspelt key explains a missing one
    where = ".".join(str(part) for part in first["loc"] if not _is_type(part))
    if first["type"] in UNKNOWN:
        name = str(first["loc"][-1])
        known = _known_keys(cls, first["loc"][:-1])
        hint = did_you_mean(name, known, f"Known keys: {', '.join(known)}.", repr)
        text = f"unknown key {where!r}.{hint}"
    else:
        said = _complaint(first)
        text = f"{where}: {said}" if where else said
    same = {str(item["loc"]) for item in complaints if item["loc"][:1] != first["loc"][:1]}
    return text + (f" ({len(same)} more such)" if same else "")


def _complaint(complaint: Any) -> str:
    """One of pydantic's complaints in our words."""
    said = complaint["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if complaint["type"] == "value_error":
        return said
    if complaint["type"] == "missing":
        return "missing"
    if complaint["type"] == "too_short":
        return f"expected {complaint['ctx']['min_length']} value(s) or more, found {complaint['ctx']['actual_length']}"
    return f"expected {said}, found {complaint['input']!r}"


UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")


def _is_type(part: object) -> bool:
    """Whether a part of pydantic's location names an alternative of a union, not a key."""
    return isinstance(part, str) and (part in {"int", "float", "str", "bool"} or "[" in part or "constrained" in part)


def _known_keys(cls: Any, path: Iterable[int | str]) -> list[str]:
    """Field names of the dataclass that stands at `path` inside `cls`."""
    for key in path:
        hints = {item.name: item.type for item in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else {}
        inner = hints.get(str(key))
        alternatives = [inner, *get_args(inner)]
        cls = next((kind for kind in alternatives if dataclasses.is_dataclass(kind)), cls)
    return [item.name for item in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []


# YAML


def config_path(name: str | Path) -> Path:
    """The path of a configuration: a file as it is, else `name` or `name.yaml` among the shipped ones."""
    for path in (Path(name), CONFIGS / name, CONFIGS / f"{name}.yaml"):
        if path.is_file():
            return path
    shipped = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
    hint = did_you_mean(str(name), shipped, f"Give a YAML file or one of: {', '.join(shipped)}.")
    raise UserError(f"{name}: no such configuration.{hint}")


def read_yaml(path: str | Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A YAML mapping with its `base:` file (relative to it) merged underneath, nested keys one by one."""
    path = Path(path)
    if path.resolve() in above:
        raise UserError(f"{path}: is its own base. Remove the `base:` that leads back to it.")
    try:
        text = path.read_text(encoding="utf-8")
        values = OmegaConf.to_container(OmegaConf.create(text or "{}"), resolve=False)
    except (yaml.YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise UserError(f"{path}: not valid YAML ({one_line(error)}).") from None
    except OSError as error:
        hint = f", it is the base of {above[-1]}" if above else ""
        raise UserError(f"{path}: cannot be read ({error}). Check the path{hint}.") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a mapping of keys to values, found {type(values).__name__}.")
    named = {str(key): value for key, value in values.items()}
    base = named.pop("base", None)
    if base is None:
        return named
    if not isinstance(base, str):
        raise UserError(f"{path}: base: expected the name of a YAML file beside it, found {base!r}.")
    return merge(read_yaml(path.parent / base, (*above, path.resolve())), named)


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `under`; mappings are merged key by key, all else is replaced."""
    merged = OmegaConf.to_container(OmegaConf.merge(dict(under), dict(over)), resolve=False)
    assert isinstance(merged, dict)
    return {str(key): value for key, value in merged.items()}


def load_config(cls: type[T], path: str | Path | None = None, overrides: Iterable[str] = ()) -> T:
    """An instance of the dataclass `cls` from YAML `path` (see config_path) and `key.key=value` words."""
    source = config_path(path) if path else cls.__name__
    values = read_yaml(source) if path else {}
    for word in overrides:
        key, separator, _ = word.partition("=")
        if not separator or not key.strip():
            raise UserError(f"override {word!r}: expected KEY=VALUE, for example steps=2000.")
        try:
            changed = OmegaConf.to_container(OmegaConf.from_dotlist([word.strip()]), resolve=False)
        except (yaml.YAMLError, OmegaConfBaseException) as error:
            raise UserError(f"override {word!r}: not valid YAML ({one_line(error)}).") from None
        assert isinstance(changed, dict)
        values = merge(values, {str(name): value for name, value in changed.items()})
    return build(cls, values, source)

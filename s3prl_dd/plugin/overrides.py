"""S3PRL's -o, `key=value,,key=value`, read so that it can name any path: a value may stand in quotes.

S3PRL splits at every `,,` and `=`, also those inside of a value; what it can read means the same here.
"""

import ast
import operator
import sys
from argparse import Namespace
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import UserError

BETWEEN = ",,"


class Option(NamedTuple):
    """One `key=value`: the names of its key, and what it sets."""

    keys: list[str]
    value: Any


def write_overrides(values: Mapping[str, Any]) -> str:
    """Key -> value as the text of -o; read_overrides gives the same values back."""
    return BETWEEN.join(f"{key}={value!r}" for key, value in values.items())


def read_overrides(text: str) -> list[Option]:
    """The options of -o. UserError for one that has no `=`, or no place: keys are config.BLOCK... and args.NAME."""
    options = []
    rest = text
    while rest.strip():
        key, equals, rest = rest.partition("=")
        keys = key.strip().split(".")
        if not equals or BETWEEN in key:
            raise UserError(f"-o: {key.split(BETWEEN)[0].strip()!r} has no value. Give config.KEY=VALUE, more of them "
                            "after ,, and in quotes a VALUE that has ,, itself.")
        if not (keys[0] == "config" and len(keys) > 1 or keys[0] == "args" and len(keys) == 2):
            raise UserError(f"-o: {key.strip()!r} is neither config.KEY nor args.NAME.")
        value, rest = _take_value(rest)
        options.append(Option(keys, value))
    return options


def override(text: str, args: Namespace, config: dict[str, Any]) -> None:
    """As set_options, and tells them: stands for S3PRL's function of this name."""
    for option in read_overrides(text):
        print(f"[Override] - {'.'.join(option.keys)} = {option.value}", file=sys.stderr)
    set_options(text, args, config)


def set_options(text: str, args: Namespace, config: dict[str, Any]) -> None:
    """Set the options of -o in S3PRL's arguments and configuration."""
    for keys, value in read_overrides(text):
        if keys[0] == "args":
            setattr(args, keys[1], value)
            continue
        block: Any = config
        for name in keys[1:-1]:
            block = block.setdefault(name, {})
            if not isinstance(block, dict):
                raise UserError(f"-o: {'.'.join(keys)}: {name} is a value, {block!r}, and has no keys.")
        block[keys[-1]] = value


def _take_value(text: str) -> tuple[Any, str]:
    """The value that a text begins with, and what comes after its `,,`."""
    parts = text.split(BETWEEN)
    if text.lstrip()[:1] in ("'", '"', "[", "(", "{"):
        for count in range(1, len(parts) + 1):
            literal = BETWEEN.join(parts[:count]).strip()
            if _is_literal(literal):
                return ast.literal_eval(literal), BETWEEN.join(parts[count:])
    return _plain_value(parts[0].strip()), BETWEEN.join(parts[1:])


def _is_literal(text: str) -> bool:
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False
    return True


def _plain_value(text: str) -> Any:
    """A number, a truth value, None, or a calculation; else the text itself, as S3PRL takes it."""
    if _is_literal(text):
        return ast.literal_eval(text)
    try:
        return _calculate(ast.parse(text, mode="eval").body)
    except (ValueError, SyntaxError, ArithmeticError, MemoryError, RecursionError):
        return text


def _calculate(node: ast.expr) -> float:
    """The value of + - * and / between numbers; ValueError for anything else."""
    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_calculate(operand)
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in OPERATORS:
            return OPERATORS[type(sign)](_calculate(left), _calculate(right))
    raise ValueError("not a number")


OPERATORS: Mapping[type, Any] = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
                                 ast.Div: operator.truediv}

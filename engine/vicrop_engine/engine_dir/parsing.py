"""JSON documents to frozen dataclasses and back: types are checked, unknown keys refused."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from vicrop_engine.errors import ConfigError, nearest

_T = TypeVar("_T")


def parse(kind: type[_T], data: object, where: str) -> _T:
    """Make the frozen dataclass `kind` from decoded JSON; `where` names the document in errors.

    Raises ConfigError on unknown keys (with the nearest known one), missing keys and values of another type.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: got {type(data).__name__}, wanted an object with named keys")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            raise ConfigError(f"{where}: unknown key {key!r}{nearest(str(key), fields)}")
    hints = get_type_hints(kind)
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _value(hints[name], data[name], f"{where}: key {name!r}")
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{where}: key {name!r} is missing")
    return kind(**values)


def to_json(record: object) -> dict[str, Any]:
    """The record as plain JSON types (tuples become lists), the inverse of `parse`."""
    return {key: _plain(value) for key, value in dataclasses.asdict(record).items()}  # type: ignore[call-overload]


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _value(hint: Any, value: Any, where: str) -> Any:
    origin = get_origin(hint)
    if hint is Any:
        return value
    if origin is tuple:
        return _tuple(get_args(hint), value, where)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: got {type(value).__name__}, wanted an object")
        return {key: _value(get_args(hint)[1], item, f"{where}, {key!r}") for key, item in value.items()}
    if origin is Literal:
        if value not in get_args(hint):
            raise ConfigError(f"{where}: got {value!r}, wanted one of {', '.join(map(repr, get_args(hint)))}")
        return value
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return _value(next(arg for arg in get_args(hint) if arg is not type(None)), value, where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return parse(hint, value, where)
    return _scalar(hint, value, where)


def _tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{where}: got {type(value).__name__}, wanted a list")
    if args[-1] is not Ellipsis and len(value) != len(args):
        raise ConfigError(f"{where}: got {len(value)} values, wanted {len(args)}")
    return tuple(_value(args[0], item, where) for item in value)


def _scalar(hint: type, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise ConfigError(f"{where}: got {value!r}, wanted {hint.__name__}")
    return value

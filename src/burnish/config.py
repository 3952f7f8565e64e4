"""Configuration: frozen dataclasses, changed by ``key.path=value`` and by YAML files, checked against annotations.

A nested mapping changes the fields it names. Where an annotation allows several classes (a union of dataclasses, or an
abstract class and its dataclass subclasses), the reserved key ``kind`` in a mapping picks one by its name; :func:`plain`
writes it, so what it gives can be read back. The bare class name stands for the class with its defaults. A field whose type
has a table of named values (:mod:`burnish.names`) also takes a name.
"""

from __future__ import annotations

import difflib
import inspect
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from burnish.errors import InputError, near
from burnish.names import NAMED

C = TypeVar("C")
KIND = "kind"


def apply(config: C, overrides: Sequence[str]) -> C:
    """The configuration with ``key.path=value`` overrides, the last one winning. Values are YAML.

    Raises InputError for an unknown key (with the nearest one), a value of the wrong type, and whatever the
    configuration's own checks refuse. Overrides are applied together, so checks see only the final values.
    """
    assignments = []
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not all(key.split(".")):
            raise InputError(f"'{override}' is not an override: write key.path=value, for example seed=1.")
        assignments.append(_Assignment(tuple(key.split(".")), _parse(text), text))
    return _apply(config, assignments)


def from_yaml(config: C, path: str | Path) -> C:
    """The configuration with the nested mapping in a YAML (or JSON) file applied to it. Raises InputError."""
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise InputError(f"cannot read the configuration {path}: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {error}") from error
    if content is None:
        return config
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}: a configuration is a mapping of keys to values.")
    return _apply(config, _entries(content))


def plain(config: Any, key: str = "config") -> Any:
    """The same configuration as JSON-able values, for the record.

    A dataclass becomes ``{"kind": class name, ...fields}``, a module-level function or class "module:name", an enum its
    value, a non-finite float its name. Raises InputError naming the key of a value that has no such form.
    """
    if is_dataclass(config) and not isinstance(config, type):
        values = {f.name: plain(getattr(config, f.name), f"{key}.{f.name}") for f in fields(config)}
        if KIND in values:
            raise InputError(
                f"{type(config).__name__} has a field '{KIND}': rename it, records keep the name for the class"
            )
        return {KIND: type(config).__name__, **values}
    if isinstance(config, Mapping):
        return {str(name): plain(value, f"{key}.{name}") for name, value in config.items()}
    if isinstance(config, list | tuple):
        return [plain(value, f"{key}[{i}]") for i, value in enumerate(config)]
    return _plain_leaf(config, key)


def _plain_leaf(config: Any, key: str) -> Any:
    if isinstance(config, Enum):
        return plain(config.value, key)
    if isinstance(config, float) and not math.isfinite(config):
        return str(config)
    if config is None or isinstance(config, bool | int | float | str):
        return config
    if isinstance(config, Path | torch.dtype):
        return str(config)
    if (inspect.isfunction(config) or isinstance(config, type)) and "<" not in config.__qualname__:
        return f"{config.__module__}:{config.__qualname__}"
    raise InputError(
        f"{key} is a {type(config).__name__} ({config!r}), which cannot be recorded: "
        "use plain values, frozen dataclasses or module-level functions."
    )


def describe(config: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """(dotted key, plain value) of every setting, in order; a nested dataclass is named first, then its fields."""
    rows: list[tuple[str, Any]] = []
    for f in fields(config):
        value, key = getattr(config, f.name), f"{prefix}{f.name}"
        if is_dataclass(value) and not isinstance(value, type):
            rows += [(key, type(value).__name__), *describe(value, f"{key}.")]
        else:
            rows.append((key, plain(value, key)))
    return rows


def schema(type_: Any) -> dict[str, Any]:
    """The JSON schema of what :func:`from_yaml` accepts for a dataclass or an annotation."""
    shared: dict[str, Any] = {}
    found = _schema(type_, shared)
    return {**found, "$defs": shared} if shared else found


def _schema(type_: Any, shared: dict[str, Any]) -> dict[str, Any]:
    """The schema; that of an abstract class is put into ``shared`` once, because its subclasses may hold one another."""
    choices: list[dict[str, Any]] = []
    for member in _members(type_):
        if member in list(NAMED):
            choices += _names_schema(member, shared)
        if is_dataclass(member):
            choices.append(_object_schema(member, shared))
        elif family := _subclasses(member):
            if member.__name__ not in shared:
                shared[member.__name__] = {}
                bare = [name for name, cls in family.items() if all(map(_has_default, _settable(cls).values()))]
                objects = [_object_schema(cls, shared) for cls in family.values()]
                shared[member.__name__] = {"anyOf": [{"enum": bare}, *objects]}
            choices.append({"$ref": f"#/$defs/{member.__name__}"})
        elif item := _item(member):
            container, each = get_origin(member), _schema(item, shared)
            many = {"type": "object", "additionalProperties": each}
            choices.append(many if issubclass(container, Mapping) else {"type": "array", "items": each})
        elif member is NoneType:
            choices.append({"type": "null"})
        elif member not in list(NAMED):
            choices.append(_adapter([member]).json_schema(schema_generator=_JsonSchema))
    return choices[0] if len(choices) == 1 else {"anyOf": choices}


class _JsonSchema(GenerateJsonSchema):
    """The generator, with a note in place of what JSON cannot express (functions, protocols)."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:  # noqa: ARG002
        return {"description": f"set in Python ({error_info})"}


def _names_schema(member: Any, shared: dict[str, Any]) -> list[dict[str, Any]]:
    names = NAMED[member]
    if not names.all:
        return [{"type": "string", "description": f"{_called(member)}, by name"}]
    recorded = [plain(value) for value in map(names.lookup, names.all) if not is_dataclass(value)]
    return [{"enum": [*names.all, *recorded]}, *(_object_schema(cls, shared) for cls in names.classes)]


def _object_schema(cls: Any, shared: dict[str, Any]) -> dict[str, Any]:
    hints, settable = get_type_hints(cls, include_extras=True), _settable(cls)
    return {
        "type": "object",
        "properties": {KIND: {"const": _called(cls)}} | {name: _schema(hints[name], shared) for name in settable},
        "required": [name for name, f in settable.items() if not _has_default(f)],
        "additionalProperties": False,
    }


# --- reading what was given --------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML in which ``1e-4`` is a number, as in YAML 1.2 and everywhere else."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


class _Assignment(NamedTuple):
    """One value for the key at ``path``; ``text`` is how it was typed, where it was typed."""

    path: tuple[str, ...]
    value: Any
    text: str | None = None


class _UnknownKeyError(InputError):
    def __init__(self, key: str, level: Sequence[str]) -> None:
        super().__init__(key)
        self.key, self.level = key, level


def _parse(text: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError:
        return text  # "[draft" is a fine string; whether it fits is decided by the annotation


def _entries(content: Mapping[Any, Any]) -> list[_Assignment]:
    return [_Assignment((str(name),), value) for name, value in content.items()]


def _apply(config: C, assignments: Sequence[_Assignment]) -> C:
    try:
        rest = [a for a in assignments if not (a.path == (KIND,) and a.value == type(config).__name__)]
        rebuilt: C = _rebuild(type(config), config, rest, "")
        return rebuilt
    except _UnknownKeyError as error:
        raise _suggest(error, [key for key, _ in describe(config)]) from None


def _suggest(error: _UnknownKeyError, known: Sequence[str]) -> InputError:
    """The unknown key with up to three near ones: the same last word elsewhere, else a similar spelling, here first."""
    last = {key: key.rpartition(".")[2] for key in known}
    group, _, word = error.key.rpartition(".")
    near = [key for key in known if last[key] == word]
    near = near or [f"{group}.{here}" for here in difflib.get_close_matches(word, error.level, n=1) if group]
    near = near or difflib.get_close_matches(error.key, known, n=1)
    if not near:
        alike = difflib.get_close_matches(word, last.values(), n=1)
        near = [key for key in known if last[key] in alike]
    hint = f" Did you mean {' or '.join(repr(key) for key in near[:3])}?" if near else ""
    where = f"Keys of '{group}'" if group else "Known"
    return InputError(f"unknown key '{error.key}'.{hint} {where}: {', '.join(error.level) or 'none'}.")


# --- building what was asked for -----------------------------------------------------------------


def _settable(cls: Any) -> dict[str, Field[Any]]:
    return {f.name: f for f in fields(cls) if f.init}


def _has_default(f: Field[Any]) -> bool:
    return f.default is not MISSING or f.default_factory is not MISSING


def _default(f: Field[Any]) -> Any:
    if f.default_factory is not MISSING:
        return f.default_factory()
    return None if f.default is MISSING else f.default


def _rebuild(cls: Any, base: Any, assignments: Sequence[_Assignment], prefix: str) -> Any:
    """``base`` with the assignments, or a new ``cls`` where ``base`` is None."""
    settable = _settable(cls)
    hints = get_type_hints(cls, include_extras=True)
    grouped: dict[str, list[_Assignment]] = {}
    for assignment in assignments:
        name = assignment.path[0]
        if name not in settable:
            raise _UnknownKeyError(prefix + name, list(settable))
        grouped.setdefault(name, []).append(assignment._replace(path=assignment.path[1:]))
    before = {n: _default(f) if base is None else getattr(base, n) for n, f in settable.items()}
    changes = {n: _changed(hints[n], before[n], group, prefix + n) for n, group in grouped.items()}
    if base is None and (missing := [n for n, f in settable.items() if not _has_default(f) and n not in changes]):
        raise InputError(f"{prefix}{missing[0]} is missing: {cls.__name__} needs {', '.join(missing)}.")
    try:
        return cls(**changes) if base is None else replace(base, **changes)
    except ValueError as error:
        keys = ", ".join(prefix + name for name in changes) or prefix.rstrip(".")
        raise InputError(f"{keys}: {error}") from error


def _changed(annotation: Any, value: Any, group: Sequence[_Assignment], key: str) -> Any:
    """The value of one field after its assignments, in order: whole values replace, parts wait and are set together."""
    parts: list[_Assignment] = []
    for assignment in group:
        if assignment.path:
            parts.append(assignment)
        elif _continues(value, assignment.value):
            parts += [part for part in _entries(assignment.value) if part.path != (KIND,)]
        else:
            value, parts = _convert(annotation, assignment, key), []
    if not parts:
        return value
    if is_dataclass(value):
        return _rebuild(type(value), value, parts, f"{key}.")
    classes = _classes(annotation)
    if value is not None or len(classes) != 1:
        by_name = any(member in list(NAMED) for member in _members(annotation))
        choice = " by its name" if by_name else f" to one of {', '.join(classes)}" if value is None and classes else ""
        raise InputError(
            f"{key}.{parts[0].path[0]} cannot be set: {key} is {plain(value, key)!r}; set {key} first{choice}."
        )
    return _rebuild(next(iter(classes.values())), None, parts, f"{key}.")


def _continues(value: Any, given: Any) -> bool:
    """Whether a mapping names fields of the dataclass that is there, rather than a new value."""
    name = type(value).__name__
    return isinstance(given, Mapping) and is_dataclass(value) and given.get(KIND, name) == name


def _convert(annotation: Any, given: _Assignment, key: str) -> Any:
    """A value of the annotated type. Raises InputError naming key, value and expected type."""
    members, value = _members(annotation), given.value
    classes, leaves = _classes(annotation), [m for m in members if not is_dataclass(m) and not _subclasses(m)]
    if isinstance(value, str) and value.lower() == "none" and leaves == [NoneType]:
        return None  # as it is printed; YAML itself says null
    if isinstance(value, str) and (tables := [NAMED[i] for i in NAMED if i in members]):
        try:
            return tables[0].lookup(value)
        except InputError as error:
            raise InputError(f"{key}: {error}") from error
    if isinstance(value, str) and value in classes:
        return _rebuild(classes[value], None, [], f"{key}.")
    if isinstance(value, Mapping) and classes:
        kind = value.get(KIND, next(iter(classes)) if len(classes) == 1 else None)
        if kind not in classes:
            hint = near(str(kind), classes)
            raise InputError(f"{key}.{KIND} must be one of {', '.join(classes)}, not {kind!r}.{hint}")
        return _rebuild(classes[kind], None, [e for e in _entries(value) if e.path != (KIND,)], f"{key}.")
    for member in members:
        if (item := _item(member)) and isinstance(value, Mapping if issubclass(get_origin(member), Mapping) else list):
            return _convert_items(get_origin(member), item, value, key)
    return _validate(leaves, annotation, given, key)


def _convert_items(container: Any, item: Any, values: list[Any] | Mapping[Any, Any], key: str) -> Any:
    if isinstance(values, Mapping):
        return {str(n): _convert(item, _Assignment((), v), f"{key}.{n}") for n, v in values.items()}
    converted = [_convert(item, _Assignment((), v), f"{key}[{i}]") for i, v in enumerate(values)]
    return converted if container is list else tuple(converted)


def _validate(leaves: Sequence[Any], annotation: Any, given: _Assignment, key: str) -> Any:
    problem = ""
    # What was typed is tried as it reads, then as text: "2024" is also a fine name.
    for value in [given.value, *([given.text] if given.text is not None and given.value is not None else [])]:
        try:
            result = _adapter(leaves).validate_python(value) if leaves else MISSING
            if isinstance(result, float) and math.isnan(result):
                raise InputError(f"{key} is not a number: give one")  # no comparison would refuse it
            if leaves and (isinstance(result, bool) or not isinstance(value, bool)):
                return result
        except ValidationError as error:
            problem = problem or f" ({error.errors()[0]['msg']})" * (error.error_count() == 1)
    shown, names = given.value if given.text is None else given.text, _choices(annotation)
    choice, problem = f" ({', '.join(names)})" if names else "", "" if names or _classes(annotation) else problem
    hint = near(given.value, names or _classes(annotation)) if isinstance(given.value, str) else ""
    got = type(given.value).__name__
    raise InputError(f"{key}={shown!s}: expected {_called(annotation)}{choice}, got {got}{problem}.{hint}")


# --- annotations -------------------------------------------------------------------------------


def _members(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the one annotation."""
    if get_origin(annotation) in (Union, UnionType):
        return tuple(member for part in get_args(annotation) for member in _members(part))
    return (annotation,)


def _subclasses(member: Any) -> dict[str, Any]:
    """The dataclasses below an abstract class, by name, in the order they were defined; none for anything else."""
    pending: list[type] = [member] if isinstance(member, type) and inspect.isabstract(member) else []
    found: dict[str, Any] = {}
    while pending:
        below: list[type] = pending.pop(0).__subclasses__()
        found |= {cls.__name__: cls for cls in below if is_dataclass(cls)}
        pending += below
    return found


def _classes(annotation: Any) -> dict[str, Any]:
    """The dataclasses that ``kind`` chooses from, by name."""
    found: dict[str, Any] = {}
    for member in _members(annotation):
        own: list[Any] = [member] if is_dataclass(member) else []
        own += NAMED[member].classes if member in list(NAMED) else ()
        found |= {_called(cls): cls for cls in own} | _subclasses(member)
    return found


def _choices(annotation: Any) -> list[str]:
    """All names that stand for a value, where the annotation itself does not tell them."""
    members = _members(annotation)
    names = [name for member in members if member in list(NAMED) for name in NAMED[member].all]
    return names or [name for member in members for name in _subclasses(member)]


def _item(annotation: Any) -> Any:
    """The item annotation of a list, a tuple of any length or a mapping, where items are dataclasses or have names."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if not isinstance(origin, type) or not issubclass(origin, Sequence | Mapping):
        return None
    if origin is tuple and (len(arguments) != 2 or arguments[1] is not Ellipsis):
        return None
    item = arguments[1] if issubclass(origin, Mapping) else arguments[0]
    return item if _classes(item) or any(member in list(NAMED) for member in _members(item)) else None


def _adapter(leaves: Sequence[Any]) -> TypeAdapter[Any]:
    alternatives: Any = Union[tuple(leaves)]  # noqa: UP007 (built from a sequence)
    return TypeAdapter(alternatives, config=ConfigDict(arbitrary_types_allowed=True))


def _called(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else re.sub(r"(?:\w+\.)+(?=\w)", "", str(annotation))

"""Structured output: is the answer one JSON value that a schema accepts?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

from burnish.errors import InputError
from burnish.rewards import strict_json
from burnish.rewards.accuracy import final_part
from burnish.rewards.base import Composable, per_completion
from burnish.types import Completion, Example, Reward, outcome


@dataclass(frozen=True)
class JsonSchema(Composable):
    """1 where the answer is one JSON value that validates, else 0; part "schema".

    ``schema`` is the text of a JSON Schema, or empty: the example's column "schema", text or object. It is read as draft
    2020-12 unless its ``$schema`` names another one. ``format`` is not checked, as the standard has it, and no reference is
    ever fetched. The answer (see :func:`~burnish.rewards.accuracy.final_part`) is the value and nothing else; one block of
    code around all of it may stay. What :mod:`burnish.rewards.strict_json` refuses is worth 0, and so is a reply cut off at
    its limit. Raises InputError for an invalid schema, for one that refers to another document, and without the package
    jsonschema (extra ``rewards``).
    """

    unbounded: ClassVar[bool] = True  # a schema may hold any pattern

    schema: str = ""

    def check(self, example: Example) -> None:
        """Raise InputError for a schema that cannot be used."""
        _validator(self._text(example))

    @per_completion
    def __call__(self, example: Example, completion: Completion) -> Reward:
        validates = _validator(self._text(example))
        body = final_part(completion.text)
        if completion.cut or body is None:
            return outcome(0, "schema")
        try:
            value = strict_json.loads(strict_json.unfenced(body))
        except ValueError:
            return outcome(0, "schema")
        return outcome(validates(value), "schema")

    def _text(self, example: Example) -> str:
        schema = self.schema or example.meta.get("schema")
        if schema is None or schema == "":
            raise InputError(
                "no schema to validate against: give every row a column 'schema', or the reward its own, schema(schema='{...}')"
            )
        return schema if isinstance(schema, str) else json.dumps(schema, sort_keys=True)


@dataclass(frozen=True)
class _Validates:
    """A schema that was checked, as a predicate."""

    validator: Any

    def __call__(self, value: Any) -> bool:
        from referencing.exceptions import Unresolvable

        try:
            return bool(self.validator.is_valid(value))
        except Unresolvable as error:
            raise InputError(
                f"the schema refers to {error.ref!r}, which it does not contain; put it under '$defs', nothing is fetched"
            ) from error


@lru_cache(maxsize=256)
def _validator(text: str) -> _Validates:
    try:
        import jsonschema
        import referencing
    except ImportError as error:
        raise InputError("JSON schemas need the package jsonschema: pip install 'burnish[rewards]'") from error
    try:
        schema = json.loads(text)
    except ValueError as error:
        raise InputError(f"the schema is no JSON: {error}; mend its text") from error
    if not isinstance(schema, dict):
        raise InputError(f"a JSON schema is an object, not {text[:80]!r}; mend its text")
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise InputError(f"the JSON schema is invalid at {error.json_path}: {error.message}") from error
    _require_own_references(schema)
    return _Validates(kind(schema, registry=referencing.Registry()))


def _require_own_references(schema: Any) -> None:
    """Every ``$ref`` has to stay in the document: begin with "#", or name a part that has an ``$id``."""
    nodes, found, known = [schema], [], set()
    while nodes:
        node = nodes.pop()
        nodes.extend(node.values() if isinstance(node, dict) else node if isinstance(node, list) else ())
        if isinstance(node, dict):
            found += [node[key] for key in ("$ref", "$dynamicRef") if isinstance(node.get(key), str)]
            known.add(node.get("$id") if isinstance(node.get("$id"), str) else "")
    for reference in found:
        if not reference.startswith("#") and reference.partition("#")[0] not in known:
            raise InputError(
                f"the schema refers to {reference!r}, which is not in it; put it under '$defs', nothing is fetched"
            )

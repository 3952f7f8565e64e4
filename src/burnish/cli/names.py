"""What there is to run and to explain, read from the sources: `burnish list` must not wait for torch to load."""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path

import burnish
from burnish.loops.curate import catalog as curation_catalog
from burnish.recipes import catalog
from burnish.rewards import catalog as rewards_catalog

_PACKAGE = Path(burnish.__file__).parent


def recipes() -> dict[str, str]:
    """``{name: title}``."""
    return catalog.titles()


def algorithms() -> dict[str, str]:
    """``{name: title}`` of the constants in :mod:`burnish.core.algorithms`: the first line of the string below each."""
    return _constants("core/algorithms.py")


def online() -> dict[str, str]:
    """``{name: title}`` of the constants in :mod:`burnish.core.online`."""
    return _constants("core/online.py")


def preference() -> dict[str, str]:
    """``{name: title}`` of the constants in :mod:`burnish.core.preference`."""
    return _constants("core/preference.py")


def reward_models() -> dict[str, str]:
    """``{name: title}`` of the constants in :mod:`burnish.core.reward_models`."""
    return _constants("core/reward_models.py")


def tasks() -> dict[str, str]:
    """``{name: title}``: :data:`burnish.tasks.catalog.TITLES`."""
    found: dict[str, str] = ast.literal_eval(_table("tasks/catalog.py", "TITLES"))
    return found


def environments() -> dict[str, str]:
    """``{name: title}`` of :data:`burnish.tasks.catalog.ENVS`: the first line of the module that each is imported from."""
    return {name: _title(module) for name, module in _imported("tasks/catalog.py", "ENVS").items()}


def orders() -> dict[str, str]:
    """``{name: title}`` of the orders in :mod:`burnish.core.orders`: the first sentence of each docstring."""
    classes = (each for each in _statements("core/orders.py") if isinstance(each, ast.ClassDef))
    found = (each for each in classes if any(isinstance(base, ast.Name) and base.id == "Order" for base in each.bases))
    prose = {each.name: " ".join((ast.get_docstring(each) or "").replace("``", "").split()) for each in found}
    return {name: text.partition(". ")[0].rstrip(".") for name, text in prose.items()}


def curation() -> dict[str, str]:
    """``{name: title}`` of the functions of `burnish curate`."""
    return curation_catalog.titles()


def rewards() -> dict[str, str]:
    """``{name: title}``."""
    return rewards_catalog.titles()


def judges() -> dict[str, str]:
    """``{name: title}`` of the rewards that ask a model."""
    return rewards_catalog.judges()


def models() -> list[str]:
    """The aliases in :data:`burnish.engines.pretrained.ALIASES`."""
    return _keys("engines/pretrained.py", "ALIASES")


def _constants(module: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for here, below in pairwise(_statements(module)):
        match here, below:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(note))) if (
                name.isupper()
            ):
                found[name.lower()] = note.partition("\n")[0]
    return found


def _keys(module: str, table: str) -> list[str]:
    return [str(key.value) for key in _table(module, table).keys if isinstance(key, ast.Constant)]


def _imported(module: str, table: str) -> dict[str, str]:
    """``{key: dotted module}`` of a table whose values are imported names."""
    imports = (statement for statement in _statements(module) if isinstance(statement, ast.ImportFrom))
    home = {alias.name: str(statement.module) for statement in imports for alias in statement.names}
    values = [value.id for value in _table(module, table).values if isinstance(value, ast.Name)]
    return {key: home[value] for key, value in zip(_keys(module, table), values, strict=True)}


def _table(module: str, table: str) -> ast.Dict:
    for statement in _statements(module):
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.Dict() as found) if name == table:
                return found
    raise LookupError(f"{module} has no table {table}")


def _title(module: str) -> str:
    """The first line of a module's docstring."""
    path = _PACKAGE.parent / f"{module.replace('.', '/')}.py"
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def _statements(module: str) -> list[ast.stmt]:
    return ast.parse((_PACKAGE / module).read_text(encoding="utf-8")).body

"""Measures of one model, or of two on the same items, as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from burnish.core.intervals import Series, change, estimate

BEHAVIOUR = {
    "length/mean": "length, tokens",
    "length/right": "length of right replies",
    "length/wrong": "length of wrong replies",
    "length/thinking": "thinking, tokens",
    "length/answer": "answer, tokens",
    "length/truncated_frac": "cut off",
    "length/repeated_frac": "going round in circles",
    "reflection/words": "reflective words a reply",
    "reflection/frac": "replies with one",
}
"""What :func:`burnish.loops.evaluation.measures.behaviour` measures, in words and in order."""
COLUMNS = ("before", "after", "difference on the same items")


def compared(before: Mapping[str, Series], after: Mapping[str, Series]) -> dict[str, dict[str, Any]]:
    """{measure: {"before", "after", "paired"}} of the measures that both sides have."""
    return {
        name: {
            "before": estimate(before[name]),
            "after": estimate(series),
            "paired": _change(name, before[name], series),
        }
        for name, series in after.items()
        if name in before
    }


def _change(name: str, before: Series, after: Series) -> dict[str, float]:
    return change(before, after, shares=name not in BEHAVIOUR or name.endswith("_frac"))


def scores_table(found: Mapping[str, dict[str, Any]], title: str, columns: Sequence[str] = COLUMNS) -> Table:
    """Scores, and what k replies give, of two models."""
    return _table({name: one for name, one in found.items() if name not in BEHAVIOUR}, title, columns)


def behaviour_table(found: Mapping[str, dict[str, Any]], title: str, columns: Sequence[str] = COLUMNS) -> Table:
    """How two models reply. What neither of them ever does is left out."""
    named = {name: found[name] for name in BEHAVIOUR if name in found}
    return _table({n: one for n, one in named.items() if one["before"]["mean"] or one["after"]["mean"]}, title, columns)


def _table(found: Mapping[str, dict[str, Any]], title: str, columns: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 2), title=title, title_justify="left")
    for column in ("", *columns):
        table.add_column(column)
    for name, one in found.items():
        digits = 1 if name.startswith("length/") and not name.endswith("_frac") else 3
        row = [shown(one["before"], digits), shown(one["after"], digits), difference(one["paired"], digits)]
        table.add_row(BEHAVIOUR.get(name, name), *row)
    return table


def shown(value: Mapping[str, float], digits: int = 3) -> str:
    return f"{value['mean']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


def difference(value: Mapping[str, float], digits: int = 3) -> str:
    """The change and its interval; of 0/1 items with the p of McNemar's exact test."""
    p = f"  p {value['p']:.2g}" if "p" in value else ""
    return f"{value['difference']:+.{digits}f} [{value['low']:+.{digits}f}, {value['high']:+.{digits}f}]{p}"

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
    "length/circles_frac": "going round in circles",
    "env/failed_frac": "the environment failed",
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
        table.add_column(column, no_wrap=True)
    for name, one in found.items():
        digits = _digits(name)
        row = [shown(one["before"], digits), shown(one["after"], digits), difference(one["paired"], digits)]
        table.add_row(BEHAVIOUR.get(name, name), *row)
    return table


def shown(value: Mapping[str, float], digits: int = 3) -> str:
    return f"{value['mean']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


def difference(value: Mapping[str, float], digits: int = 3) -> str:
    """The change and its interval; of 0/1 items with the p of McNemar's exact test."""
    p = f"  p {value['p']:.2g}" if "p" in value else ""
    return f"{value['difference']:+.{digits}f} [{value['low']:+.{digits}f}, {value['high']:+.{digits}f}]{p}"


def estimates_table(found: Mapping[str, Any]) -> Table:
    """The measures of one model: scores first, then how it replies. Other entries, and what it never does, are left out."""
    table = Table(box=None, padding=(0, 2))
    for column in ("", "mean, 95% interval"):
        table.add_column(column, no_wrap=True)
    measured = {name: one for name, one in found.items() if isinstance(one, dict) and "mean" in one}
    for name in [*(name for name in measured if name not in BEHAVIOUR), *BEHAVIOUR]:
        if name in measured and (name not in BEHAVIOUR or measured[name]["mean"]):
            table.add_row(BEHAVIOUR.get(name, name), shown(measured[name], _digits(name)))
    return table


def by_table(found: Mapping[str, Sequence[Mapping[str, float]]], columns: Sequence[str]) -> list[Table]:
    """A row for each group of items: how many, and the estimate of each model. None where there is no group."""
    if not found:
        return []
    table = Table(box=None, padding=(0, 2), title="\ngroup by group", title_justify="left")
    for column in columns:
        table.add_column(column, no_wrap=True)
    for label, estimates in found.items():
        table.add_row(label, str(estimates[0]["n"]), *(shown(one) for one in estimates))
    return [table]


def calibration_table(found: Mapping[str, Any] | None, whose: str = "") -> list[Table | str]:
    """The calibration error in words, and its bins. None where nothing has a confidence."""
    if found is None:
        return []
    error, chance, over = found["error"], found["chance"], found["overconfidence"]
    table = Table(box=None, padding=(0, 2))
    for column in ("confidence", "n", "mean", "right"):
        table.add_column(column, no_wrap=True)
    for one in found["bins"]:
        row = (str(one["n"]), f"{one['confidence']:.3f}", shown(one["accuracy"]))
        table.add_row(f"{one['low']:.1f} to {one['high']:.1f}", *row)
    head = (
        f"\n{whose}calibration, confidence = {found['confidence']}: error {shown(error)}, by chance up to "
        f"{chance['high']:.3f}; confidence less accuracy {difference(over)}"
    )
    return [head, table]


def _digits(name: str) -> int:
    return 1 if name.startswith("length/") and not name.endswith("_frac") else 3

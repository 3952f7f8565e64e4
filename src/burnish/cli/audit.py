"""`burnish audit`: a reward is asked about replies whose verdict is known, and its mistakes are listed.

Exit code 0 where there are none, 1 where there are, 2 for bad input.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from burnish.errors import InputError

if TYPE_CHECKING:
    from burnish.rewards.audit import Audit, Case, Mistake
    from burnish.rewards.base import Composable

SHOWN = 48  # characters of a reply
MISTAKES = 1  # exit code
SECONDS = 10.0  # for one reply


@dataclass(frozen=True)
class Report:
    """What the audit of one reward found. ``failed`` are the cases on which it raised, with what it said.

    ``unread`` are forms of right replies that it pays for in no example: conventions it does not have, not mistakes.
    """

    reward: str
    cases: int
    found: Audit
    failed: tuple[tuple[Case, str], ...]
    unread: tuple[str, ...]

    @property
    def clean(self) -> bool:
        return not (self.found.false_positives or self.found.false_negatives or self.failed)


def audit(
    *,
    reward: Annotated[
        str, typer.Argument(metavar="REWARD", help="A reward of `burnish list`, an expression, or my_reward.py:score.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="Your prompts with a column 'answer'; cases are made of these.", show_default=False),
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Rows of it, from the first on.")] = 20,
    above: Annotated[
        float, typer.Option(min=0.0, help="With cases made of examples: what a wrong reply may get.")
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Ask a reward about right and hostile replies, and list its mistakes.

    A named reward is asked about its own cases, a function of yours about cases made of a few examples; in an expression
    each by itself. The judges cot_math and rubric have cases of their own, too. With --data the reward as a whole is asked
    about cases made of your rows.
    """
    if reward and Path(reward).is_dir():
        raise InputError(
            f"{reward} is a directory: rewards are audited on replies with a known verdict. How good a trained reward model "
            "is, the recipe reward-model reports on held-out comparisons."
        )
    reports, skipped = _with_data(reward, data, n, above) if data else _by_name(reward, above)
    if as_json:
        print(json.dumps({"rewards": [_record(report) for report in reports], "skipped": skipped}, indent=2))
    else:
        print("\n\n".join(_table(report) for report in reports))
        for name, reason in skipped.items():
            print(f"\n{name}: not audited, {reason}")
    if not all(report.clean for report in reports):
        raise typer.Exit(MISTAKES)


# --- what is audited on what ---------------------------------------------------------------------


def _with_data(text: str, data: Path, n: int, above: float) -> tuple[list[Report], dict[str, str]]:
    """The whole reward, on cases made of the first ``n`` rows of the file."""
    from burnish.data.datasets import Dataset, prompt_of
    from burnish.loops.judges import MAKERS
    from burnish.rewards.corpora import generic
    from burnish.rewards.expression import parse

    rows = list(Dataset(data))[:n]
    examples = [replace(row, messages=prompt_of(row)) for row in rows]
    try:
        cases = generic.cases(examples, above)
    except InputError as error:
        raise InputError(f"{data}: {error}") from error
    return [_asked(parse(text, MAKERS), text, cases, forms=True)], {}


def _by_name(text: str, above: float) -> tuple[list[Report], dict[str, str]]:
    """Every named reward and judge of the expression on its own cases, any other on the general ones; and what has none."""
    from burnish.loops.judges import MAKERS, form_of
    from burnish.rewards import catalog
    from burnish.rewards.constitution import Constitution
    from burnish.rewards.corpora import generic
    from burnish.rewards.expression import parse
    from burnish.rewards.pairwise import PairwiseJudge

    entry = catalog.REWARDS.get(text)
    reports, skipped = [], {}
    for term in dict.fromkeys(_terms(parse(entry.audited if entry and entry.audited else text, MAKERS))):
        name, form = catalog.name_of(term), form_of(term)
        shown = f"{form}({_shown(getattr(term, 'judge'))})" if form else _shown(term)  # noqa: B009
        if form and (cases := catalog.cases(form)):
            reports.append(_asked(term, shown, cases, forms=False))
        elif isinstance(term, PairwiseJudge | Constitution):
            skipped[shown] = "it compares replies, and is asked about one at a time; give examples with --data FILE"
        elif not name:
            reports.append(_asked(term, shown, generic.cases(generic.EXAMPLES, above), forms=True))
        elif not (cases := catalog.cases(name)):
            skipped[shown] = "it has no cases of its own; give examples with --data FILE"
        elif term != parse(audited := catalog.REWARDS[name].audited or name):
            skipped[shown] = f"its cases are written for {audited}; give examples with --data FILE"
        else:
            reports.append(_asked(term, shown, cases, forms=cases is generic.CASES))
    if not reports:
        raise InputError("; ".join(f"{name} cannot be audited: {reason}" for name, reason in skipped.items()))
    return reports, skipped


def _terms(reward: Composable) -> Iterator[Composable]:
    """The rewards of an expression that were named in it, in order."""
    from burnish.rewards import catalog
    from burnish.rewards.base import members

    inner = members(reward)
    if catalog.name_of(reward) or not inner:
        yield reward
        return
    for member in inner:
        yield from _terms(member)


# --- asking --------------------------------------------------------------------------------------


def _asked(reward: Composable, name: str, cases: Sequence[Case], *, forms: bool) -> Report:
    """Ask about every case. With ``forms`` a form of right replies that is never paid for is no mistake.

    Raises InputError where the reward raises on all of them, and at once where it asks a judge who is not there.
    """
    from burnish.rewards.audit import Audit
    from burnish.rewards.pool import guarded

    each = [_one(guarded(reward, SECONDS), case) for case in cases]
    failed = tuple((case, said) for case, said in zip(cases, each, strict=True) if isinstance(said, str))
    if len(failed) == len(cases):
        raise InputError(f"{name} raises on every case, so that there is nothing to judge:\n{failed[0][1]}")
    audits = [said for said in each if isinstance(said, Audit)]
    found = Audit(
        sum(a.accepted for a in audits),
        sum(a.refused for a in audits),
        tuple(m for a in audits for m in a.false_positives),
        tuple(m for a in audits for m in a.false_negatives),
    )
    unread = _unread(cases, found) if forms else ()
    kept = tuple(m for m in found.false_negatives if m.case.why not in unread)
    return Report(name, len(cases), replace(found, false_negatives=kept), failed, unread)


def _one(reward: Composable, case: Case) -> Audit | str:
    """The audit of one case, or what the reward said when it raised. Raises NoJudgeError: no other case is worth asking."""
    from burnish.rewards.ask import NoJudgeError

    try:
        return _ask(reward, case)
    except NoJudgeError:
        raise
    except InputError as error:
        return str(error)


def _ask(reward: Composable, case: Case) -> Audit:
    """The audit of one case. Raises InputError for whatever the reward raises, and where it does not come back."""
    from burnish.rewards.audit import audit as ask
    from burnish.rewards.record import recorded

    try:
        with recorded() as said:
            found = ask(reward, [case])
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{type(error).__name__}: {error}") from error
    for metric, what in (("reward/timeouts", f"took more than {SECONDS:g} s"), ("reward/crashes", "ended its process")):
        if said.get(metric, (0.0, 0.0))[0]:
            raise InputError(f"the reward {what}")
    return found


def _unread(cases: Sequence[Case], found: Audit) -> tuple[str, ...]:
    """The forms of right replies that are refused in every example; none where that is all of them."""
    asked = Counter(case.why for case in cases if case.least > 0)
    refused = Counter(mistake.case.why for mistake in found.false_negatives)
    unread = tuple(why for why, count in asked.items() if refused[why] == count)
    return unread if len(unread) < len(asked) else ()


# --- what is printed -----------------------------------------------------------------------------


def _table(report: Report) -> str:
    found = report.found
    lines = [
        f"{report.reward}: {report.cases} replies, {found.accepted} right and {found.refused} that deserve nothing"
    ]
    lines += _mistakes(f"paid for, and wrong: {len(found.false_positives)}", found.false_positives)
    lines += _mistakes(f"right, and not paid for: {len(found.false_negatives)}", found.false_negatives)
    if report.failed:
        lines.append(f"  raised: {len(report.failed)}")
        lines += [f"    {case.why}: {_cut(case.text)}: {said.splitlines()[0]}" for case, said in report.failed[:3]]
    if report.unread:
        lines.append(f"  forms of an answer that it does not read: {', '.join(report.unread)}")
    return "\n".join(lines)


def _mistakes(title: str, mistakes: Sequence[Mistake]) -> list[str]:
    """One line for each thing that was tried: how often it worked, and the first time it did."""
    groups: dict[str, list[Mistake]] = {}
    for mistake in mistakes:
        groups.setdefault(mistake.case.why, []).append(mistake)
    width = max(map(len, groups), default=0)
    rows = [(why, len(group), group[0]) for why, group in groups.items()]
    return [f"  {title}"] + [
        f"    {why:{width}}  {_times(count)}, as {_cut(first.case.text)} got {first.value:g}{_answer(first.case)}"
        for why, count, first in rows
    ]


def _times(count: int) -> str:
    return f"{'once' if count == 1 else f'{count} times':>9}"


def _record(report: Report) -> dict[str, Any]:
    found = report.found
    return {
        "reward": report.reward,
        "cases": report.cases,
        "right": found.accepted,
        "wrong": found.refused,
        "false_positives": [{**_case(m.case), "value": m.value} for m in found.false_positives],
        "false_negatives": [{**_case(m.case), "value": m.value} for m in found.false_negatives],
        "raised": [{**_case(case), "error": said} for case, said in report.failed],
        "unread": list(report.unread),
    }


def _case(case: Case) -> dict[str, Any]:
    prompt = case.example.messages[-1]["content"] if case.example.messages else ""
    return {"why": case.why, "prompt": prompt, "answer": case.example.answer, "reply": case.text, "finish": case.finish}


def _answer(case: Case) -> str:
    return f", where the answer is {case.example.answer!r}" if case.example.answer is not None else ""


def _shown(value: Any) -> str:
    """A reward as it is typed, or, where it has no name, as it is made in Python; of other values what Python shows."""
    from burnish.rewards import catalog
    from burnish.rewards.base import Composable
    from burnish.rewards.function import UserReward

    if isinstance(value, UserReward):
        return f"{value.path}:{value.name}"
    if not is_dataclass(value):
        return repr(value)
    name = (catalog.name_of(value) if isinstance(value, Composable) else "") or type(value).__name__
    values = {f.name: getattr(value, f.name) for f in fields(value) if getattr(value, f.name) != f.default}
    given = [f"{field}={_shown(set_to)}" for field, set_to in values.items()]
    return f"{name}({', '.join(given)})" if given or not isinstance(value, Composable) else name


def _cut(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= SHOWN else f"{shown[: SHOWN - 10]} .. {shown[-6:]}"

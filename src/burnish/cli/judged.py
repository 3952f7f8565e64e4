"""The running example of `burnish explain` for losses of judged answers: the same three completions, compared.

A is fluent but wrong, B right but messy, C right and clean, so C is best and A worst. What the models say of them is fixed here
by hand: the policy has moved towards A, and the reward model likes it best, so there is something to mend. All numbers printed
are computed by the loss itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from burnish.core.links import OfPairs
from burnish.core.method import Method
from burnish.core.online import OnlinePreference
from burnish.core.preference import Preference
from burnish.core.process import STEP, StepBinary, StepClasses
from burnish.core.ranking import SCORE, Attributes, Penalised, PlackettLuce, PointwiseTokens
from burnish.core.reward_models import HELPSTEER2, RewardLoss
from burnish.core.scores import Score
from burnish.core.units import Pairs
from burnish.data.batching import collate as collate_rollouts
from burnish.data.units import Row, Unit, collate
from burnish.errors import InputError
from burnish.types import Batch, Head, Loss, Outputs, Rollout, needs_of, outcome

LARGE = 1000  # numbers from here on are printed with one decimal
OTHERS = 0.05  # log pi - log pi_ref on every token of an answer to another prompt
RIVAL = 0.5  # the reward of a rival's completion
NAMES = "ABC"


@dataclass(frozen=True)
class Case:
    """One answer: per token log pi_ref and how far log pi is from it; the score of a reward model; what is known of it.

    ``steps`` are ratings at the last tokens of its steps, ``ratings`` its attributes from 0 to 4.
    """

    title: str
    size: int
    reference: float
    moved: float
    score: float
    known: float
    label: float
    steps: Mapping[int, float]
    ratings: tuple[float, ...]


CASES = (
    Case("A  fluent but wrong", 6, -0.5, 0.1, 1.2, 0.0, 0.0, {1: 1, 3: -1, 4: 1}, (1, 0, 4, 1, 2)),
    Case("B  right but messy", 8, -1.0, -0.075, 0.3, 0.8, 1.0, {2: 1, 4: 0, 6: 1}, (3, 4, 1, 2, 4)),
    Case("C  right and clean", 4, -0.75, 0.05, 0.8, 1.0, 1.0, {1: 1, 2: 1}, (4, 4, 4, 2, 1)),
)
OTHER = Case("to another prompt", 4, -2.0, OTHERS, 0.0, 0.0, 0.0, {}, ())
PAIRS = ((2, 1), (2, 0), (1, 0))
SAYS = (1.5, 2.0, 2.5, 1.5, 2.0)  # what the reward model says of each attribute, whatever the answer


@dataclass(frozen=True)
class Example:
    """A prepared batch with what the models say of it; ``cases`` are its rows."""

    loss: Loss
    batch: Batch
    cases: tuple[Case, ...]

    @staticmethod
    def of(loss: Loss, units: Sequence[Sequence[int]], *, ranked: bool = True) -> Example:
        """One unit for each group of answers, best first; labelled where they are not ``ranked``."""
        needs = needs_of(loss)
        rows: list[Unit] = [_unit([CASES[i] for i in unit], number, ranked) for number, unit in enumerate(units)]
        cases = [CASES[i] for unit in units for i in unit]
        if needs.mismatched:
            rows += [(replace(_row(OTHER, len(units)), mismatched=True),)]
            cases.append(OTHER)
        batch = collate(rows, [[_constant(case, case.reference)] for case in cases] if needs.reference else None)
        prepare: Any = loss.prepare  # type: ignore[attr-defined]
        batch = prepare(batch, _outputs(loss, cases, batch.tokens.shape[1])) if needs.statistics else prepare(batch)
        kept = [i for i, case in enumerate(cases) if case is not OTHER]
        return Example(loss, batch.select(kept), tuple(cases[i] for i in kept))

    def unit(self, number: int) -> Example:
        rows = torch.nonzero(self.batch.units == number)[:, 0].tolist()
        return Example(self.loss, self.batch.select(rows), tuple(self.cases[i] for i in rows))

    def scores(self) -> Tensor:
        """[B] what a preference judges each row by."""
        outputs = _outputs(self.loss, self.cases, self.batch.tokens.shape[1])
        inner = self.loss.loss if isinstance(self.loss, Penalised) else self.loss
        return inner.score(outputs, self.batch) if isinstance(inner, Preference) else outputs.heads[SCORE]

    def pushes(self) -> tuple[float, Tensor, Tensor]:
        """The loss, -d loss / d what a head says (a score in its place where there is none), and [B] -d loss / d log pi of a
        token, on average."""
        outputs, loss = _outputs(self.loss, self.cases, self.batch.tokens.shape[1]), self.loss
        logprobs, heads = outputs.logprobs.requires_grad_(), [head.requires_grad_() for head in outputs.heads.values()]
        if not heads:
            assert isinstance(loss, Preference)
            heads = [torch.zeros(len(self.cases), dtype=torch.float64, requires_grad=True)]
            loss = replace(loss, score=Nudged(loss.score, heads[0]))
        value, _ = loss(outputs, self.batch)
        said, spelt = torch.autograd.grad(value, [heads[0], logprobs], allow_unused=True, materialize_grads=True)
        return float(value.detach()), -said, -(spelt * self.batch.mask).sum(1) / self.batch.lengths


class Nudged(Score):
    """A score with a number added to it, in which the loss has a gradient as in the score itself."""

    def __init__(self, inner: Score, nudge: Tensor) -> None:
        self.inner, self.nudge = inner, nudge
        self.needs_logprobs, self.needs_reference = inner.needs_logprobs, inner.needs_reference

    def __call__(self, outputs: Outputs, batch: Batch) -> Tensor:
        return self.inner(outputs, batch) + self.nudge

    def anchor(self, outputs: Outputs, batch: Batch) -> Tensor:
        return self.inner.anchor(outputs, batch)


def lines(loss: Preference | RewardLoss) -> Iterator[str]:
    """The example, line by line."""
    yield "three completions of one maths prompt, C better than B, B better than A:"
    yield from _completions(loss)
    yield ""
    match loss:
        case StepClasses() | StepBinary():
            yield from _steps(loss)
        case Attributes():
            yield from _attributes(loss)
        case PlackettLuce():
            yield from _ranking(loss)
        case Penalised() | Preference(link=OfPairs()):
            yield from _pairs(loss)
        case _:
            yield from _singles(loss)


def lack(loss: Loss) -> str:
    """What a loss says of ranked answers of which nothing but the ranks is known: empty where it needs no more."""
    if not isinstance(loss, Preference | Penalised):
        return ""
    rows = [replace(_row(CASES[i], 0, rank), targets={}) for rank, i in enumerate(PAIRS[0])]
    inner = loss.loss if isinstance(loss, Penalised) else loss
    assert isinstance(inner, Preference)
    try:
        inner.link.weigh(collate([tuple(rows)]))
    except InputError as error:
        return str(error)
    return ""


def online(method: Method) -> Iterator[str]:
    """The same completions, sampled a moment ago: what becomes of their rewards."""
    rival = method.rival is not None
    yield f"three completions of one maths prompt{', and three of the rival' * rival}:"
    titles = [case.title for case in CASES] + ["-  of the rival"] * (len(CASES) * rival)
    rewards = [case.known for case in CASES] + [RIVAL] * (len(CASES) * rival)
    rows = [
        Rollout((1,), (2,) * 4, (True,) * 4, (-1.0,) * 4, outcome(reward), 0, i, train=i < len(CASES))
        for i, reward in enumerate(rewards)
    ]
    batch = collate_rollouts(rows)
    old = torch.full(batch.tokens.shape, -1.0, dtype=torch.float64)
    batch = method.credit(replace(batch, old_logprobs=old, ref_logprobs=old), method.init())
    columns = {"reward": list(map(_number, rewards))}
    if batch.advantages is not None:
        columns["advantage"] = [
            _number(x) if own else "" for x, own in zip(batch.advantages[:, 0].tolist(), batch.train, strict=True)
        ]
    yield from _table(titles, columns)
    if isinstance(method, OnlinePreference):
        pairs = Pairs.of(batch)
        for better, worse in zip(pairs.better.tolist(), pairs.worse.tolist(), strict=True):
            yield f"  a pair: {_told(better)} above {_told(worse)}"
        if method.optimism:
            yield f"  (log pi of the rival's completions is pushed down as well, by {method.optimism:g} for each)"
        yield "\nwhat its loss does with pairs:\n"
        yield from lines(method.preference)
    if method.needs_teacher:
        yield "  (rewards teach nothing: at every token the distributions of policy and teacher are compared)"


def _told(row: int) -> str:
    return NAMES[row] if row < len(NAMES) else f"the rival's {('first', 'second', 'third')[row - len(NAMES)]}"


# --- tables --------------------------------------------------------------------------------------


def _completions(loss: Loss) -> Iterator[str]:
    needs = needs_of(loss)
    columns: dict[str, list[str]] = {"tokens": [str(case.size) for case in CASES]}
    if needs.logprobs:
        columns["log pi"] = [_number(case.size * (case.reference + case.moved)) for case in CASES]
    if needs.reference:
        columns["log pi_ref"] = [_number(case.size * case.reference) for case in CASES]
    if SCORE in needs.heads and not isinstance(loss, Attributes):
        columns["score"] = [_number(case.score) for case in CASES]
    if lack(loss):
        columns["known reward"] = [_number(case.known) for case in CASES]
    if isinstance(loss, Preference) and loss.trust is not None:
        batch = collate([_unit(CASES, 0, True)])
        trust = loss.trust(_outputs(loss, CASES, batch.tokens.shape[1]), batch)
        columns["trust"] = list(map(_number, trust.tolist()))
    yield from _table([case.title for case in CASES], columns)


def _pairs(loss: Preference | Penalised) -> Iterator[str]:
    """Each pair as one element of a batch of three: what it adds, times three, is its own loss."""
    whole = Example.of(loss, PAIRS)
    found: dict[str, list[str]] = {}
    for number in range(len(PAIRS)):
        one = whole.unit(number)
        value, said, token = one.pushes()
        better, worse = one.scores().detach().tolist()
        row = {"s_w": better, "s_l": worse, "s_w - s_l": better - worse, "loss": len(PAIRS) * value}
        row |= dict(zip(("push on s_w", "on s_l"), (len(PAIRS) * said).tolist(), strict=True))
        if needs_of(loss).logprobs:
            row |= dict(zip(("on a token of w", "of l"), (len(PAIRS) * token).tolist(), strict=True))
        for name, value in row.items():
            found.setdefault(name, []).append(_number(value))
    yield "each pair, one element of a batch of three:"
    yield from _table([f"{NAMES[better]} above {NAMES[worse]}" for better, worse in PAIRS], found)
    yield from _legend(whole)


def _singles(loss: Loss) -> Iterator[str]:
    whole = Example.of(loss, [(i,) for i in range(len(CASES))], ranked=False)
    scores = whole.scores().detach()
    scores = scores[:, 0] if isinstance(loss, PointwiseTokens) else scores
    _, said, token = whole.pushes()
    values = [len(CASES) * whole.unit(i).pushes()[0] for i in range(len(CASES))]
    push = said.reshape(len(CASES), -1).sum(1)
    columns = {
        "label": ["bad" if case.label == 0 else "good" for case in CASES],
        "s": list(map(_number, scores.tolist())),
        "loss": list(map(_number, values)),
        "push on s": list(map(_number, (len(CASES) * push).tolist())),
    }
    if needs_of(loss).logprobs:
        columns["on a token"] = list(map(_number, (len(CASES) * token).tolist()))
    yield "each answer, one element of a batch of three:"
    yield from _table(list(NAMES), columns)
    yield from _legend(whole)


def _ranking(loss: PlackettLuce) -> Iterator[str]:
    whole = Example.of(loss, [(2, 1, 0)])
    _, said, _ = whole.pushes()
    columns = {"score": list(map(_number, whole.scores().tolist())), "push on it": list(map(_number, said.tolist()))}
    yield "the ranking, one element:"
    yield from _table(["C", "B", "A"], columns)
    yield from _legend(whole)


def _attributes(loss: Attributes) -> Iterator[str]:
    whole = Example.of(loss, [(i,) for i in range(len(CASES))], ranked=False)
    _, said, _ = whole.pushes()
    columns = {"says": [_number(x) for x in SAYS]}
    for i, name in enumerate(NAMES):
        columns[f"{name} is rated"] = [f"{x:g}" for x in CASES[i].ratings]
        columns["push" + " " * i] = list(map(_number, (len(CASES) * len(SAYS) * said[i]).tolist()))
    yield "each attribute, on average over all that are given:"
    yield from _table(list(loss.names), columns)
    yield from _legend(whole)


def _steps(loss: StepClasses | StepBinary) -> Iterator[str]:
    whole = Example.of(loss, [(i,) for i in range(len(CASES))], ranked=False)
    _, said, _ = whole.pushes()
    counted = int((whole.batch.weights["steps"] > 0).sum())
    names, columns = list[str](), dict[str, list[str]]()
    heads = ("wrong", "neutral", "good") if isinstance(loss, StepClasses) else ("right",)
    for i, case in enumerate(CASES):
        for number, (place, rating) in enumerate(case.steps.items(), start=1):
            names.append(f"{NAMES[i]}, step {number}")
            columns.setdefault("rating", []).append(f"{rating:+g}" if rating else "0")
            # A step is judged one token later, by what the head says before that.
            for name, value in zip(heads, (counted * said[i, place + 1]).reshape(-1).tolist(), strict=True):
                columns.setdefault(f"push on '{name}'", []).append(_number(value))
    yield f"each step; {counted} of {len(names)} count:"
    yield from _table(names, columns)
    yield from _legend(whole)


def _legend(whole: Example) -> Iterator[str]:
    """What the numbers mean, and what is one number for all."""
    if "baseline" in whole.batch.extras:
        yield f"  (the baseline of the batch, a constant, is {_number(float(whole.batch.extra('baseline')[0]))})"
    if needs_of(whole.loss).mismatched:
        yield f"  (it is from answers to other prompts, whose log pi - log pi_ref is {OTHERS * OTHER.size:g})"
    token = "; a token's is on its log pi" * needs_of(whole.loss).logprobs
    yield f"  (the loss of the batch is {_number(whole.pushes()[0])}; a push is -d loss / d what it is on{token})"


# --- the example ---------------------------------------------------------------------------------


def _row(case: Case, prompt: int, rank: int = -1, margin: float = 0.0) -> Row:
    """The tokens mean nothing; the last one ends the turn, and is no content."""
    body = case.size - 1
    targets = {"score": case.known, "margin": margin, **dict(zip(HELPSTEER2.names, case.ratings, strict=False))}
    targets |= {} if rank >= 0 else {"label": case.label}
    return Row((prompt + 1,), (2,) * case.size, (True,) * case.size, (*[True] * body, False), rank, targets, case.steps)


def _unit(cases: Sequence[Case], prompt: int, ranked: bool) -> Unit:
    """The margin of an answer is by how much it is better than the worst one."""
    least = min(case.known for case in cases)
    return tuple(_row(case, prompt, i if ranked else -1, case.known - least) for i, case in enumerate(cases))


def _constant(case: Case, value: float) -> Tensor:
    return torch.full((case.size,), value, dtype=torch.float64)


def _outputs(loss: Loss, cases: Sequence[Case], longest: int) -> Outputs:
    logprobs = torch.zeros(len(cases), longest, dtype=torch.float64)
    for row, case in zip(logprobs, cases, strict=True):
        row[: case.size] = case.reference + case.moved
    heads = {name: _said(name, head, cases, longest) for name, head in needs_of(loss).heads.items()}
    return Outputs(logprobs, torch.zeros_like(logprobs), heads)


def _said(name: str, head: Head, cases: Sequence[Case], longest: int) -> Tensor:
    """What a head says: a score for the whole or at every token; of steps that all is open; of attributes the same."""
    if name == STEP:
        shape = (len(cases), longest) if head.out == 1 else (len(cases), longest, head.out)
        return torch.zeros(shape, dtype=torch.float64)
    if head.out > 1:
        return torch.tensor([SAYS] * len(cases), dtype=torch.float64)
    scores = torch.tensor([case.score for case in cases], dtype=torch.float64)
    return scores if head.at == "last" else scores[:, None].repeat(1, longest)


# --- text ----------------------------------------------------------------------------------------


def _table(names: Sequence[str], columns: Mapping[str, Sequence[str]]) -> Iterator[str]:
    first = max(map(len, names))
    widths = {title: max(len(title.rstrip()), *map(len, cells)) for title, cells in columns.items()}
    yield "  " + " " * first + "".join(f"  {title.rstrip():>{width}}" for title, width in widths.items())
    for place, name in enumerate(names):
        cells = (f"  {columns[title][place]:>{width}}" for title, width in widths.items())
        yield f"  {name:{first}}" + "".join(cells)


def _number(value: float) -> str:
    """Three decimals, one of a large number; no minus in front of a zero."""
    return f"{value:.1f}" if abs(value) >= LARGE else f"{round(value, 3) + 0.0:.3f}"

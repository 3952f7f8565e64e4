"""Steps rated without people: from the end of each step the policy finishes the answer many times (arXiv:2312.08935)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from burnish import files
from burnish.core import keys
from burnish.core.process import Label, hard, split_steps
from burnish.data.chat import Chat
from burnish.data.rows import DataFile, load_rows
from burnish.data.units import Row, encode
from burnish.engines.decode import LocalSampler
from burnish.engines.local import Engine, LocalModel
from burnish.errors import InputError
from burnish.loops.commentate import Estimate, Grading
from burnish.loops.continuations import Prefix, completed, continuations
from burnish.loops.evaluate import Measured
from burnish.stage import Stage
from burnish.types import Answer, Comparison, Example, Request, Sampler, Sampling, Step


class Solution(NamedTuple):
    """A problem with what its grader needs, and one answer to it, in steps whose texts join to the whole."""

    example: Example
    steps: tuple[str, ...]

    def rated(self, ratings: Sequence[float], label: float | None = None) -> Comparison:
        """The solution with a rating for each step and the label of the whole."""
        steps = tuple(Step(text, rating) for text, rating in zip(self.steps, ratings, strict=True))
        reply = {"role": "assistant", "content": "".join(self.steps)}
        return Comparison(self.example.messages, (Answer((reply,), label=label, steps=steps),))  # type: ignore[arg-type]


def label_steps(
    sampler: Sampler, chat: Chat, grading: Grading, solutions: Sequence[Solution], *, samples: int = 8, key: int = 0,
    label: Label = hard,
) -> list[Comparison]:  # fmt: skip
    """Each solution with its steps rated by ``label`` of the share of ``samples`` continuations that came out right.

    The last step is followed by nothing: its rate is the outcome, 0 or 1, which is also the label of the whole answer. So
    one data set trains a process and an outcome model. 8 samples and hard labels are Math-Shepherd's. All randomness
    follows from ``key``, solution, step and sample. Raises InputError where a solution has no step, or no room is left
    within ``grading.sampling.max_tokens``.
    """
    rows = [_row(chat, solution) for solution in solutions]
    prefixes = [
        Prefix(row.prompt, row.tokens[: end + 1], (key, number, step))
        for number, row in enumerate(rows)
        for step, end in enumerate(list(row.ratings)[:-1])
    ]
    drawn = iter(continuations(sampler, chat, prefixes, grading.sampling, samples))
    found = []
    for solution, row in zip(solutions, rows, strict=True):
        judge = grading.judge(solution.example)
        rates = [Estimate(tuple(judge(next(drawn)))).rate for _ in solution.steps[:-1]]
        right = float(judge([completed(chat, row.tokens, "eos")])[0].success)
        found.append(solution.rated([label(rate) for rate in (*rates, right)], right))
    return found


def _row(chat: Chat, solution: Solution) -> Row:
    """The tokens of the solution, and in ``ratings`` the last token of each step."""
    if not solution.steps:
        raise InputError("a solution without steps: split its text, for example with burnish.core.process.split_steps")
    return encode(chat, solution.rated([0.0] * len(solution.steps)))[0]


# --- a stage -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rollouts:
    """``solutions`` to each of ``prompts`` problems, cut after ``separator``; ``samples`` continuations of each step."""

    prompts: int = 200
    solutions: int = 4
    samples: int = 8
    separator: str = "\n"
    label: Label = hard
    sampling: Sampling = field(default_factory=Sampling)
    engine: Engine = field(default_factory=Engine)

    def __post_init__(self) -> None:
        if min(self.prompts, self.solutions, self.samples) < 1 or not self.separator:
            raise ValueError("prompts, solutions and samples are at least 1, and the separator is no empty text")


@dataclass(frozen=True)
class Rated(DataFile[Comparison]):
    """The solutions that :func:`rate` wrote."""

    @staticmethod
    def read(path: Path) -> tuple[Comparison, ...]:
        """The solutions of the file as it is now."""
        return tuple(
            Solution(Example(tuple(row["prompt"])), tuple(row["steps"])).rated(row["ratings"], row["label"])
            for row in load_rows(path)
        )


def rate(stage: Stage, model: Path, task: Measured, *, cfg: Rollouts) -> Path:
    """A stage: the model's own solutions to problems of the task, their steps rated by its rollouts: a file for :class:`Rated`.

    Solutions that were cut off are left out. Raises InputError where all are right or all wrong: such labels teach nothing.
    """
    engine = replace(stage.decide("engine", cfg.engine.resolved), adapter=None)
    policy = LocalModel(Path(model), engine)
    sampler, chat = LocalSampler(policy), policy.chat
    examples = [task[i] for i in range(min(cfg.prompts, len(task))) for _ in range(cfg.solutions)]
    requests = [
        Request(chat.encode_prompt(example.messages), keys.derive(stage.seed, "solution", number), cfg.sampling)
        for number, example in enumerate(examples)
    ]
    stage.view.say(f"{stage.name}: {len(requests)} solutions, then {cfg.samples} continuations of each of their steps")
    done = sorted(sampler.sample(requests), key=lambda c: c.index)
    found = [(e, split_steps(c.text, cfg.separator)) for e, c in zip(examples, done, strict=True) if not c.cut]
    solutions = [Solution(example, steps) for example, steps in found if steps]
    grading, key = Grading(task, task.reward, cfg.sampling), keys.derive(stage.seed, "rollouts")
    rated = label_steps(sampler, chat, grading, solutions, samples=cfg.samples, key=key, label=cfg.label)
    _tell(stage, rated, cut=len(requests) - len(rated))
    path = stage.directory / "rated.jsonl"
    files.write_text(path, "".join(json.dumps(_record(item)) + "\n" for item in rated))
    return path


def _tell(stage: Stage, rated: Sequence[Comparison], cut: int) -> None:
    labels = [item.answers[0].label for item in rated]
    if len(set(labels)) < 2:
        what = "right" if labels and labels[0] else "wrong"
        raise InputError(
            f"of {len(rated)} whole solutions all are {what}, so that their steps cannot be told apart: choose other "
            "problems (task), another policy, more of them (labels.prompts), or a higher labels.sampling.max_tokens"
        )
    steps = [step.rating or 0 for item in rated for step in item.answers[0].steps]
    stage.view.say(
        f"{len(rated)} solutions, {sum(label == 1 for label in labels)} of them right ({cut} cut off or empty, left out); "
        f"{len(steps)} steps, {sum(rating < 0 for rating in steps)} of them wrong"
    )


def _record(item: Comparison) -> dict[str, object]:
    answer = item.answers[0]
    steps, ratings = [s.text for s in answer.steps], [s.rating for s in answer.steps]
    return {"prompt": list(item.prompt), "steps": steps, "ratings": ratings, "label": answer.label}

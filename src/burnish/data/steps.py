"""Answers in steps with a rating each: TRL's stepwise supervision and PRM800K (arXiv:2305.20050) in both public forms.

Steps stand one a line: white space around a step is stripped. A rating is 1 (good), 0 (neutral) or -1 (wrong). In PRM800K
every rated step is rated in exactly one of the answers made of it; the steps that lead to it are unrated in the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from burnish.data.messages import prompt_in
from burnish.data.rows import json_name, rest, truth
from burnish.errors import InputError, unknown
from burnish.types import Answer, Comparison, Step

FINISHED = ("found_error", "solution", "bad_problem", "give_up")
ANSWER = "\n\n# Answer\n\n"  # stands before the final answer in PRM800K; the rows keep what follows it in a column


def stepwise(row: Mapping[str, Any]) -> tuple[Comparison, ...]:
    """``prompt``, ``completions`` (the steps) and ``labels`` (true or false, one a step: ratings 1 and -1)."""
    texts, labels = _list(row, "completions"), _list(row, "labels")
    if len(texts) != len(labels) or not texts:
        raise InputError(f"{len(texts)} completions but {len(labels)} labels: give one label for each of the steps")
    rated = [1 if truth(label, f"label {place}") else -1 for place, label in enumerate(labels, start=1)]
    steps = [
        Step(_text(text, f"completion {place}"), rating)
        for place, (text, rating) in enumerate(zip(texts, rated, strict=True), start=1)
    ]
    return (Comparison(prompt_in(row), (_stepped(steps),), rest(row, "prompt", "completions", "labels", "system")),)


def prm800k_row(row: Mapping[str, Any]) -> tuple[Comparison, ...]:
    """``instruction``, the earlier steps ``responses``, and ``next_response`` with its ``rating``; no rating, no comparison.

    A final ``answer`` belongs to the text of the last step. A step that a person wrote has no rating and counts as good.
    """
    earlier = [Step(_text(text, f"response {place}")) for place, text in enumerate(_list(row, "responses"), start=1)]
    text = _text(row.get("next_response"), "column 'next_response'")
    if row.get("answer") is not None:
        text += ANSWER + _text(row["answer"], "column 'answer'")
    rating = _rating(row.get("rating"), "column 'rating'")
    if rating is None and row.get("is_human_response"):
        rating = 1
    prompt = prompt_in(row, "instruction")
    meta = rest(row, "instruction", "responses", "next_response", "rating", "answer", "system")
    return _rated(prompt, [[*earlier, Step(text, rating)]], meta)


def prm800k(row: Mapping[str, Any]) -> tuple[Comparison, ...]:
    """One line of openai/prm800k: the labelled solution, and each alternative to one of its steps as an answer of its own.

    The solution goes through the chosen completion of each step, or what a person wrote in its place, up to the end or the
    first wrong step; where nothing was chosen it ends with the first completion, the step of the solution that was shown to
    the labeler. An alternative is the solution so far and another completion, which alone is rated. Flagged completions count
    as unrated; answers without a rating and whole lines with the finish reason bad_problem are left out.
    """
    question, label = _object(row, "question"), _object(row, "label")
    reason = label.get("finish_reason")
    if reason not in FINISHED:
        raise unknown("finish_reason", str(reason), FINISHED)
    if reason == "bad_problem":
        return ()
    solution: list[Step] = []
    answers: list[list[Step]] = []
    for place, each in enumerate(_list(label, "steps"), start=1):
        chosen, others, ends = _choice(each, f"step {place}")
        answers += [[*(Step(step.text) for step in solution), other] for other in others]
        solution += [chosen] if chosen else []
        if ends or (chosen and chosen.rating == -1):
            break
    meta = rest(row, "question", "label") | {
        "ground_truth_answer": question.get("ground_truth_answer"),
        "finish_reason": reason,
    }
    return _rated(prompt_in(question, "problem"), [solution, *answers], meta)


def _choice(step: Any, where: str) -> tuple[Step | None, list[Step], bool]:
    """The step that the solution goes through, the alternatives to it, and whether the solution ends here."""
    if not isinstance(step, dict):
        raise InputError(f"{where} is a JSON {json_name(step)}: make it an object with 'completions'")
    found = [
        _completion(each, f"completion {place} of {where}")
        for place, each in enumerate(step.get("completions") or [], start=1)
    ]
    human, index = step.get("human_completion"), step.get("chosen_completion")
    if index is not None:
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(found):
            raise InputError(f"'chosen_completion' of {where} is {index!r}: make it 0 to {len(found) - 1}, or null")
        return found[index], found[:index] + found[index + 1 :], False
    if human is not None:
        return Step(_completion(human, f"the human completion of {where}").text, 1), found, False
    return (found[0], found[1:], True) if found else (None, [], True)


def _completion(value: Any, where: str) -> Step:
    if not isinstance(value, dict):
        raise InputError(f"{where} is a JSON {json_name(value)}: make it an object with 'text' and 'rating'")
    rating = _rating(value.get("rating"), f"the rating of {where}")
    return Step(_text(value.get("text"), where), None if value.get("flagged") else rating)


def _rated(prompt: Any, answers: Sequence[Sequence[Step]], meta: Mapping[str, Any]) -> tuple[Comparison, ...]:
    """One comparison for each of the answers that has a rated step."""
    kept = [steps for steps in answers if any(step.rating is not None for step in steps)]
    return tuple(Comparison(prompt, (_stepped(steps),), meta) for steps in kept)


def _stepped(steps: Sequence[Step]) -> Answer:
    """An answer of steps, one a line: the texts of its steps join to the content of its one message."""
    lines = [step._replace(text=step.text + "\n") for step in steps[:-1]] + [steps[-1]]
    return Answer(({"role": "assistant", "content": "".join(step.text for step in lines)},), steps=tuple(lines))


def _rating(value: Any, where: str) -> int | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):  # tables write NaN for null
        return None
    if isinstance(value, bool) or value not in (-1, 0, 1):
        raise InputError(f"{where} is {value!r}: make it -1 (wrong), 0 (neutral), 1 (good), or null")
    return int(value)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{where} is a JSON {json_name(value)}: it has to be text")
    if not value.strip():
        raise InputError(f"{where} is empty: fill it or remove the row")
    return value.strip()


def _list(row: Mapping[str, Any], column: str) -> list[Any]:
    value = row.get(column)
    if not isinstance(value, list):
        raise InputError(f"'{column}' is a JSON {json_name(value)}: make it a list")
    return value


def _object(row: Mapping[str, Any], column: str) -> dict[str, Any]:
    value = row.get(column)
    if not isinstance(value, dict):
        raise InputError(f"column '{column}' is a JSON {json_name(value)}: make it an object, as in openai/prm800k")
    return value

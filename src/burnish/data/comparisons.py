"""Judged answers in data files: pairs, rankings, labels, scores and rated steps, all as comparisons."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.data import steps
from burnish.data.kinds import ATTRIBUTES, COMPARED, Kind, kind
from burnish.data.messages import asked, conversation, prompt_in, reply_in, spoken, system_in
from burnish.data.rows import DataFile, json_name, load_rows, number, numbered, rest, truth
from burnish.errors import InputError
from burnish.types import Answer, Comparison, Message

Turns = tuple[Message, ...]

BEST_FIRST = ("edited", "chosen", "rejected")
# Columns that hold the prompt under another name: what chosen and rejected begin with alike is not the prompt then.
PROMPTS_BY_OTHER_NAMES = ("question", "instruction", "query", "input")


def comparisons(rows: Sequence[Mapping[str, Any]]) -> list[Comparison]:
    """The rows of a kind with judged answers as comparisons, by :func:`compare`. Raises InputError with the row number."""
    found = kind(rows)
    if found not in COMPARED:
        raise InputError(f"rows of kind '{found}' compare nothing: give rows of kind {', '.join(COMPARED)}")
    many = [numbered(place, lambda row: compare(row, found), row) for place, row in enumerate(rows, start=1)]
    if not any(many):
        raise InputError("no step in these rows has a rating: rate steps with -1, 0 or 1")
    return [comparison for some in many for comparison in some]


def compare(row: Mapping[str, Any], kind: Kind) -> tuple[Comparison, ...]:
    """The comparisons in one row: one, but for PRM800K, whose rows have none to many. Columns not read go to ``meta``.

    Raises InputError.
    """
    return READERS[kind](row)


@dataclass(frozen=True)
class Comparisons(DataFile[Comparison]):
    """The comparisons of a data file. Raises InputError as :func:`load_rows` and :func:`comparisons` do."""

    @staticmethod
    def read(path: Path) -> tuple[Comparison, ...]:
        """The comparisons of the file as it is now. Raises InputError."""
        rows = load_rows(path)
        try:
            return tuple(comparisons(rows))
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


def _preference(row: Mapping[str, Any]) -> tuple[Comparison, ...]:
    """``chosen`` above ``rejected``, and ``edited`` above both where the row has it (Llama 3, arXiv:2407.21783).

    ``chosen_prob`` is the probability that the chosen one is preferred (1 where it is missing), ``margin`` by how much, and
    ``score_chosen``, ``score_rejected``, ``score_edited`` are scores.
    """
    names = [name for name in BEST_FIRST if name != "edited" or row.get(name) not in (None, "", [])]
    prompt, turns = _prompt_and_answers(row, names)
    prompt = system_in(row) + prompt
    margin, chosen = number(row, "margin"), number(row, "chosen_prob", 0, 1)
    labels = {} if chosen is None else {"chosen": chosen, "rejected": 1 - chosen}
    answers = []
    for rank, (name, messages) in enumerate(zip(names, turns, strict=True)):
        given = {"score": number(row, f"score_{name}"), "margin": margin if name != "edited" else None}
        scores = {each: value for each, value in given.items() if value is not None}
        answers.append(Answer(messages, rank, labels.get(name), scores))
    read = ("prompt", "conversations", "system", "margin", "chosen_prob", *BEST_FIRST)
    return (Comparison(prompt, tuple(answers), rest(row, *read, *(f"score_{name}" for name in BEST_FIRST))),)


def _prompt_and_answers(row: Mapping[str, Any], names: Sequence[str]) -> tuple[Turns, list[Turns]]:
    """The prompt is given beside the answers, or is what the answers begin with alike."""
    column = next((name for name in ("prompt", "conversations") if row.get(name) is not None), None)
    given = asked(row, column) if column else None
    values = [row.get(name) for name in names]
    if given is None and all(isinstance(value, str) and not spoken(value) for value in values):
        return _split_texts(row, [str(value) for value in values])
    turns = [conversation(row, name) for name in names]
    whole = [each[0]["role"] != "assistant" for each in turns]
    if given is not None and not any(whole):
        return given, turns
    if not all(whole):
        odd = names[whole.index(False)]
        raise InputError(f"there is no prompt: add a column 'prompt', or begin '{odd}' with the user's message")
    return _split_conversations(turns, given or ())


def _split_conversations(turns: Sequence[Turns], given: Turns) -> tuple[Turns, list[Turns]]:
    most = min(len(each) for each in turns) - 1
    shared = next((i for i in range(most) if any(each[i] != turns[0][i] for each in turns)), most)
    prompt, answers = turns[0][:shared], [each[shared:] for each in turns]
    other = next((each[0]["role"] for each in answers if each[0]["role"] != "assistant"), None)
    if other is not None:
        raise InputError(
            f"the conversations differ in message {shared + 1}, which is a {other} message: "
            "they have to be the same up to a reply of the assistant"
        )
    if given and prompt[-len(given) :] != given:
        raise InputError("the conversations do not begin with the column 'prompt': remove that column, or mend it")
    return prompt, answers


def _split_texts(row: Mapping[str, Any], texts: Sequence[str]) -> tuple[Turns, list[Turns]]:
    """What the texts begin with alike, up to a white space, is the prompt."""
    misnamed = [name for name in PROMPTS_BY_OTHER_NAMES if row.get(name)]
    if misnamed:
        raise InputError(f"there is no column 'prompt', but one called '{misnamed[0]}': rename it to 'prompt'")
    most = min(len(text) for text in texts) - 1
    shared = next((i for i in range(most) if any(text[i] != texts[0][i] for text in texts)), most)
    cut = next((i for i in range(shared, 0, -1) if all(text[i].isspace() and text[i:].strip() for text in texts)), 0)
    if not texts[0][:cut].strip():
        raise InputError("there is no column 'prompt', and the answers begin with no common text: add the prompt")
    answers: list[Turns] = [({"role": "assistant", "content": text[cut:].strip()},) for text in texts]
    return ({"role": "user", "content": texts[0][:cut]},), answers


def _unpaired(row: Mapping[str, Any]) -> tuple[Comparison, ...]:
    label = truth(row.get("label"), "column 'label'")
    answer = Answer(reply_in(row, "completion"), label=float(label))
    return (Comparison(prompt_in(row), (answer,), rest(row, "prompt", "completion", "label", "system")),)


def _attributes(row: Mapping[str, Any]) -> tuple[Comparison, ...]:
    given = {name: number(row, name) for name in ATTRIBUTES}
    scores = {name: value for name, value in given.items() if value is not None}
    if not scores:
        raise InputError(f"the answer has no score: fill at least one of {', '.join(ATTRIBUTES)}")
    answer = Answer(reply_in(row, "response"), scores=scores)
    return (Comparison(prompt_in(row), (answer,), rest(row, "prompt", "response", "system", *ATTRIBUTES)),)


def _ranked(row: Mapping[str, Any]) -> tuple[Comparison, ...]:
    """Nectar: ``answers`` with a ``rank`` each, the lowest the best, equal ones tied. ``model`` names go to ``meta``."""
    listed = row.get("answers")
    if not isinstance(listed, list) or len(listed) < 2:
        raise InputError("column 'answers' is no list of two answers or more: give each an 'answer' and a 'rank'")
    found = []
    for place, item in enumerate(listed, start=1):
        if not isinstance(item, dict):
            raise InputError(f"answer {place} is a JSON {json_name(item)}: make it an object with 'answer' and 'rank'")
        try:
            found.append((reply_in(item, "answer"), number(item, "rank")))
        except InputError as error:
            raise InputError(f"answer {place} of 'answers': {error}") from error
        if found[-1][1] is None:
            raise InputError(f"answer {place} of 'answers' has no rank: give it one, 1 for the best")
    order = sorted({rank for _, rank in found if rank is not None})
    answers = tuple(Answer(messages, order.index(rank)) for messages, rank in found if rank is not None)
    meta = rest(row, "prompt", "answers", "system")
    models = [item.get("model") for item in listed]
    return (Comparison(prompt_in(row), answers, meta | ({"models": models} if any(models) else {})),)


READERS: dict[Kind, Callable[[Mapping[str, Any]], tuple[Comparison, ...]]] = {
    "preference": _preference,
    "ranked": _ranked,
    "unpaired": _unpaired,
    "attributes": _attributes,
    "stepwise": steps.stepwise,
    "prm800k": steps.prm800k,
    "prm800k-rows": steps.prm800k_row,
}

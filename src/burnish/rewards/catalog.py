"""Reward names for the command line. No reward is imported before it is asked for, so that listing them is quick."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple, cast

from burnish.errors import unknown

if TYPE_CHECKING:
    from burnish.rewards.audit import Case
    from burnish.rewards.base import Composable


class Entry(NamedTuple):
    """``home`` is ``module:class`` below :mod:`burnish.rewards`, ``title`` says in one line what is rewarded.

    ``corpus`` is the module below :mod:`burnish.rewards.corpora` that has the cases of its audit, "" where there is none.
    They are written for one value of the reward: ``audited``, an expression, or else the bare name.
    """

    home: str
    title: str
    corpus: str = ""
    audited: str = ""


REWARDS: dict[str, Entry] = {
    "accuracy": Entry(
        "accuracy:Accuracy", "1 where the reply gives the answer: its number, list of numbers or words", corpus="accuracy"
    ),
    "math": Entry("math:Math", "1 where the reply states the answer, as mathematics: fractions, LaTeX, sets", corpus="math"),
    "code": Entry("code:Code", "1 where the program of the reply passes all tests, in a sandbox", corpus="code"),
    "format": Entry("format:Format", "1 where the whole reply is <think>..</think><answer>..</answer>", corpus="format"),
    "language": Entry("language:OneLanguage", "the share of words in the language of the question", corpus="language"),
    "overlong": Entry(
        "length:Overlong", "0 up to limit - buffer tokens, then down to -1", "overlong", "overlong(limit=100, buffer=40)"
    ),
    "kimi_length": Entry(
        "length:KimiLength", "shorter than the rest of the group: up to .5 if right, down to -.5", "kimi_length",
        "kimi_length(correct=accuracy)",
    ),
    "cosine_length": Entry(
        "length:CosineLength", "right and short is best, wrong and short is worst", "cosine_length",
        "cosine_length(correct=accuracy, limit=100)",
    ),
    "repetition": Entry("repetition:Repetition", "minus the share of n-grams that were there before", corpus="repetition"),
    "schema": Entry("schema:JsonSchema", "1 where the reply is JSON that fits a schema", corpus="schema"),
    "pattern": Entry("pattern:Pattern", "1 where the reply fits a regular expression", corpus="pattern"),
    "set_f1": Entry("sets:SetF1", "F1 of the items of the reply against those wanted", corpus="sets"),
    "ranked_list": Entry("ranked:RankedList", "how well the order of the reply agrees with the one wanted", corpus="ranked"),
    "states": Entry(
        "states:States", "the share of required intermediate states, in order", "states", 'states(pattern=r"\\(\\d, \\d\\)")'
    ),
    "instructions": Entry("instructions:Instructions", "the share of verifiable instructions (IFEval)", corpus="instructions"),
    "tool_calls": Entry("tools:ToolCalls", "1 where the reply calls the tools wanted, with these arguments", corpus="tools"),
}  # fmt: skip


JUDGES: dict[str, Entry] = {
    "judge": Entry("generative:GenerativeReward", "a judge reasons, then scores: a verdict as JSON"),
    "cot_math": Entry(
        "generative:GenerativeReward", "a judge says whether the answer is the known one (Kimi k1.5)", "judge"
    ),
    "rubric": Entry(
        "rubric:Rubric", "a judge says which class of a rubric the reply is in (GPT-4's RBRM)", corpus="rubric"
    ),
    "pairwise": Entry("pairwise:PairwiseJudge", "the share of the group that a judge puts below, asked in both orders"),
    "constitution": Entry(
        "constitution:Constitution", "the same under one principle for each prompt (Constitutional AI)"
    ),
}
"""Rewards that ask a model. Of which, the expression says: ``judge(model="...", url="...")``."""


def get(name: str) -> type[Composable]:
    """The class of that name. Raises InputError with the nearest name."""
    module, _, cls = _known(name).home.partition(":")
    return cast("type[Composable]", getattr(importlib.import_module(f"burnish.rewards.{module}"), cls))


def _known(name: str) -> Entry:
    if name not in REWARDS:
        raise unknown("reward", name, REWARDS)
    return REWARDS[name]


def judges() -> dict[str, str]:
    """``{name: title}`` of what asks a model."""
    return {name: entry.title for name, entry in JUDGES.items()}


def name_of(reward: Composable) -> str:
    """The name of the reward's class, "" where it has none."""
    cls = type(reward)
    homes = {f"burnish.rewards.{entry.home}": name for name, entry in REWARDS.items()}
    return homes.get(f"{cls.__module__}:{cls.__qualname__}", "")


def cases(name: str) -> tuple[Case, ...]:
    """The cases of its audit, also of a judge; none where it has no corpus. Raises InputError as :func:`get` does."""
    corpus = JUDGES[name].corpus if name in JUDGES else _known(name).corpus
    if not corpus:
        return ()
    return cast("tuple[Case, ...]", importlib.import_module(f"burnish.rewards.corpora.{corpus}").CASES)


def titles() -> dict[str, str]:
    """``{name: title}``."""
    return {name: entry.title for name, entry in REWARDS.items()}

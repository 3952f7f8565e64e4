"""Names of curation functions for the command line. None is imported before it is asked for, so that listing them is quick."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, cast

from burnish.errors import unknown


class Entry(NamedTuple):
    """``home`` is ``module:function`` below :mod:`burnish.loops.curate`, ``title`` says in one line what comes out."""

    home: str
    title: str


FUNCTIONS: dict[str, Entry] = {
    "reject": Entry("rejection:reject", "completions that are right, and pass filters"),
    "shortest": Entry("rejection:shortest", "to each prompt the shortest completion that is right (Kimi k1.5)"),
    "best": Entry("best_of_n:best", "to each prompt the completion that a reward likes best"),
    "majority": Entry("vote:majority", "prompts with the answer that most completions agree on"),
    "pairs": Entry("pairs:prefer", "to each prompt the best completion above the worst, by reward"),
    "long2short": Entry("pairs:long2short", "to each prompt the shortest right completion above long ones (Kimi k1.5)"),
    "difficulty": Entry("difficulty:rate", "prompts with pass rates; in a band, not guessed, of varied rewards"),
    "dedupe": Entry("duplicates:dedupe", "rows that repeat no earlier one, nor one of another file"),
    "balance": Entry("balancing:balance", "at most so many rows of each domain, answer or length"),
    "balance_pairs": Entry(
        "balancing:balance_pairs", "pairs whose lengths tell nothing about preference (ChatGLM-RLHF)"
    ),
    "add_tests": Entry("test_cases:add_tests", "code problems with tests that good programs agree on (Kimi k1.5)"),
    "select": Entry("selection:select", "a small selection: clean, hard, of every domain (s1)"),
    "synthesise": Entry("synthesis:synthesise", "dialogues about topics between two models (Nemotron-4)"),
    "synthesise_pairs": Entry("synthesis:synthesise_pairs", "the best reply of several models above the worst"),
    "revise": Entry("revision:revise", "replies criticised by principles and revised (Constitutional AI)"),
}


def get(name: str) -> Callable[..., Path]:
    """The stage function of that name. Raises InputError with the nearest name."""
    if name not in FUNCTIONS:
        raise unknown("function", name, FUNCTIONS)
    module, _, function = FUNCTIONS[name].home.partition(":")
    return cast("Callable[..., Path]", getattr(importlib.import_module(f"burnish.loops.curate.{module}"), function))


def titles() -> dict[str, str]:
    """``{name: title}``."""
    return {name: entry.title for name, entry in FUNCTIONS.items()}

"""Curation: functions that turn a model and a task into a data set that says where it came from.

``from burnish.loops import curate``, then ``run.stage(curate.reject, "1-data", model, task, cfg=curate.Rejection())``: each of
the names below is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from burnish.lazy import lazy

if TYPE_CHECKING:
    from burnish.loops.curate.balancing import balance, balance_pairs
    from burnish.loops.curate.base import Draw
    from burnish.loops.curate.best_of_n import Best, best
    from burnish.loops.curate.difficulty import Difficulty, Guessing, rate
    from burnish.loops.curate.duplicates import Near, dedupe
    from burnish.loops.curate.filters import (
        READABLE,
        AtMost,
        Either,
        Filter,
        NoCode,
        Not,
        SameLanguage,
        ShortParagraphs,
    )
    from burnish.loops.curate.pairs import BestWorst, Long2Short, long2short, prefer
    from burnish.loops.curate.rejection import Rejection, Shortest, reject, shortest
    from burnish.loops.curate.revision import Revising, revise
    from burnish.loops.curate.selection import Answered, OfLength, Readable, Selection, select
    from burnish.loops.curate.synthesis import Contest, Synthesis, synthesise, synthesise_pairs
    from burnish.loops.curate.test_cases import Rules, add_tests
    from burnish.loops.curate.vote import Vote, majority

_NAMES = {
    "balancing": ("balance", "balance_pairs"),
    "base": ("Draw",),
    "best_of_n": ("Best", "best"),
    "difficulty": ("Difficulty", "Guessing", "rate"),
    "duplicates": ("Near", "dedupe"),
    "filters": ("AtMost", "Either", "Filter", "NoCode", "Not", "READABLE", "SameLanguage", "ShortParagraphs"),
    "pairs": ("BestWorst", "Long2Short", "long2short", "prefer"),
    "rejection": ("Rejection", "Shortest", "reject", "shortest"),
    "revision": ("Revising", "revise"),
    "selection": ("Answered", "OfLength", "Readable", "Selection", "select"),
    "synthesis": ("Contest", "Synthesis", "synthesise", "synthesise_pairs"),
    "test_cases": ("Rules", "add_tests"),
    "vote": ("Vote", "majority"),
}

__all__ = [
    "READABLE",
    "Answered",
    "AtMost",
    "Best",
    "BestWorst",
    "Contest",
    "Difficulty",
    "Draw",
    "Either",
    "Filter",
    "Guessing",
    "Long2Short",
    "Near",
    "NoCode",
    "Not",
    "OfLength",
    "Readable",
    "Rejection",
    "Revising",
    "Rules",
    "SameLanguage",
    "Selection",
    "ShortParagraphs",
    "Shortest",
    "Synthesis",
    "Vote",
    "add_tests",
    "balance",
    "balance_pairs",
    "best",
    "dedupe",
    "long2short",
    "majority",
    "prefer",
    "rate",
    "reject",
    "revise",
    "select",
    "shortest",
    "synthesise",
    "synthesise_pairs",
]

if not TYPE_CHECKING:  # a type checker knows the names from above, and reports all others
    __getattr__, __dir__ = lazy(__name__, _NAMES)

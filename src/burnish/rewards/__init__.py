"""Rewards: values that score a group of completions, one kind a file.

``rewards.Math() | rewards.Code()``: the names below are each loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from burnish.lazy import lazy

if TYPE_CHECKING:
    from burnish.rewards.accuracy import Accuracy
    from burnish.rewards.base import Composable, RewardFunction, per_completion, total
    from burnish.rewards.canaries import Canaries
    from burnish.rewards.code import Code
    from burnish.rewards.constitution import Constitution
    from burnish.rewards.endpoint import Endpoint
    from burnish.rewards.ensemble import Ensemble
    from burnish.rewards.expression import parse
    from burnish.rewards.format import Format
    from burnish.rewards.function import UserReward, load_function
    from burnish.rewards.generative import GenerativeReward, cot_math
    from burnish.rewards.instructions import Instructions
    from burnish.rewards.language import OneLanguage
    from burnish.rewards.length import CosineLength, KimiLength, Overlong
    from burnish.rewards.math import Math
    from burnish.rewards.pairwise import PairwiseJudge
    from burnish.rewards.pattern import Pattern
    from burnish.rewards.pool import Pooled
    from burnish.rewards.ranked import RankedList
    from burnish.rewards.record import recorded
    from burnish.rewards.repetition import Repetition
    from burnish.rewards.rubric import Rubric
    from burnish.rewards.schema import JsonSchema
    from burnish.rewards.sets import SetF1
    from burnish.rewards.states import States
    from burnish.rewards.tools import ToolCalls
    from burnish.rewards.wrappers import Against, Clipped, Normalised, WithinGroup

_NAMES = {
    "accuracy": ("Accuracy",),
    "base": (
        "Composable",
        "RewardFunction",
        "per_completion",
        "total",
    ),
    "canaries": ("Canaries",),
    "code": ("Code",),
    "constitution": ("Constitution",),
    "endpoint": ("Endpoint",),
    "ensemble": ("Ensemble",),
    "expression": ("parse",),
    "format": ("Format",),
    "function": (
        "UserReward",
        "load_function",
    ),
    "generative": (
        "GenerativeReward",
        "cot_math",
    ),
    "instructions": ("Instructions",),
    "language": ("OneLanguage",),
    "length": (
        "CosineLength",
        "KimiLength",
        "Overlong",
    ),
    "math": ("Math",),
    "pairwise": ("PairwiseJudge",),
    "pattern": ("Pattern",),
    "pool": ("Pooled",),
    "ranked": ("RankedList",),
    "record": ("recorded",),
    "repetition": ("Repetition",),
    "rubric": ("Rubric",),
    "schema": ("JsonSchema",),
    "sets": ("SetF1",),
    "states": ("States",),
    "tools": ("ToolCalls",),
    "wrappers": (
        "Against",
        "Clipped",
        "Normalised",
        "WithinGroup",
    ),
}

__all__ = [
    "Accuracy",
    "Against",
    "Canaries",
    "Clipped",
    "Code",
    "Composable",
    "Constitution",
    "CosineLength",
    "Endpoint",
    "Ensemble",
    "Format",
    "GenerativeReward",
    "Instructions",
    "JsonSchema",
    "KimiLength",
    "Math",
    "Normalised",
    "OneLanguage",
    "Overlong",
    "PairwiseJudge",
    "Pattern",
    "Pooled",
    "RankedList",
    "Repetition",
    "RewardFunction",
    "Rubric",
    "SetF1",
    "States",
    "ToolCalls",
    "UserReward",
    "WithinGroup",
    "cot_math",
    "load_function",
    "parse",
    "per_completion",
    "recorded",
    "total",
]


if not TYPE_CHECKING:  # a type checker knows the names from above, and reports all others
    __getattr__, __dir__ = lazy(__name__, _NAMES)

"""The losses of reward models by name: what a published one was trained with is one line.

Outcome models read the head ``score`` at the last token of an answer, process models the head ``step`` after each step. No
loss here needs log-probs or a reference. The string under each constant is its documentation.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from burnish.core import named
from burnish.core.links import Logistic
from burnish.core.preference import Preference
from burnish.core.process import StepBinary, StepClasses
from burnish.core.ranking import (
    L2,
    Attributes,
    Barrier,
    Centre,
    Focal,
    Penalised,
    PlackettLuce,
    Pointwise,
    PointwiseTokens,
)
from burnish.core.scores import HeadScore
from burnish.types import Batch, Metrics, Needs, Outputs

RewardLoss = Preference | Penalised | PlackettLuce | Attributes | Pointwise | PointwiseTokens | StepClasses | StepBinary

# What a loss in a configuration may be.
CLASSES = (Preference, Penalised, PlackettLuce, Attributes, Pointwise, PointwiseTokens, StepClasses, StepBinary)


class JudgeLoss(Protocol):
    """A loss of a reward model, whichever: what a setting takes that names one of this table."""

    @property
    def needs(self) -> Needs: ...
    def prepare(self, batch: Batch) -> Batch: ...
    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Metrics]: ...


BRADLEY_TERRY = Preference(HeadScore(), Logistic())
"""Bradley-Terry on all pairs of a prompt's answers (InstructGPT, arXiv:2203.02155).

    P(w > l) = sigma(r_w - r_l),   loss = mean over prompts of 1/C(K, 2) sum over pairs of -log sigma(r_w - r_l)

K ranked answers are one unit of K rows: each is read once, and a prompt weighs 1 whatever its K. Ties make no pair. With
the soft label p of a pair (a judge's probability, arXiv:2212.08073) the loss is -p log sigma(d) - (1 - p) log sigma(-d). Only
differences count, so scores are free by a number. Neighbour: Plackett-Luce has the likelihood of the whole ranking."""

LLAMA2 = Preference(HeadScore(), Logistic(given=1.0))
"""Bradley-Terry with the annotators' margin (Llama 2, arXiv:2307.09288).

    loss = -log sigma(r_w - r_l - m),   m = the target "margin" of the better answer, larger where it is clearly better

Neighbour: Bradley-Terry asks for the same distance of a close call and of a clear one."""

CENTRED = Penalised(BRADLEY_TERRY, (Centre(0.01),))
"""Bradley-Terry with scores about 0 (arXiv:2312.09244).

    loss = -log sigma(r_w - r_l) + .01 (r_w + r_l)^2

The zero of the scores, which comparisons leave open, is set while training. Neighbour: an offset set afterwards, on
demonstrations (``RewardModel.centred``)."""

CHATGLM = Penalised(BRADLEY_TERRY, (L2(0.01),))
"""The reward model of ChatGLM-RLHF (arXiv:2404.00934).

    loss = -log sigma(r_w - r_l) + c (r_w^2 + r_l^2)

A zero-mean Gaussian prior on the scores; c is a choice (unpublished). Its data are balanced by length
(``burnish.data.transforms.balance_lengths``), and its reward is r(x, y) - r(x, y_ref). Neighbour: CENTRED."""

INTERNLM2 = Penalised(Preference(HeadScore(), Focal(2.0)), (Barrier(0.02, 5.0),))
"""The conditional reward model of InternLM2 (arXiv:2403.17297).

    P = sigma(r_w - r_l),   loss = -(1 - 2 max(0, P - 1/2))^2 log P - .02 mean over both x of [log(x + 5) + log(5 - x)]

Pairs that are told apart already fade out, those that are not keep their whole weight, and scores stay within (-5, 5). A
system prompt names what to judge by, for this model alone (``burnish.data.transforms.condition``)."""

PLACKETT_LUCE = PlackettLuce()
"""The K-wise loss of arXiv:2301.11270 (Starling-7B: K = 7).

    loss = mean over prompts of -sum_{k < K} log( e^{r_(k)} / sum_{j >= k} e^{r_(j)} )

An answer competes with those that are strictly worse: ties say nothing about each other. K = 2 is Bradley-Terry."""

HELPSTEER2 = Attributes(("helpfulness", "correctness", "coherence", "complexity", "verbosity"))
"""Regression on five attributes (Nemotron-4-340B-Reward, arXiv:2406.11704; the ratings are HelpSteer2's).

    loss = mean over the targets that are given of (s_a - target_a)^2

One head of five outputs; what they weigh in a reward is chosen when it is used. Neighbour: Bradley-Terry needs comparisons
and no scale."""

OUTCOME = Pointwise()
"""An outcome reward model: is the answer right?

    loss = -p log sigma(r) - (1 - p) log sigma(-r),   p = the label, r = the score at the last token

Neighbour: PRM800K judges the way, this one where it ends."""

OUTCOME_TOKENS = PointwiseTokens()
"""The outcome reward model of arXiv:2305.20050: the label of the whole at every token; the last one is read."""

PRM800K = StepClasses()
"""The process reward model of PRM800K (arXiv:2305.20050).

    loss = mean over rated steps, up to and with the first wrong one, of -log P(wrong, neutral or good)

The score of a solution is the product over its steps of P(good) + P(neutral) (``burnish.core.process``). Neighbour:
MATH_SHEPHERD has labels from rollouts."""

PRM_BINARY = StepBinary()
"""A process reward model of right and wrong steps, neutral ones being right (arXiv:2305.20050).

    loss = mean over rated steps, up to and with the first wrong one, of -p log sigma(z) - (1 - p) log sigma(-z)

For steps with labels of two kinds. Neighbour: PRM800K has a class for neutral steps, MATH_SHEPHERD soft ones from rollouts."""

MATH_SHEPHERD = StepBinary(neutral=0.5, beyond=True)
"""The process reward model of Math-Shepherd (arXiv:2312.08935).

    loss = mean over all steps of -p log sigma(z) - (1 - p) log sigma(-z)

p is 1 where any of 8 rollouts from the end of the step came out right (hard), or their share (soft): see
``burnish.loops.step_labels``. The score of a solution is its lowest step."""


def table() -> dict[str, RewardLoss]:
    """Every named loss of this module, by its lower-case name."""
    return named.constants(globals(), RewardLoss)


def get(name: str) -> RewardLoss:
    """The loss of that name, in any case, with ``-`` or ``_``. Raises InputError naming the nearest one."""
    return named.find("reward-model loss", name, table())


def notes() -> dict[str, str]:
    """The documentation string under each constant of this file, by lower-case name."""
    return named.notes(__file__, table())

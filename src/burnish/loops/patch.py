"""Where a policy fools its reward model, and the comparisons that say so: the fast path of COOL (arXiv:2403.17297).

The reward function as an adversary of its own policy (arXiv:1606.06565): look where the policy has gone, have a trusted rule
judge a little of that, train the reward model on it as well, and go on.

    for k in range(rounds):
        policy = run.stage(rl, f"{k}-rl", policy, task, reward=RewardModel(judge), algo=PPO, cfg=s.rl)
        found = run.stage(patch, f"{k}-patch", policy, start, task, proxy=RewardModel(judge), gold=rule, cfg=s.patch)
        pairs = (*pairs, *Comparisons(found))
        judge = run.stage(fit, f"{k}-judge", base, pairs, loss=BRADLEY_TERRY, cfg=s.judge)

It is a game of two players, so what has been found stays: the reward model is trained on the union, lest it forgets one hole
while it mends the next.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

from burnish import files
from burnish.engines.local import Engine
from burnish.errors import InputError
from burnish.loops.curate.base import Draw, draw
from burnish.rewards.base import RewardFunction
from burnish.stage import Stage
from burnish.types import Answer, Comparison, Completion, Example, Sampling, Task


class Seen(NamedTuple):
    """Completions of one prompt: ``late`` by the policy that the reward model has trained, ``early`` by the one before."""

    example: Example
    late: Sequence[Completion]
    early: Sequence[Completion]


class Judged(NamedTuple):
    """A completion with what the reward model says of it, and the rule."""

    completion: Completion
    proxy: float
    gold: float


def mine(proxy: RewardFunction, gold: RewardFunction, seen: Seen, labels: int) -> list[Judged]:
    """At most ``2 labels`` completions of a prompt with different texts, judged by the rule: the only ones that it sees.

    Of the late ones those with the highest ``proxy``, where a hack would be; of the early ones the first, as they come: with
    nothing to gain from the reward model they are a fair sample of what is honest.
    """
    late, early = (list({c.text: c for c in some}.values()) for some in (seen.late, seen.early))
    every = list({c.text: c for c in (*late, *early)}.values())
    score = dict(zip((c.text for c in every), _totals(proxy, seen.example, every), strict=True))
    best = sorted(late, key=lambda c: (-score[c.text], c.text))[:labels]
    chosen = list({c.text: c for c in (*best, *early[:labels])}.values())
    golds = _totals(gold, seen.example, chosen)
    return [Judged(c, score[c.text], verdict) for c, verdict in zip(chosen, golds, strict=True)]


def contrasts(
    proxy: RewardFunction, gold: RewardFunction, found: Sequence[Seen], *, labels: int = 2, pairs: int = 100
) -> list[Comparison]:
    """Pairs that the rule tells apart, among the completions that :func:`mine` chose: at most ``pairs``, worst mistakes first.

    A mistake is as large as ``proxy(worse) - proxy(better)``, and negative where the reward model agrees with the rule. It
    stands in ``meta`` as "mistake". COOL adds 20 to 100 such pairs to the data of its reward model.
    """
    every = []
    for seen in found:
        for better, worse in permutations(mine(proxy, gold, seen, labels), 2):
            if better.gold > worse.gold:
                answers = (Answer(better.completion.messages, 0), Answer(worse.completion.messages, 1))
                meta = {"mistake": worse.proxy - better.proxy}
                every.append(Comparison(seen.example.messages, answers, meta))
    return sorted(every, key=lambda pair: -float(pair.meta["mistake"]))[:pairs]


def _totals(reward: RewardFunction, example: Example, completions: Sequence[Completion]) -> list[float]:
    return [sum(part.value for part in parts) for parts in reward(example, completions)]


# --- a stage -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PatchConfig:
    """``samples`` completions by each of the two policies to each of ``prompts`` prompts, ``labels`` of them for the rule."""

    prompts: int = 50
    samples: int = 8
    labels: int = 2
    pairs: int = 100
    sampling: Sampling = field(default_factory=Sampling)
    engine: Engine = field(default_factory=Engine)

    def __post_init__(self) -> None:
        if min(self.prompts, self.samples, self.labels, self.pairs) < 1:
            raise ValueError("prompts, samples, labels and pairs are at least 1")


def patch(
    stage: Stage, late: Path, early: Path, task: Task, *, proxy: RewardFunction, gold: RewardFunction, cfg: PatchConfig
) -> Path:
    """A stage: the pairs of :func:`contrasts` from two policies, as a file for :class:`burnish.data.comparisons.Comparisons`.

    Raises InputError where the rule tells no two completions apart: there is nothing to learn from those.
    """
    asked = Draw(cfg.prompts, cfg.samples, cfg.sampling, cfg.engine)
    drawn = [draw(stage, model, task, asked, who) for who, model in (("late", late), ("early", early))]
    found = [Seen(new.example, new.completions, old.completions) for new, old in zip(*drawn, strict=True)]
    pairs = contrasts(proxy, gold, found, labels=cfg.labels, pairs=cfg.pairs)
    if not pairs:
        raise InputError(
            f"the rule gives the completions of each of {len(found)} prompts one value, so that none is better than "
            "another: take more of them (samples, labels), other prompts, or policies that differ"
        )
    wrong = sum(float(pair.meta["mistake"]) >= 0 for pair in pairs)
    stage.view.say(f"{stage.name}: {len(pairs)} pairs; the reward model has {wrong} of them the wrong way round")
    path = stage.directory / "pairs.jsonl"
    files.write_text(path, "".join(json.dumps(_record(pair)) + "\n" for pair in pairs))
    return path


def _record(pair: Comparison) -> dict[str, object]:
    chosen, rejected = (list(answer.messages) for answer in pair.answers)
    return {"prompt": list(pair.prompt), "chosen": chosen, "rejected": rejected, **pair.meta}

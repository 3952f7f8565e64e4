"""Best-of-n as a data set: the best of each prompt, and the curve that the same draw gives for every smaller n."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import pytest
from quiz import SETTINGS, TABLE, Quiz, Right, curate, group, provenance, rows, said

from burnish.core.estimates import best_of_n_kl
from burnish.data.datasets import Dataset
from burnish.loops.curate.best_of_n import Best, best, bests, curve
from burnish.loops.curate.filters import AtMost
from burnish.rewards.base import Composable, per_completion
from burnish.types import Completion, Example, Reward, outcome
from words import write


@dataclass(frozen=True)
class Long(Composable):
    """Pays for length: a proxy that a policy fools by thinking for ever."""

    @per_completion
    def __call__(self, example: Example, completion: Completion) -> Reward:  # noqa: ARG002
        return outcome(len(completion.tokens))


def test_of_each_prompt_the_best_that_ends() -> None:
    one = group("a", ("low", 0.1), ("high", 0.9), ("as high", 0.9), ("long one that is best", 2.0))
    cut = group("b", ("short", -1.0))
    cut.append(cut[0]._replace(completion=said("cut off", finish="length"), reward=5.0))
    chosen, counts = bests([one, cut], (AtMost(4),))
    assert [s.completion.text for s in chosen] == ["high", "short"]
    assert list(counts.values()) == [6, 5, 4, 2]


def test_the_curve_is_the_mean_over_prompts_of_all_subsets() -> None:
    golds, proxies = [[1.0, 0.0, 3.0], [2.0, 2.5, 0.0]], [[1.0, 2.0, 3.0], [5.0, 1.0, 0.0]]
    for n in (1, 2, 3):
        each = [
            [gold[max(subset, key=proxy.__getitem__)] for subset in combinations(range(3), n)]
            for gold, proxy in zip(golds, proxies, strict=True)
        ]
        assert curve(golds, proxies, n) == pytest.approx(sum(sum(e) / len(e) for e in each) / 2)


def test_the_stage_writes_the_best_and_the_curve(tmp_path: Path) -> None:
    model = write(tmp_path / "table", TABLE)
    path = curate(tmp_path / "run", best, model, Quiz(), reward=Long(), gold=Right(), cfg=Best(samples=24, **SETTINGS))
    found = rows(path)
    assert len(found) == len(Dataset(path)) == 2 and all(row["reward"] >= 3 for row in found)
    points = provenance(path)["source"]["best_of_n"]
    assert [p["n"] for p in points] == [1, 2, 4, 8, 16, 24]
    assert [p["kl"] for p in points] == [best_of_n_kl(n) for n in (1, 2, 4, 8, 16, 24)] and points[0]["kl"] == 0
    proxy, gold = ([p[name] for p in points] for name in ("reward", "gold"))
    assert proxy == sorted(proxy) and proxy[0] < proxy[-1] and gold[-1] < gold[0], "a proxy of length is fooled"
    without = provenance(curate(tmp_path / "other", best, model, Quiz(), cfg=Best(samples=4, **SETTINGS)))
    assert [set(p) for p in without["source"]["best_of_n"]] == [{"n", "kl", "reward"}] * 3
    assert math.isclose(without["source"]["best_of_n"][1]["kl"], math.log(2) - 1 / 2)

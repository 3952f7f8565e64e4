"""What N samples of a prompt say about n of them: pass@k, cons@k, best-of-n. All are exact means over every subset.

So they are unbiased: the mean over the n-subsets of N independent samples is, on average, what n samples give.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from fractions import Fraction
from itertools import groupby


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """The unbiased estimate of P(at least one of k is right): 1 - C(n-c, k)/C(n, k) (arXiv:2107.03374)."""
    return 1.0 - math.comb(samples - correct, k) / math.comb(samples, k)


def cons_at_k(answers: Sequence[Hashable | None], right: Sequence[bool], k: int) -> float:
    """The unbiased estimate of P(the answer that most of k samples give is right) (self-consistency, arXiv:2203.11171).

    ``answers[i]`` is the same for samples that agree, None for one that says nothing: it is drawn and does not vote. Ties are
    broken by lot, and where nobody votes the verdict is wrong. ``right[i]`` says whether sample i is right. Raises
    ValueError unless ``1 <= k <= len(answers)``.
    """
    _check_size(k, len(answers))
    votes = Counter(answer for answer in answers if answer is not None)
    good = Counter(answer for answer, ok in zip(answers, right, strict=True) if ok and answer is not None)
    chance = {count: _wins(count, votes, len(answers), k) for count in {votes[answer] for answer in good}}
    return float(sum(chance[votes[answer]] * Fraction(ok, votes[answer]) for answer, ok in good.items()))


def _wins(own: int, votes: Counter[Hashable], samples: int, k: int) -> Fraction:
    """P(an answer with ``own`` votes among all samples wins among k), by counting the subsets.

    Of the other answers only the number that reach as many votes m matters: ``ways[used, ties]`` subsets of the others
    hold ``used`` samples, with ``ties`` answers at m and none above.
    """
    others = list(votes.values())
    others.remove(own)
    silent = samples - votes.total()
    won = Fraction(0)
    for m in range(1, min(own, k) + 1):
        ways = Counter({(used, 0): math.comb(silent, used) for used in range(min(silent, k - m) + 1)})
        for count in others:
            longer: Counter[tuple[int, int]] = Counter()
            for (used, ties), number in ways.items():
                for more in range(min(count, m, k - m - used) + 1):
                    longer[used + more, ties + (more == m)] += number * math.comb(count, more)
            ways = longer
        shared = sum(Fraction(number, ties + 1) for (used, ties), number in ways.items() if used == k - m)
        won += math.comb(own, m) * shared
    return won / math.comb(samples, k)


def best_of_n(gold: Sequence[float], proxy: Sequence[float], n: int) -> float:
    """The unbiased estimate of the mean ``gold`` of the sample that ``proxy`` likes best of n (arXiv:2112.09332).

    ``sum_i C(i-1, n-1)/C(N, n) g_(i)`` over the N samples, sorted by proxy. Samples with one proxy are chosen among by lot,
    which is the mean over all orders of them. Raises ValueError unless ``1 <= n <= N``.
    """
    _check_size(n, len(proxy))
    ranked = sorted(zip(proxy, gold, strict=True), key=lambda pair: -pair[0])
    mean, left, none_above = 0.0, len(proxy), 1.0
    for _, tied in groupby(ranked, key=lambda pair: pair[0]):
        golds = [g for _, g in tied]
        before = none_above  # C(left, n)/C(N, n): the chance that no better sample is among the n
        for _ in golds:
            none_above *= (left - n) / left if left >= n else 0.0
            left -= 1
        mean += (before - none_above) * math.fsum(golds) / len(golds)
    return mean


def best_of_n_kl(n: int) -> float:
    """KL(best of n || what it is drawn from) = ``log n - (n-1)/n``, in nats (arXiv:2210.10760).

    Exact where no two samples have one score, and an upper bound where they may. Raises ValueError for n below 1.
    """
    _check_size(n, n)
    return math.log(n) - (n - 1) / n


def _check_size(k: int, samples: int) -> None:
    if not 1 <= k <= samples:
        raise ValueError(f"{k} of {samples} samples: give a number from 1 to as many as there are")

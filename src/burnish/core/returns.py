"""Credit token by token: returns to go, process rewards, a critic's advantages. Everything runs along an episode's chosen
tokens (:class:`burnish.core.episodes.Timeline`): environment tokens and the cuts between segments take no time.

With r_t the reward that follows choice t, T the number of choices and V after the end 0:
``G_t = sum over l >= t of gamma^(l-t) r_l`` and ``delta_t = r_t + gamma V(s_{t+1}) - V(s_t)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.core.advantages import Advantage, State
from burnish.core.episodes import Episodes, Timeline, chosen
from burnish.types import Batch


def discounted(line: Tensor, rate: float | Tensor) -> Tensor:
    """[E, L] ``y_t = x_t + rate y_{t+1}`` from the end backwards; ``rate`` is a number or [E]. Zeros after an end stay out."""
    out = torch.zeros_like(line)
    later = line.new_zeros(len(line))
    for t in reversed(range(line.shape[1])):
        later = line[:, t] + rate * later
        out[:, t] = later
    return out


@dataclass(frozen=True)
class Return(Advantage):
    """``A_t = G_t``, the return to go (Williams 1992); ``to_go=False``: ``A_t = G_0``, the whole return on every token.

    Rewards before a choice cannot depend on it: leaving them out keeps the mean, and most often lowers the variance.
    """

    gamma: float = 1.0
    to_go: bool = True

    def __call__(self, batch: Batch, rewards: Tensor, state: State) -> Tensor:  # noqa: ARG002
        timeline = Timeline.of(batch)
        future = discounted(timeline.lay(rewards), self.gamma)
        if not self.to_go:
            future = future[:, :1].expand_as(future)
        return _trained(timeline, future, batch)


@dataclass(frozen=True)
class GAE(Advantage):
    """``A_t = sum_l (gamma lam)^l delta_{t+l}``, critic target ``R_t = A_t + V(s_t)`` (arXiv:1506.02438).

    lam 1 is the Monte Carlo return minus V, lam 0 the one-step TD error. ``lam_value`` is another lambda for the critic's
    target (VAPO, arXiv:2504.05118: 1). With ``alpha`` the policy's lambda grows with the length of the episode,
    ``lam = 1 - 1/(alpha T)`` and at least 0, and ``lam`` is then the critic's only (VAPO: alpha .05). A lambda that knows
    how long an answer will become is a bias, even with an exact critic.
    """

    gamma: float = 1.0
    lam: float = 0.95
    lam_value: float | None = None
    alpha: float = 0.0

    needs_critic = True

    def __call__(self, batch: Batch, rewards: Tensor, state: State) -> Tensor:  # noqa: ARG002
        timeline = Timeline.of(batch)
        lam: float | Tensor = self.lam
        if self.alpha:
            lam = (1 - 1 / (self.alpha * timeline.length.clamp(min=1).to(rewards.dtype))).clamp(min=0)
        return _trained(timeline, self._line(timeline, batch, rewards, lam), batch)

    def returns(self, batch: Batch, rewards: Tensor) -> Tensor:
        timeline, values = Timeline.of(batch), _values(batch, rewards)
        lam = self.lam if self.lam_value is None else self.lam_value
        return timeline.put(self._line(timeline, batch, rewards, lam) + timeline.lay(values))

    def _line(self, timeline: Timeline, batch: Batch, rewards: Tensor, lam: float | Tensor) -> Tensor:
        return discounted(_errors(timeline, batch, rewards, self.gamma), self.gamma * lam)


@dataclass(frozen=True)
class NStep(Advantage):
    """``A_t = r_t + .. + gamma^(n-1) r_{t+n-1} + gamma^n V(s_{t+n}) - V(s_t)`` (Sutton and Barto 2018, chapter 7).

    n = 1 is TD(0), which is GAE with lam 0; n >= T is GAE with lam 1.
    """

    n: int = 1
    gamma: float = 1.0

    needs_critic = True

    def __call__(self, batch: Batch, rewards: Tensor, state: State) -> Tensor:  # noqa: ARG002
        timeline = Timeline.of(batch)
        errors = _errors(timeline, batch, rewards, self.gamma)
        return _trained(timeline, self._sum(errors), batch)

    def returns(self, batch: Batch, rewards: Tensor) -> Tensor:
        timeline = Timeline.of(batch)
        errors = _errors(timeline, batch, rewards, self.gamma)
        return timeline.put(self._sum(errors) + timeline.lay(_values(batch, rewards)))

    def _sum(self, errors: Tensor) -> Tensor:
        """The n-step advantage is the sum of the next n one-step errors, discounted: their values telescope."""
        total = torch.zeros_like(errors)
        for i in range(min(self.n, errors.shape[1])):
            total += self.gamma**i * _later(errors, i)
        return total


def _trained(timeline: Timeline, line: Tensor, batch: Batch) -> Tensor:
    """[B, T] the values of a line at the tokens that are trained on, 0 elsewhere."""
    return torch.where(chosen(batch), timeline.put(line), 0.0)


def _later(line: Tensor, choices: int) -> Tensor:
    """[E, L] what stands on the line that many choices later, 0 beyond its end."""
    return torch.cat([line[:, choices:], torch.zeros_like(line[:, :choices])], 1)


def _values(batch: Batch, rewards: Tensor) -> Tensor:
    """[B, T] V at the chosen tokens, 0 elsewhere. The value of a token is that of the state before it."""
    assert batch.values is not None
    return torch.where(batch.mask, batch.values.to(rewards.dtype), 0.0)


def _errors(timeline: Timeline, batch: Batch, rewards: Tensor, gamma: float) -> Tensor:
    """[E, L] ``delta_t``. Beyond an episode's end rewards and values are 0, and so are the errors."""
    values = timeline.lay(_values(batch, rewards))
    return timeline.lay(rewards) + gamma * _later(values, 1) - values


@dataclass(frozen=True)
class ProcessGroup(Advantage):
    """``A_{i,t} = sum of the normalised rewards of the steps of i that end at or after t`` (DeepSeekMath, arXiv:2402.03300).

    The rewards of all steps of all completions of a prompt are normalised together: ``(r - mean) / std``, sample standard
    deviation, no epsilon, 0 where all are equal. Where steps end is in ``batch.extras["steps"]`` ([B, T] bool): a step
    may be rewarded with exactly 0. ``std=False`` only centres.
    """

    std: bool = True

    def __call__(self, batch: Batch, rewards: Tensor, state: State) -> Tensor:  # noqa: ARG002
        episodes, timeline = Episodes.of(batch), Timeline.of(batch)
        ends = batch.extra("steps") & batch.train[:, None]
        kept = torch.where(ends, rewards, 0.0)
        count = episodes.group_sums(episodes.sums(ends.to(rewards.dtype))).clamp(min=1)
        mean = (episodes.group_sums(episodes.sums(kept)) / count)[episodes.of_row, None]
        centred = torch.where(ends, rewards - mean, 0.0)
        largest = _group_max(episodes, kept.abs())
        centred = torch.where(centred.abs() <= 1e-12 * largest, 0.0, centred)
        if self.std:
            squares = episodes.group_sums(episodes.sums(centred.square()))
            deviation = (squares / (count - 1).clamp(min=1)).sqrt()[episodes.of_row, None]
            centred = torch.where(deviation > 0, centred / deviation.where(deviation > 0, torch.ones(())), 0.0)
        return _trained(timeline, discounted(timeline.lay(centred), 1.0), batch)


def _group_max(episodes: Episodes, per_token: Tensor) -> Tensor:
    """[B, 1] the largest value of each row's group."""
    group = episodes.group[episodes.of_row]
    top = per_token.amax(1)
    return per_token.new_zeros(len(episodes.group)).scatter_reduce(0, group, top, "amax")[group][:, None]


@dataclass(frozen=True)
class Whiten(Advantage):
    """``A <- (A - mean A) / (std A + 1e-8)`` over all chosen tokens of the batch, around another advantage.

    REINFORCE++ (arXiv:2501.03262) calls it global advantage normalisation; many PPO codes do it too. It is a statistic of
    the whole rollout batch. ``centre=False`` only divides.
    """

    inner: Advantage
    centre: bool = True

    @property
    def needs_critic(self) -> bool:  # type: ignore[override]
        return self.inner.needs_critic

    @property
    def needs_greedy(self) -> bool:  # type: ignore[override]
        return self.inner.needs_greedy

    @property
    def needs_group(self) -> bool:  # type: ignore[override]
        return self.inner.needs_group

    @property
    def rival(self) -> float | None:  # type: ignore[override]
        return self.inner.rival

    def __call__(self, batch: Batch, rewards: Tensor, state: State) -> Tensor:
        advantages = self.inner(batch, rewards, state)
        where = chosen(batch)
        if int(where.sum()) < 2:
            return advantages
        among = advantages[where]
        if self.centre:
            among = among - among.mean()
            # What is left of equal advantages is rounding, and the division must not make a signal of it.
            among = torch.where(among.abs() <= 1e-12 * advantages.abs().max(), 0.0, among)
        return torch.zeros_like(advantages).masked_scatter(where, among / (among.std() + 1e-8))

    def returns(self, batch: Batch, rewards: Tensor) -> Tensor | None:
        return self.inner.returns(batch, rewards)

    def init(self) -> State:
        return self.inner.init()

    def update(self, state: State, batch: Batch) -> State:
        return self.inner.update(state, batch)

"""Online merging optimizers (arXiv:2405.17931): each step of Adam is merged with what fine-tuning had changed before.

With ``tau = theta_start - theta_base``, the change from the base to the model that training starts from, and Adam's step
``delta = -lr m / (sqrt v + eps)``,

    theta <- (1 - lr wd) theta + (1 - alpha) delta' + alpha tau'

where delta' and tau' are sparse versions of both: random entries (:class:`OnDARE`), or large ones that agree
(:class:`OnTIES`). So training keeps moving towards what it might forget. With ``online_step`` k, k - 1 steps are Adam's own;
the k-th takes them back and merges the sum of all k.

What differs from the authors' code: weights decay before the step, and eps is added after the bias correction, as in
:class:`~burnish.engines.optim.AdamW`, so that with alpha 0 and reserve 1 the weights are that optimizer's, bit for bit; in
the steps between two merges every parameter moves (there, only the first one does); and of a tensor with fewer than
1/reserve entries OnTIES keeps one (there, all).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from burnish.core import keys, merging
from burnish.engines.optim import AdamW
from burnish.engines.pretrained import resolve
from burnish.engines.shards import Shards
from burnish.errors import InputError

LIMIT = 1.0
"""The largest entry of OnDARE's tau, and of a step that was rescaled: division by a small share makes large ones."""


@dataclass(frozen=True)
class Merging(AdamW):
    """AdamW whose step is merged with tau = theta_start - theta_base, what the start had learnt since ``base``.

    Of both the share ``reserve`` of the entries is kept; ``alpha`` is the weight of tau. With ``online_step`` k > 1 plain steps
    are taken in between, and every k-th merges what they add up to. The settings are those of the authors' script.
    """

    base: str = ""
    reserve: float = 0.01
    alpha: float = 1e-7
    online_step: int = 1
    rescale: bool = False

    def __post_init__(self) -> None:
        merging.check_share(self.reserve, "reserve")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha={self.alpha}: the share of the reference is between 0 and 1")
        if self.online_step < 1:
            raise ValueError(f"online_step={self.online_step}: every step is merged with 1, every second with 2")

    @abstractmethod
    def reference(self, tau: Tensor, name: str) -> Tensor:
        """tau', computed once."""

    @abstractmethod
    def merged(self, delta: Tensor, tau: Tensor | None, name: str, step: int) -> Tensor:
        """``(1 - alpha) delta' + alpha tau'``; ``tau`` is None where alpha is 0."""

    def build(self, masters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        return OnlineAdamW(self, masters)

    @property
    def slots(self) -> int:
        return 2 + (self.alpha > 0) + (self.online_step > 1)

    def check(self, *, adapter: bool) -> None:
        kind = type(self).__name__
        if self.alpha and adapter:
            raise InputError(
                f"{kind} moves the weights towards what changed since '{self.base or 'the base'}', which an adapter does not "
                "hold: train all weights (engine.adapter=none), or leave the reference out (engine.optimizer.alpha=0)"
            )
        if self.alpha and not self.base:
            raise InputError(
                f"{kind} needs the base that the model was made from: set engine.optimizer.base to its directory or name, or "
                "engine.optimizer.alpha=0 to leave the reference out"
            )


@dataclass(frozen=True)
class OnDARE(Merging):
    """OnDARE-AdamW: of each step and of tau a random share ``reserve`` of the entries (arXiv:2405.17931).

        delta' = B delta / reserve,   tau' = clamp(B' tau / reserve, -1, 1),   B, B' ~ Bernoulli(reserve)

    B is drawn at every step, B' once. The mean over masks is ``(1 - alpha) delta + alpha tau``, up to the clamp. With
    ``rescale`` delta' is stretched to the length (L1) of delta and clamped too. Masks follow from ``seed``, step and name,
    on one kind of device. ``base`` names the model that the start was made from. Share and alpha are those of the authors'
    script. Neighbour: :class:`OnTIES` keeps the largest entries and drops those against the majority.
    """

    seed: int = 0

    def reference(self, tau: Tensor, name: str) -> Tensor:
        return self._thinned(tau, keys.derive("ondare", self.seed, name)).clamp_(-LIMIT, LIMIT)

    def merged(self, delta: Tensor, tau: Tensor | None, name: str, step: int) -> Tensor:
        thin = self._thinned(delta, keys.derive("ondare", self.seed, name, step))
        if self.rescale and self.reserve < 1:
            thin = merging.rescaled(thin, delta).clamp_(-LIMIT, LIMIT)
        return thin if tau is None else (1 - self.alpha) * thin + self.alpha * tau

    def _thinned(self, values: Tensor, key: int) -> Tensor:
        if self.reserve == 1:
            return values
        # Drawn where the weights are: a counter-based draw in numpy would take longer than a step of a large model.
        generator = torch.Generator(values.device).manual_seed(key % 2**63)
        drawn = torch.rand(values.shape, generator=generator, device=values.device)
        return merging.dropped(values, drawn < self.reserve, self.reserve)


@dataclass(frozen=True)
class OnTIES(Merging):
    """OnTIES-AdamW: of each step and of tau the share ``reserve`` with the largest entries, if they agree (arXiv:2405.17931).

        gamma = sign(trim(delta) + trim(tau)),   delta' = trim(delta) where it has the sign gamma, else 0;   tau' likewise

    So no entry moves against the majority, in which tau weighs as much as delta, whatever alpha is; with alpha 0 there is no
    tau, and every entry agrees. With ``rescale`` both are stretched to the length (L1) they had before they were trimmed.
    Where delta and tau cancel, nothing moves. ``base`` and the settings are as in :class:`OnDARE`, its neighbour.
    """

    def reference(self, tau: Tensor, name: str) -> Tensor:  # noqa: ARG002 - nothing is drawn
        return self._trimmed(tau)

    def merged(self, delta: Tensor, tau: Tensor | None, name: str, step: int) -> Tensor:  # noqa: ARG002
        trim = self._trimmed(delta)
        if tau is None:
            return trim
        sign = merging.elected((trim, tau))
        return (1 - self.alpha) * merging.agreeing(trim, sign) + self.alpha * merging.agreeing(tau, sign)

    def _trimmed(self, values: Tensor) -> Tensor:
        trim = merging.trimmed(values, self.reserve)
        return merging.rescaled(trim, values) if self.rescale and self.reserve < 1 else trim


class OnlineAdamW(torch.optim.AdamW):
    """AdamW whose step is merged before it is taken. tau is computed at the first step, when the weights are the start's,
    and belongs to the state from then on: after a restore no tensor of the base is read again.

    Raises InputError where the base cannot be had or is not of the model's shape. A head beside the language model's is in
    no base: its tau is 0.
    """

    def __init__(self, merge: Merging, masters: Mapping[str, nn.Parameter]) -> None:
        super().__init__(merge.groups(masters), lr=0.0, betas=merge.betas, eps=merge.eps, foreach=True)
        self._merge = merge
        self._names = {parameter: name for name, parameter in masters.items()}
        self._base = _base_of(merge, masters) if merge.alpha else None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None, "gradients are accumulated before the step"
        start = {p: p.clone() for p in self._names}
        for p in start:
            p.zero_()
        super().step()  # from zero, AdamW arrives at delta itself, with all its digits
        for group in self.param_groups:
            for p in group["params"]:
                p.copy_(self._next(p, start[p], 1 - group["lr"] * group["weight_decay"]))

    def _next(self, p: nn.Parameter, theta: Tensor, decay: float) -> Tensor:
        """The weights after this step; ``p`` is delta, ``theta`` the weights before it."""
        state, name, delta = self.state[p], self._names[p], p.detach()
        count, every = int(state["step"]), self._merge.online_step
        tau = self._tau(state, theta, name)
        theta.mul_(decay)
        if every > 1:
            waiting = state.setdefault("delta", torch.zeros_like(theta))
            if count % every:
                waiting += delta
                return theta.add_(delta)
            theta -= waiting
            delta = delta + waiting
            waiting.zero_()
        return theta.add_(self._merge.merged(delta, tau, name, count))

    def _tau(self, state: dict[str, Any], theta: Tensor, name: str) -> Tensor | None:
        if self._base is None:
            return None
        if "tau_ref" not in state:
            known = self._base[name].to(theta) if name in self._base else theta
            state["tau_ref"] = self._merge.reference(theta - known, name)
        tau: Tensor = state["tau_ref"]
        return tau


def _base_of(merge: Merging, masters: Mapping[str, nn.Parameter]) -> Shards:
    directory = resolve(merge.base)
    base = Shards.directory(directory)
    shapes = base.shapes()
    wrong = [n for n, p in masters.items() if not n.startswith("heads.") and shapes.get(n) != tuple(p.shape)]
    if wrong:
        raise InputError(
            f"the base '{merge.base}' ({directory}) has no '{wrong[0]}' of shape {tuple(masters[wrong[0]].shape)}: name the "
            "model that this one was made from, in the format that transformers saves today"
        )
    return base

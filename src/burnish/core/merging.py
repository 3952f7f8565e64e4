"""Several models made into one by arithmetic on their weights, tensor by tensor.

A method is a frozen value that makes one tensor from that tensor of every model (and of the base they come from), so that a
merge of any size needs one tensor of each model in memory. Sums are computed in a wider type than the weights have and
rounded once. With tau_m = theta_m - theta_base, the task vector of model m (arXiv:2212.04089):

    Average       theta = sum_m w_m theta_m                                   soups, Llama 3's and Gemma 2's averaging
    EMA           theta = d theta_{m-1} + (1 - d) theta_m, in turn            checkpoints of one run
    TaskVectors   theta = theta_base + s sum_m w_m tau_m
    TIES          theta = theta_base + s disjoint_mean_m(trim(tau_m))         of the entries with the elected sign
    DARE          tau_m <- mask tau_m / (1 - drop), then any of the above
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.core import keys
from burnish.errors import InputError, unknown

Weights = tuple[float, ...]

# --- on one task vector ----------------------------------------------------------------------------


def dropped(tau: Tensor, mask: Tensor, keep: float) -> Tensor:
    """``mask tau / keep``: entries outside the mask are 0, the others grow so that the mean over masks is ``tau``."""
    return torch.where(mask, tau / keep, 0.0)


def trimmed(tau: Tensor, keep: float) -> Tensor:
    """The share ``keep`` of the entries, those of the largest magnitude (at least one); the others are 0."""
    if keep >= 1 or not tau.numel():
        return tau
    largest = tau.abs().flatten().topk(max(1, round(keep * tau.numel())), sorted=False).indices
    kept = torch.zeros_like(tau).flatten()
    kept[largest] = tau.flatten()[largest]
    return kept.view_as(tau)


def rescaled(tau: Tensor, like: Tensor) -> Tensor:
    """``tau |like|_1 / |tau|_1``: as long as before some of its entries were taken away."""
    length = tau.abs().sum()
    return torch.where(length > 0, tau * (like.abs().sum() / length), tau)


def elected(vectors: Sequence[Tensor]) -> Tensor:
    """``sign(sum_m tau_m)``: the sign with the larger mass. 0 where the two are equal: no entry has it."""
    return torch.stack(tuple(vectors)).sum(0).sign()


def agreeing(tau: Tensor, sign: Tensor) -> Tensor:
    """The entries that have the sign; the others are 0."""
    return torch.where(tau.sign() == sign, tau, 0.0)


def random_mask(shape: torch.Size, keep: float, key: int) -> Tensor:
    """Independent booleans that are True with probability ``keep``, the same ones for the same key everywhere."""
    mask = torch.empty(shape.numel(), dtype=torch.bool)
    for start in range(0, len(mask), _CHUNK):
        part = mask[start : start + _CHUNK]
        part.copy_(torch.from_numpy(keys.uniforms(key, len(part), start) < keep))
    return mask.view(shape)


_CHUNK = 2**22  # uniforms drawn at a time: 32 MB of them

# --- methods -------------------------------------------------------------------------------------


class Merge(ABC):
    """One tensor of the merged model from that tensor of each model and, where ``needs_base``, of their common base."""

    needs_base = False

    def __call__(
        self, models: Sequence[Mapping[str, Tensor]], base: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """All tensors of models with the same names. Raises InputError where the method does not fit the models."""
        self.check(list(models[0]), len(models), based=base is not None)
        return {n: self.tensor(n, [m[n] for m in models], None if base is None else base[n]) for n in models[0]}

    def tensor(self, name: str, models: Sequence[Tensor], base: Tensor | None = None) -> Tensor:
        """The merged tensor, in the type of the first model. Raises InputError for integers that are not all the same."""
        first = models[0]
        if not first.is_floating_point():
            if any(not torch.equal(first, other) for other in models):
                raise InputError(f"'{name}' holds {first.dtype} numbers that differ between the models: merge others")
            return first
        merged = self.merged(name, [_wide(m) for m in models], None if base is None else _wide(base))
        return merged.to(first.dtype)

    @abstractmethod
    def merged(self, name: str, models: Sequence[Tensor], base: Tensor | None) -> Tensor:
        """The same for tensors that are wide enough to compute with."""

    def check(self, names: Sequence[str], models: int, *, based: bool) -> None:  # noqa: ARG002 - few look at names
        """Raise InputError where the method does not fit tensors of these names, this many models, or a missing base."""
        kind = type(self).__name__
        if not models:
            raise InputError("there is nothing to merge: name at least one model")
        if self.needs_base and not based:
            raise InputError(f"{kind} merges what training changed, so it needs the base they come from: add base=")
        for weights in self.all_weights():
            if weights and len(weights) != models:
                raise InputError(f"{kind} has {len(weights)} weights for {models} models: give one for each")

    def all_weights(self) -> Sequence[Weights]:
        """Every list of weights, one for each model (empty: all the same)."""
        return ()


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float32 if tensor.dtype.itemsize < 4 else torch.float64)


def mixed(models: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """``sum_m w_m theta_m / sum_m w_m``, as ``theta_1 + sum_m w_m (theta_m - theta_1)``: of equal models, those very bits."""
    first, total = models[0], math.fsum(weights)
    out = first.clone()
    for model, weight in zip(models[1:], weights[1:], strict=True):
        out += (weight / total) * (model - first)
    return out


def _check_weights(weights: Weights) -> None:
    if weights and not 0 < math.fsum(weights) < math.inf:
        raise ValueError(f"weights={weights}: they are divided by their sum, which has to be above 0")


@dataclass(frozen=True)
class Share:
    """Weights of their own for some tensors: those of decoder layers ``layers`` (first and last, counted from 0) whose name
    has a match of the regular expression ``match``."""

    weights: Weights
    match: str = ""
    layers: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        _check_weights(self.weights)
        try:
            re.compile(self.match)
        except re.error as error:
            raise ValueError(f"match={self.match!r} is no regular expression: {error}") from error

    def covers(self, name: str) -> bool:
        layer = _LAYER.search(name)
        inside = self.layers is None or (layer is not None and self.layers[0] <= int(layer[1]) <= self.layers[1])
        return inside and re.search(self.match, name) is not None


_LAYER = re.compile(r"(?:^|\.)(?:layers|h)\.(\d+)\.")


@dataclass(frozen=True)
class Average(Merge):
    """``theta = sum_m w_m theta_m`` with weights that add up to 1 (model soups, arXiv:2203.05482).

    ``weights`` empty means equal ones; any are divided by their sum. The first of ``shares`` that covers a tensor has the
    weights for it. The average of equal models is that model, bit for bit. Neighbour: :class:`TaskVectors` with weights
    that add up to 1 is the same without shares.
    """

    weights: Weights = ()
    shares: tuple[Share, ...] = ()

    def __post_init__(self) -> None:
        _check_weights(self.weights)

    def merged(self, name: str, models: Sequence[Tensor], base: Tensor | None) -> Tensor:  # noqa: ARG002
        weights = next((share.weights for share in self.shares if share.covers(name)), self.weights)
        return mixed(models, weights or (1.0,) * len(models))

    def check(self, names: Sequence[str], models: int, *, based: bool) -> None:
        super().check(names, models, based=based)
        for share in self.shares:
            if not any(share.covers(name) for name in names):
                raise InputError(f"no tensor is covered by {share}; there are, for example, {', '.join(names[:3])}")

    def all_weights(self) -> Sequence[Weights]:
        return (self.weights, *(share.weights for share in self.shares))


@dataclass(frozen=True)
class EMA(Merge):
    """``theta <- decay theta + (1 - decay) theta_m`` over the models in their order, from the first (arXiv:2203.02155: .992
    over the steps of a run). Neighbour: :class:`Average` does not mind the order."""

    decay: float = 0.992

    def __post_init__(self) -> None:
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay={self.decay} is not between 0 and 1")

    def merged(self, name: str, models: Sequence[Tensor], base: Tensor | None) -> Tensor:  # noqa: ARG002
        last = len(models) - 1
        later = [(1 - self.decay) * self.decay ** (last - m) for m in range(1, len(models))]
        return mixed(models, (self.decay**last, *later))


@dataclass(frozen=True)
class TaskVectors(Merge):
    """``theta = theta_base + scale sum_m w_m (theta_m - theta_base)`` (task arithmetic, arXiv:2212.04089).

    ``weights`` empty means 1 for each model: vectors are added, not averaged. A negative weight takes a task away.
    """

    scale: float = 1.0
    weights: Weights = ()
    needs_base = True

    def merged(self, name: str, models: Sequence[Tensor], base: Tensor | None) -> Tensor:  # noqa: ARG002
        assert base is not None
        out = base.clone()
        for model, weight in zip(models, self.weights or (1.0,) * len(models), strict=True):
            out += self.scale * weight * (model - base)
        return out

    def all_weights(self) -> Sequence[Weights]:
        return (self.weights,)


@dataclass(frozen=True)
class TIES(Merge):
    """Trim, elect sign, merge (TIES-Merging, arXiv:2306.01708), with its keep 20% and scale 1.

        tau_m <- the ``keep`` largest entries of theta_m - theta_base by magnitude,   gamma = sign(sum_m tau_m)
        theta = theta_base + scale mean of { tau_m : sign(tau_m) = gamma }, entry by entry

    Trimming is within each tensor, as in merging tools that read one tensor at a time; the paper's code trims the whole
    model at once, which leaves more of the tensors that changed most. An entry whose positive and negative mass are equal
    stays at the base. Neighbour: :class:`TaskVectors` adds what disagrees.
    """

    keep: float = 0.2
    scale: float = 1.0
    needs_base = True

    def __post_init__(self) -> None:
        check_share(self.keep, "keep")

    def merged(self, name: str, models: Sequence[Tensor], base: Tensor | None) -> Tensor:  # noqa: ARG002
        assert base is not None
        vectors = [trimmed(model - base, self.keep) for model in models]
        sign = elected(vectors)
        total, count = torch.zeros_like(base), torch.zeros_like(base)
        for vector in vectors:
            chosen = agreeing(vector, sign)
            total += chosen
            count += chosen != 0
        return base + self.scale * total / count.clamp(min=1)


@dataclass(frozen=True)
class DARE(Merge):
    """Drop and rescale (DARE, arXiv:2311.03099): the task vectors with most entries dropped at random, merged by ``into``.

        tau_m <- B_m (theta_m - theta_base) / (1 - drop),   B_m ~ Bernoulli(1 - drop), entry by entry

    The mean over masks is the vector itself. Masks follow from ``seed``, the model's place and the tensor's name.
    Neighbour: :class:`TIES` drops the smallest entries and rescales nothing; ``DARE(into=TIES(keep=1))`` does both.
    """

    drop: float = 0.9
    into: Merge = TaskVectors()
    seed: int = 0
    needs_base = True

    def __post_init__(self) -> None:
        check_share(1 - self.drop, "1 - drop")
        if isinstance(self.into, DARE):
            raise ValueError("into=DARE would draw the same masks again: raise drop, or merge into another method")

    def merged(self, name: str, models: Sequence[Tensor], base: Tensor | None) -> Tensor:
        assert base is not None
        keep, thinned = 1 - self.drop, []
        for place, model in enumerate(models):
            mask = random_mask(model.shape, keep, keys.derive("dare", self.seed, place, name)).to(model.device)
            thinned.append(base + dropped(model - base, mask, keep))
        return self.into.merged(name, thinned, base)

    def check(self, names: Sequence[str], models: int, *, based: bool) -> None:
        super().check(names, models, based=based)
        self.into.check(names, models, based=based)


def check_share(share: float, name: str) -> None:
    """Raise ValueError for a share of entries to keep that keeps none, or more than all."""
    if not 0 < share <= 1:
        raise ValueError(f"{name}={share}: the share of entries that are kept is above 0 and at most 1")


def get(name: str) -> Merge:
    """The method of that name with its defaults, in any case, with ``-`` or ``_`` or neither."""
    known = {value.__name__.lower(): value for value in (Average, EMA, TaskVectors, TIES, DARE)}
    key = name.lower().replace("-", "").replace("_", "")
    if key not in known:
        raise unknown("merging method", name, known)
    return known[key]()

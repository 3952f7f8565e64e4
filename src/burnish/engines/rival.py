"""A rival to compare with: the policy on its way back to the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.engines.decode import Cache, LocalSampler, Row
from burnish.engines.local import LocalModel
from burnish.engines.reference import Reference


@dataclass(frozen=True)
class _Both:
    """The caches of policy and reference, which keep the same rows."""

    policy: Cache
    reference: Cache

    def retain(self, rows: Tensor) -> None:
        self.policy.retain(rows)
        self.reference.retain(rows)


class RivalSampler(LocalSampler):
    """Samples from the geometric mixture ``pi^(1 - share) pi_ref^share``, normalised token by token: the reference at 1.

    Nash-MD (arXiv:2312.00886) compares with such a mixture, XPO (arXiv:2405.21046) with the reference. Log-probs are those
    of the mixture. Both models read every token; the policy's weights are read live.
    """

    def __init__(self, policy: LocalModel, reference: Reference, share: float) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"share={share}: the reference has a share between 0 and 1 of the mixture")
        super().__init__(policy)
        self.reference, self.share = reference, share

    def _prefill(self, rows: Sequence[Row]) -> tuple[Tensor, Cache]:
        own, cache = super()._prefill(rows)
        with self.reference.network() as model:
            other, beside = LocalSampler(model)._prefill(rows)
        return self._mixed(own, other), _Both(cache, beside)

    def _advance(self, rows: Sequence[Row], plan: Cache) -> Tensor:
        assert isinstance(plan, _Both)
        own = super()._advance(rows, plan.policy)
        with self.reference.network() as model:
            other = LocalSampler(model)._advance(rows, plan.reference)
        return self._mixed(own, other)

    def _mixed(self, own: Tensor, other: Tensor) -> Tensor:
        return (1 - self.share) * torch.log_softmax(own, -1) + self.share * torch.log_softmax(other, -1)

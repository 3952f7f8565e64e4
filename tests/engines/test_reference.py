"""The reference: what the policy was, whatever the policy becomes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from burnish.core.algorithms import GRPO
from burnish.core.losses import NLL
from burnish.data.batching import collate
from burnish.engines.local import Engine, LocalModel
from burnish.engines.lora import LoRA
from burnish.engines.reference import Reference
from burnish.types import Batch
from rows import rollout

EXACT = Engine(dtype="float64", device="cpu")
ADAPTED = replace(EXACT, adapter=LoRA(rank=4))
both = pytest.mark.parametrize("engine", [EXACT, ADAPTED], ids=["full", "lora"])


def data() -> Batch:
    rows = [rollout(n, tokens=range(20, 20 + n), prompt=(40 + i, 41), group=i, episode=i) for i, n in enumerate((4, 2))]
    return NLL().prepare(collate(rows))


def train(policy: LocalModel, steps: int = 2) -> None:
    for _ in range(steps):
        policy.forward_backward(data(), NLL())
        policy.optim_step(0.01)


def logprobs(model: LocalModel | Reference) -> torch.Tensor:
    return model.forward(data()).logprobs


@both
@pytest.mark.parametrize("moving", [False, True])
def test_it_is_the_policy_before_training(nano: Path, engine: Engine, moving: bool) -> None:
    policy = LocalModel(nano, engine)
    start = logprobs(policy)
    reference = Reference(policy, moving=moving)
    train(policy)
    now = logprobs(policy)
    assert torch.equal(logprobs(reference), start)
    assert torch.equal(logprobs(policy), now), "the adapters are back on"
    assert (now - start).abs().max().item() > 0.1


def test_it_only_reads(nano: Path) -> None:
    """The KL to the reference is zero at the start, so its gradient is zero too, and grows from there."""
    policy = LocalModel(nano, ADAPTED)
    batch = replace(data(), advantages=torch.zeros(data().tokens.shape, dtype=torch.float64))
    reference = Reference(policy)
    batch = GRPO.loss.prepare(replace(batch, ref_logprobs=reference.forward(batch).logprobs))
    for grows in (False, True):
        metrics, _ = policy.forward_backward(batch, GRPO.loss)
        found = [p.grad for p in policy.masters.params.values() if p.grad is not None]
        assert (metrics["kl/ref"][0] > 0) == any(bool((g != 0).any()) for g in found) == grows
        policy.discard_gradient()
        train(policy)


@both
def test_a_refresh_takes_the_policy_of_now_and_a_checkpoint_remembers_it(
    nano: Path, engine: Engine, tmp_path: Path
) -> None:
    policy = LocalModel(nano, engine)
    reference = Reference(policy, moving=True)
    train(policy)
    reference.refresh(policy)
    refreshed = logprobs(reference)
    assert torch.equal(refreshed, logprobs(policy))
    train(policy)
    assert torch.equal(logprobs(reference), refreshed), "a refresh copies"
    reference.checkpoint(tmp_path)
    again = Reference(LocalModel(nano, engine), moving=True)
    again.restore(tmp_path)
    assert torch.equal(logprobs(again), refreshed)

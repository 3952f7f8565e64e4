"""Policy gradients against GRPOTrainer and RLOOTrainer of TRL: the loss on the same samples, and the advantages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from burnish.core.advantages import Advantage, GroupMean, LeaveOneOut
from burnish.core.aggregate import seq_mean_token_sum, token_mean
from burnish.core.algorithms import CISPO, DAPO, DR_GRPO, GRPO, GSPO, RLOO, SAPO
from burnish.core.kl import KL, k3, k3_unbiased
from burnish.core.levels import sequence
from burnish.core.losses import PolicyLoss
from burnish.core.surrogates import Clip, ClipWeight, Ratio
from burnish.data.batching import collate
from burnish.engines.local import LocalModel
from burnish.types import Batch
from tests.agreement.peers import (
    Models,
    assert_agree,
    by_burnish,
    by_trl,
    dataset,
    distance,
    network,
    said,
    samples,
    settings,
    tokenizer,
)
from tests.rows import groups, rollout

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

LIMIT = 7
ADVANTAGES = (1.2, -0.7, 0.4, -0.9, 0.0, 0.8)
MASKS = ((1,) * 5, (1,) * 7, (1, 1, 0, 0, 1, 1), (1,) * 2, (1,) * 3, (1,) * 4)
"""Which tokens of a completion the policy chose; the third one has an answer of its environment in between."""


def sampled(models: Models, model: LocalModel) -> Batch:
    """Completions of a policy that has since moved, with ratios on both sides of every clip that is used."""
    generator = torch.Generator().manual_seed(3)
    rows = []
    for number, mask in enumerate(MASKS):
        tokens = torch.randint(10, 90, (len(mask),), generator=generator).tolist()
        prompt = tuple(range(20, 23 + number // 2))
        rows.append(
            rollout(
                len(mask), group=number // 2, episode=number, mask=[bool(m) for m in mask], prompt=prompt, tokens=tokens
            )
        )
    batch = models.with_reference(model, collate(rows, max_tokens=LIMIT))
    noise = torch.randn(batch.tokens.shape, generator=generator)
    noise = noise + torch.linspace(-0.8, 0.8, len(batch))[:, None]
    old = model.forward(batch).logprobs - noise
    advantages = torch.tensor(ADVANTAGES)[:, None].expand_as(batch.mask) * batch.mask
    return replace(batch, old_logprobs=torch.where(batch.mask, old, 0.0), advantages=advantages)


def columns(batch: Batch) -> dict[str, Tensor]:
    """All that TRL's loss of samples reads."""
    assert batch.old_logprobs is not None and batch.ref_logprobs is not None
    return {
        **samples(batch),
        "tool_mask": batch.mask.long(),
        "advantages": torch.tensor(ADVANTAGES),
        "old_per_token_logps": batch.old_logprobs,
        "ref_per_token_logps": batch.ref_logprobs,
        "num_items_in_batch": batch.mask.sum(),
    }


REWARDS = (1.0, 0.0, 0.0, 0.25, 0.5, 0.5, 0.5, 0.5)
"""Two prompts, four samples each; all samples of the second are alike."""


def rewarded(completions: Sequence[Any], **_: Any) -> list[float]:
    return list(REWARDS[: len(completions)])


def grpo_trainer(models: Models, out: Path, **chosen: Any) -> Any:
    from trl import GRPOConfig, GRPOTrainer

    return GRPOTrainer(
        model=network(models.policy),
        reward_funcs=rewarded,
        args=settings(GRPOConfig, out, num_generations=4, max_completion_length=LIMIT, **chosen),
        train_dataset=dataset([{"prompt": [said("user", text)]} for text in ("Hi", "2 + 2 = ?")]),
        processing_class=tokenizer(models.policy),
    )


def rloo_trainer(models: Models, out: Path, **chosen: Any) -> Any:
    from trl import RLOOConfig, RLOOTrainer

    return RLOOTrainer(
        model=network(models.policy),
        reward_funcs=rewarded,
        args=settings(RLOOConfig, out, num_generations=4, max_completion_length=LIMIT, **chosen),
        train_dataset=dataset([{"prompt": [said("user", text)]} for text in ("Hi", "2 + 2 = ?")]),
        processing_class=tokenizer(models.policy),
    )


def clipped(loss: PolicyLoss, **chosen: Any) -> PolicyLoss:
    assert isinstance(loss.surrogate, Clip)
    return replace(loss, surrogate=replace(loss.surrogate, **chosen))


LOSSES: dict[str, tuple[PolicyLoss, dict[str, Any]]] = {
    "grpo": (GRPO.loss, {"loss_type": "grpo", "beta": 0.04, "use_bias_correction_kl": False}),
    "dr_grpo": (DR_GRPO.loss, {"loss_type": "dr_grpo"}),
    "dapo": (DAPO.loss, {"loss_type": "dapo", "epsilon_high": 0.28, "steps_per_generation": 1}),
    "bnpo": (PolicyLoss(Clip(), token_mean), {"loss_type": "bnpo"}),
    "gspo": (
        GSPO.loss,
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4},
    ),
    "gspo with a wide clip": (
        clipped(GSPO.loss, low=0.5, high=0.6),
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.5, "epsilon_high": 0.6},
    ),
    "cispo": (CISPO.loss, {"loss_type": "cispo", "epsilon_high": 5.0}),
    "cispo with a tight cap": (
        replace(CISPO.loss, surrogate=ClipWeight(1.0, 0.2)),
        {"loss_type": "cispo", "epsilon_high": 1.2},
    ),
    "sapo": (SAPO.loss, {"loss_type": "sapo"}),
    "dual clip": (clipped(DAPO.loss, dual=1.5), {"loss_type": "bnpo", "delta": 1.5, "epsilon_high": 0.28}),
    "entropy bonus": (PolicyLoss(Clip(), token_mean, entropy=0.02), {"loss_type": "bnpo", "entropy_coef": 0.02}),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_samples(name: str, models: Models, tmp_path: Path) -> None:
    loss, chosen = LOSSES[name]
    model = models.burnish()
    batch = sampled(models, model)
    assert_agree(by_burnish(model, loss, batch), by_trl(grpo_trainer(models, tmp_path, **chosen), columns(batch)))


def test_the_samples_are_clipped_on_every_side(models: Models) -> None:
    model = models.burnish()
    batch = sampled(models, model)
    assert batch.old_logprobs is not None and batch.advantages is not None
    rho = torch.exp(model.forward(batch).logprobs - batch.old_logprobs)
    for stopped in (rho < 0.8, rho > 1.28, rho > 1.5):
        for side in (batch.advantages > 0, batch.advantages < 0):
            assert bool((stopped & side & batch.mask).any())
    inside = (rho > 0.8) & (rho < 1.2)
    assert bool((inside & batch.mask).any())


# --- where TRL takes another form ----------------------------------------------------------------


def test_the_weighted_kl_is_the_same_at_the_first_update(models: Models, tmp_path: Path) -> None:
    """TRL weighs k3 by pi / pi_old unless told otherwise; Burnish, where it weighs it, by pi / stop(pi)."""
    trainer = grpo_trainer(models, tmp_path, loss_type="bnpo", beta=0.1)
    model, loss = models.burnish(), PolicyLoss(Clip(), token_mean, kl=KL(k3_unbiased, 0.1))
    batch = sampled(models, model)
    first = replace(batch, old_logprobs=model.forward(batch).logprobs)
    assert_agree(by_burnish(model, loss, first), by_trl(trainer, columns(first)))
    assert distance(by_burnish(model, loss, batch), by_trl(trainer, columns(batch))) > 1e-2
    unweighted = replace(loss, kl=KL(k3, 0.1))
    assert distance(by_burnish(model, unweighted, first), by_trl(trainer, columns(first))) > 1e-2


def test_rloo_has_the_gradient_of_a_ratio_of_sequences(models: Models, tmp_path: Path) -> None:
    """TRL clips the ratio of whole sequences; at the first update its gradient is REINFORCE's, its value is not."""
    trainer = rloo_trainer(models, tmp_path, epsilon=0.3)
    model = models.burnish()
    batch = replace(sampled(models, model), mask=sampled(models, model).lengths[:, None] > torch.arange(LIMIT))
    batch = replace(batch, advantages=torch.tensor(ADVANTAGES)[:, None] * batch.mask)
    now = model.forward(batch).logprobs
    first, later = (
        replace(batch, old_logprobs=now),
        replace(batch, old_logprobs=now + 0.1 * torch.sin(now) * batch.mask),
    )
    ratio = PolicyLoss(Ratio(level=sequence), seq_mean_token_sum)
    clip = PolicyLoss(Clip(0.3, 0.3, level=sequence), seq_mean_token_sum)
    for loss, case in ((RLOO.loss, first), (ratio, first), (clip, later)):
        assert case.old_logprobs is not None
        inputs = {**columns(case), "old_logps": (case.old_logprobs * case.mask).sum(1)}
        assert distance(by_burnish(model, loss, case), by_trl(trainer, inputs)) < 1e-5


# --- advantages ----------------------------------------------------------------------------------


def advantages(kind: Advantage) -> Tensor:
    batch = collate(groups([REWARDS[:4], REWARDS[4:]]), max_tokens=LIMIT)
    assert batch.token_rewards is not None
    return kind(batch, batch.token_rewards, {})[:, 0]


@pytest.mark.parametrize("scale", ["group", "none"])
def test_advantages_of_groups(scale: str, models: Models, tmp_path: Path) -> None:
    """TRL adds 1e-4 to the standard deviation; Burnish adds nothing, and gives groups of equal rewards 0."""
    trainer = grpo_trainer(models, tmp_path, scale_rewards=scale)
    rows = [trainer.train_dataset[i] for i in (0, 0, 0, 0, 1, 1, 1, 1)]
    theirs = trainer._generate_and_score_completions(rows)["advantages"].double()
    ours = advantages(GroupMean(std=scale == "group"))
    deviation = torch.tensor(REWARDS[:4]).double().std()
    shrunk = deviation / (deviation + 1e-4) if scale == "group" else 1.0
    assert torch.allclose(theirs, ours * shrunk, rtol=1e-5, atol=1e-6)
    assert not bool(ours[4:].any())


def test_advantages_that_leave_one_out(models: Models, tmp_path: Path) -> None:
    trainer = rloo_trainer(models, tmp_path, beta=0.0)
    rows = [trainer.train_dataset[i] for i in (0, 0, 0, 0, 1, 1, 1, 1)]
    theirs = trainer._generate_and_score_completions(rows)["advantages"].double()
    assert torch.allclose(theirs, advantages(LeaveOneOut()), rtol=1e-5, atol=1e-6)

"""Losses of pairs against DPOTrainer, CPOTrainer and ORPOTrainer of TRL: value and gradient of all weights.

TRL renders, tokenizes and collates the conversations itself; that its tokens are Burnish's is a test too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from burnish.core.aggregate import token_mean
from burnish.core.links import Hinge, Logistic, SelfPlay, Square
from burnish.core.pointwise import Classify
from burnish.core.preference import (
    AOT,
    AOT_UNPAIRED,
    APO_DOWN,
    APO_ZERO,
    BCO,
    CPO,
    DISCOPOP,
    DPO,
    DPO_NORM,
    EXO,
    FDPO_ALPHA,
    FDPO_FORWARD,
    FDPO_JS,
    IPO,
    LD_DPO,
    NCA,
    ORPO,
    ROBUST,
    SFT,
    SIMPO,
    SLIC,
    SPPO,
    WPO,
    Preference,
)
from burnish.core.scores import LogOdds, LogProb, LogRatio, average, content
from burnish.data.units import Row, Unit, collate
from burnish.engines.local import LocalModel
from burnish.types import Batch, Outputs
from tests.agreement.peers import (
    PAIRS,
    Found,
    Models,
    assert_agree,
    by_burnish,
    by_trl,
    dataset,
    distance,
    encoded,
    network,
    settings,
    tokenizer,
    whole_batch,
)
from tests.tiny import plain_distributions

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def dpo_trainer(models: Models, out: Path, **chosen: Any) -> Any:
    from trl import DPOConfig, DPOTrainer

    return DPOTrainer(
        model=network(models.policy),
        ref_model=network(models.other),
        args=settings(DPOConfig, out, **chosen),
        train_dataset=dataset([pair.for_trl() for pair in PAIRS]),
        processing_class=tokenizer(models.policy),
    )


# --- with a reference ----------------------------------------------------------------------------

PER_TOKEN_IPO = Preference(LogRatio(1.0, average), Square(0.1))
HINGE = Preference(LogRatio(0.1), Hinge(1.0))

WITH_REFERENCE: dict[str, tuple[Preference, dict[str, Any]]] = {
    "dpo": (DPO, {"loss_type": "sigmoid", "beta": 0.1}),
    "dpo and nll": (replace(DPO, nll=0.2), {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2], "beta": 0.1}),
    "sft": (SFT, {"loss_type": "sft"}),
    "hinge": (HINGE, {"loss_type": "hinge", "beta": 0.1}),
    "ipo per token": (PER_TOKEN_IPO, {"loss_type": "ipo", "beta": 0.1}),
    "dpo_norm": (DPO_NORM, {"loss_type": "sigmoid_norm", "beta": 5.0}),
    "ld_dpo": (LD_DPO, {"loss_type": "sigmoid", "beta": 0.1, "ld_alpha": 0.5}),
    "robust": (ROBUST, {"loss_type": "robust", "beta": 0.1, "label_smoothing": 0.1}),
    "exo": (EXO, {"loss_type": "exo_pair", "beta": 0.5, "label_smoothing": 1e-3}),
    "nca": (NCA, {"loss_type": "nca_pair", "beta": 0.01}),
    "sppo": (SPPO, {"loss_type": "sppo_hard", "beta": 1e-3}),
    "sppo with a small eta": (Preference(LogRatio(1.0), SelfPlay(2.0)), {"loss_type": "sppo_hard", "beta": 0.5}),
    "aot": (AOT, {"loss_type": "aot", "beta": 0.1}),
    "aot_unpaired": (AOT_UNPAIRED, {"loss_type": "aot_unpaired", "beta": 0.1}),
    "apo_zero": (APO_ZERO, {"loss_type": "apo_zero", "beta": 0.1}),
    "apo_down": (APO_DOWN, {"loss_type": "apo_down", "beta": 0.1}),
    "discopop": (DISCOPOP, {"loss_type": "discopop", "beta": 0.05, "discopop_tau": 0.05}),
    "fdpo_js": (FDPO_JS, {"f_divergence_type": "js_divergence", "beta": 0.1}),
    "fdpo_forward": (FDPO_FORWARD, {"f_divergence_type": "forward_kl", "beta": 0.1}),
    "fdpo_alpha": (FDPO_ALPHA, {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.5, "beta": 0.1}),
}


def with_reference(models: Models) -> tuple[LocalModel, Batch]:
    model = models.burnish()
    return model, models.with_reference(model, collate(encoded(model)))


def ours(models: Models, loss: Preference) -> Found:
    model, batch = with_reference(models)
    return by_burnish(model, loss, batch)


@pytest.mark.parametrize("name", WITH_REFERENCE)
def test_losses_with_a_reference(name: str, models: Models, tmp_path: Path) -> None:
    loss, chosen = WITH_REFERENCE[name]
    trainer = dpo_trainer(models, tmp_path, **chosen)
    assert_agree(ours(models, loss), by_trl(trainer, whole_batch(trainer)))


def test_the_tokens_are_the_same(models: Models, tmp_path: Path) -> None:
    model = models.burnish()
    for row, unit in zip(dpo_trainer(models, tmp_path).train_dataset, encoded(model), strict=True):
        assert [tuple(row["prompt_ids"])] * 2 == [answer.prompt for answer in unit]
        assert [tuple(row["chosen_ids"]), tuple(row["rejected_ids"])] == [answer.tokens for answer in unit]
        assert all(all(answer.mask) for answer in unit)


def test_the_batch_tells_the_losses_apart(models: Models) -> None:
    """Scores are nats apart, both signs of margin occur, and sorting changes the pairs."""
    model, batch = with_reference(models)
    assert batch.ref_logprobs is not None
    ratio = torch.where(batch.mask, model.forward(batch).logprobs - batch.ref_logprobs, 0.0).sum(1)
    margin = ratio[0::2] - ratio[1::2]
    assert margin.max() > 1 and margin.min() < -1
    found = {
        name: by_burnish(model, loss, batch) for name, loss in (("dpo", DPO), ("aot", AOT), ("side", AOT_UNPAIRED))
    }
    assert distance(found["aot"], found["dpo"]) > 1e-2
    assert distance(found["side"], found["dpo"]) > 1e-2


# --- where TRL takes another form ----------------------------------------------------------------


@dataclass(frozen=True)
class Unshifted(Classify):
    """BCO without its shift."""

    def baseline(self, scores: Tensor, batch: Batch) -> Tensor:  # noqa: ARG002 - part of the interface
        return scores.new_zeros(())


def test_ipo_differs_by_lengths(models: Models, tmp_path: Path) -> None:
    """The paper's h is of whole answers, TRL's of means over tokens."""
    trainer = dpo_trainer(models, tmp_path, loss_type="ipo", beta=0.1)
    assert distance(ours(models, IPO), by_trl(trainer, whole_batch(trainer))) > 0.1


def test_bco_pair_is_bco_without_its_shift(models: Models, tmp_path: Path) -> None:
    """And a sum over the pair where Burnish has the mean over answers."""
    trainer = dpo_trainer(models, tmp_path, loss_type="bco_pair", beta=0.1)
    theirs = by_trl(trainer, whole_batch(trainer))
    assert_agree(ours(models, Preference(LogRatio(0.1), Unshifted(), coef=2.0)), theirs)
    shifted = replace(BCO, score=LogRatio(0.1), coef=2.0)
    assert distance(ours(models, shifted), theirs) > 1e-3


def aligned(outputs: Outputs, batch: Batch) -> Tensor:
    """WPO's weight of an answer with each token's probability divided by the sum of squares at its place."""
    return torch.exp(average(outputs.logprobs.detach() - batch.extra("log_sum_of_squares"), batch.mask, batch))


def test_wpo_is_the_aligned_form(models: Models, tmp_path: Path) -> None:
    trainer = dpo_trainer(models, tmp_path, use_weighting=True, beta=0.01)
    theirs = by_trl(trainer, whole_batch(trainer))
    model, batch = with_reference(models)
    policy, squares = network(models.policy), torch.zeros(batch.tokens.shape)
    with torch.no_grad():
        for line, prompt, tokens, length in zip(squares, batch.prompts, batch.tokens, batch.lengths, strict=True):
            known = plain_distributions(policy, prompt.tolist(), tokens[:length].tolist())
            line[:length] = torch.logsumexp(2 * known, 1)
    batch = replace(batch, extras={"log_sum_of_squares": ("token", squares)})
    assert_agree(by_burnish(model, replace(WPO, trust=aligned), batch), theirs)
    assert distance(by_burnish(model, WPO, batch), theirs) > 0.1


# --- without a reference -------------------------------------------------------------------------


def cpo_trainer(models: Models, out: Path, **chosen: Any) -> Any:
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    return CPOTrainer(
        model=network(models.policy),
        args=settings(CPOConfig, out, remove_unused_columns=False, **chosen),
        train_dataset=dataset([pair.for_trl() for pair in PAIRS]),
        processing_class=tokenizer(models.policy),
    )


def orpo_trainer(models: Models, out: Path, **chosen: Any) -> Any:
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    return ORPOTrainer(
        model=network(models.policy),
        args=settings(ORPOConfig, out, remove_unused_columns=False, **chosen),
        train_dataset=dataset([pair.for_trl() for pair in PAIRS]),
        processing_class=tokenizer(models.policy),
    )


WITHOUT_REFERENCE: dict[str, tuple[Preference, dict[str, Any]]] = {
    "cpo": (CPO, {"loss_type": "sigmoid", "beta": 0.1, "cpo_alpha": 1.0}),
    "cpo smoothed": (
        replace(CPO, link=Logistic(smoothing=0.1)),
        {"loss_type": "sigmoid", "beta": 0.1, "cpo_alpha": 1.0, "label_smoothing": 0.1},
    ),
    "simpo": (SIMPO, {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 0.5, "cpo_alpha": 0.0}),
    "cpo-simpo": (
        replace(SIMPO, nll=1.0),
        {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 0.5, "cpo_alpha": 1.0},
    ),
    "slic": (replace(SLIC, aggregate=token_mean), {"loss_type": "hinge", "beta": 1.0, "cpo_alpha": 0.5}),
    "ipo without a reference": (
        Preference(LogProb(1.0, average), Square(0.1)),
        {"loss_type": "ipo", "beta": 0.1, "cpo_alpha": 0.0},
    ),
}


@pytest.mark.parametrize("name", WITHOUT_REFERENCE)
def test_losses_without_a_reference(name: str, models: Models, tmp_path: Path) -> None:
    loss, chosen = WITHOUT_REFERENCE[name]
    trainer, model = cpo_trainer(models, tmp_path, **chosen), models.burnish()
    assert_agree(by_burnish(model, loss, collate(encoded(model))), by_trl(trainer, whole_batch(trainer)))


def with_prompt(unit: Unit) -> Unit:
    """The prompt as trained tokens that are not content: all but its first token, which nothing predicts."""

    def opened(row: Row) -> Row:
        asked = row.prompt[1:]
        mask = (True,) * len(asked) + row.mask
        return replace(
            row,
            prompt=row.prompt[:1],
            tokens=asked + row.tokens,
            mask=mask,
            content=(False,) * len(asked) + row.mask,
        )

    return tuple(opened(row) for row in unit)


def test_orpo_imitates_the_prompt_too(models: Models, tmp_path: Path) -> None:
    """TRL's likelihood term is of prompt and answer, as in the authors' code; its odds are of the answer."""
    trainer, model = orpo_trainer(models, tmp_path, beta=0.1), models.burnish()
    theirs = by_trl(trainer, whole_batch(trainer))
    batch = collate([with_prompt(unit) for unit in encoded(model)])
    assert_agree(by_burnish(model, replace(ORPO, score=LogOdds(read=content)), batch), theirs)
    assert distance(by_burnish(model, ORPO, collate(encoded(model))), theirs) > 0.1

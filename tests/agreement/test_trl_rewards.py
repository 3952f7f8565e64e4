"""Losses of reward models against RewardTrainer of TRL: value and gradient of all weights and of the head.

Both read the score behind the token that ends the answer. TRL reads it at the last token that is not padding, which is one
token earlier where the token that ends a turn pads too, as it does if the tokenizer has none for padding.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from burnish.core.ranking import SCORE, Centre, Penalised
from burnish.core.reward_models import BRADLEY_TERRY, CENTRED, LLAMA2, RewardLoss
from burnish.data.units import collate
from burnish.engines.local import LocalModel
from burnish.types import Head
from tests.agreement.peers import (
    PAIRS,
    Models,
    assert_agree,
    by_burnish,
    by_trl,
    dataset,
    distance,
    encoded,
    settings,
    tokenizer,
    whole_batch,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

HEADS = {SCORE: Head(at="last", spread=2.0)}


def reward_trainer(models: Models, model: LocalModel, out: Path, *, margin: bool, ends_pad: bool, **chosen: Any) -> Any:
    """With the head of ``model``, which has a bias beside it. ``ends_pad`` pads with the token that ends a turn."""
    from trl import RewardConfig, RewardTrainer

    classifier = AutoModelForSequenceClassification.from_pretrained(
        models.policy, num_labels=1, dtype=torch.float32, local_files_only=True
    )
    with torch.no_grad():
        classifier.score.weight.copy_(model.heads[SCORE].weight)
    words = tokenizer(models.policy)
    if ends_pad:
        words.pad_token = words.eos_token
    return RewardTrainer(
        model=classifier,
        args=settings(RewardConfig, out, **chosen),
        train_dataset=dataset([{**pair.for_trl(), **({"margin": pair.margin} if margin else {})} for pair in PAIRS]),
        processing_class=words,
    )


LOSSES: dict[str, tuple[RewardLoss, bool, dict[str, Any]]] = {
    "bradley_terry": (BRADLEY_TERRY, False, {}),
    "llama2": (LLAMA2, True, {}),
    "centred": (CENTRED, False, {"center_rewards_coefficient": 0.01}),
    "margin and centring": (Penalised(LLAMA2, (Centre(0.1),)), True, {"center_rewards_coefficient": 0.1}),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_with_a_token_for_padding(name: str, models: Models, tmp_path: Path) -> None:
    loss, margin, chosen = LOSSES[name]
    model = models.burnish(HEADS)
    trainer = reward_trainer(models, model, tmp_path, margin=margin, ends_pad=False, **chosen)
    assert_agree(by_burnish(model, loss, collate(encoded(model))), by_trl(trainer, whole_batch(trainer)))


def test_where_the_end_pads_trl_reads_one_token_earlier(models: Models, tmp_path: Path) -> None:
    model = models.burnish(HEADS)
    trainer = reward_trainer(models, model, tmp_path, margin=False, ends_pad=True)
    theirs = by_trl(trainer, whole_batch(trainer))
    units = encoded(model)
    shorter = [
        tuple(replace(row, tokens=row.tokens[:-1], mask=row.mask[:-1], content=()) for row in unit) for unit in units
    ]
    assert_agree(by_burnish(model, BRADLEY_TERRY, collate(shorter)), theirs)
    assert distance(by_burnish(model, BRADLEY_TERRY, collate(units)), theirs) > 0.1

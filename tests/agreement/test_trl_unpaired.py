"""Losses of labelled single answers against KTOTrainer of TRL: value and gradient of all weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from burnish.core.pointwise import Prospect
from burnish.core.preference import APO_ZERO, KTO
from burnish.data.units import Unit, collate, encode, mismatch
from burnish.engines.local import LocalModel
from burnish.loops.fixed import prepared
from burnish.types import Answer, Batch, Comparison
from tests.agreement.peers import (
    PAIRS,
    Models,
    assert_agree,
    by_burnish,
    by_trl,
    dataset,
    encoded,
    network,
    said,
    settings,
    tokenizer,
    whole_batch,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

ANSWERS = tuple(
    (pair.prompt, pair.chosen if good else pair.rejected, good)
    for pair, good in zip(PAIRS, (1, 0, 1, 1, 0), strict=True)
)
BOTH = tuple(
    (pair.prompt, answer, good) for good in (1, 0) for pair in PAIRS for answer in [(pair.rejected, pair.chosen)[good]]
)


@pytest.fixture(scope="module")
def apart(models: Models) -> Models:
    """The other way round: the policy is the flatter one, which likes strange answers better than its reference does."""
    return Models(models.other, models.policy)


def kto_trainer(models: Models, out: Path, answers: Sequence[tuple[str, str, int]], **chosen: Any) -> Any:
    from trl import KTOConfig, KTOTrainer

    return KTOTrainer(
        model=network(models.policy),
        ref_model=network(models.other),
        args=settings(KTOConfig, out, train_sampling_strategy="sequential", **chosen),
        train_dataset=dataset(
            [
                {"prompt": [said("user", prompt)], "completion": [said("assistant", answer)], "label": bool(good)}
                for prompt, answer, good in answers
            ]
        ),
        processing_class=tokenizer(models.policy),
    )


def labelled(model: LocalModel) -> list[Unit]:
    return [
        encode(
            model.chat, Comparison((said("user", prompt),), (Answer((said("assistant", answer),), label=float(good)),))
        )
        for prompt, answer, good in ANSWERS
    ]


def rotated(units: Sequence[Unit]) -> list[Unit]:
    """Every prompt with the answer before it: how TRL pairs prompts and answers that do not belong together."""
    return [(replace(units[i - 1][0], prompt=unit[0].prompt, mismatched=True),) for i, unit in enumerate(units)]


def baseline(model: LocalModel, batch: Batch) -> float:
    return float(prepared(model, KTO, batch).extra("baseline")[0])


WEIGHTS = {"equal": (1.0, 1.0), "rebalanced": (1.0, 1.5)}


@pytest.mark.parametrize("name", WEIGHTS)
def test_kto(name: str, apart: Models, tmp_path: Path) -> None:
    good, bad = WEIGHTS[name]
    trainer = kto_trainer(apart, tmp_path, ANSWERS, beta=0.1, desirable_weight=good, undesirable_weight=bad)
    model = apart.burnish()
    units = labelled(model)
    batch = apart.with_reference(model, collate([*units, *rotated(units)]))
    assert baseline(model, batch) > 1e-2, "with a baseline cut off at 0 this would show less"
    loss = replace(KTO, link=Prospect(good, bad))
    assert_agree(by_burnish(model, loss, batch), by_trl(trainer, whole_batch(trainer)))


def test_kto_pairs_prompts_and_answers_the_other_way_round(apart: Models) -> None:
    """Burnish goes on to the next answer, as the authors' code does, TRL to the one before: two samples of one mean."""
    model = apart.burnish()
    units = labelled(model)
    ours, theirs = (
        baseline(model, apart.with_reference(model, collate([*units, *other])))
        for other in (mismatch(units), rotated(units))
    )
    assert ours != pytest.approx(theirs, rel=1e-3)


def test_apo_zero_of_single_answers_is_that_of_pairs(models: Models, tmp_path: Path) -> None:
    """A pair's loss is the sum over its answers, TRL's mean over answers is half of it."""
    trainer = kto_trainer(
        models, tmp_path, BOTH, loss_type="apo_zero_unpaired", beta=0.1, per_device_train_batch_size=len(BOTH)
    )
    model = models.burnish()
    batch = models.with_reference(model, collate(encoded(model)))
    assert_agree(by_burnish(model, replace(APO_ZERO, coef=0.5), batch), by_trl(trainer, whole_batch(trainer)))

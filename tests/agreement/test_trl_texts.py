"""Fine-tuning and distillation against SFTTrainer, GKDTrainer and DistillationTrainer of TRL: value and gradient."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from burnish.core.distil import FORWARD_KL, JSD, REVERSE_KL, Distil
from burnish.core.losses import NLL
from burnish.data.units import collate, encode, supervised
from burnish.engines.local import LocalModel
from burnish.engines.nano import CHAT_TEMPLATE
from burnish.types import Batch, Example, Message
from tests.agreement.peers import (
    ENGINE,
    PAIRS,
    Models,
    assert_agree,
    by_burnish,
    by_trl,
    dataset,
    network,
    said,
    samples,
    settings,
    tokenizer,
    whole_batch,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

DIALOGUES: tuple[tuple[Message, ...], ...] = (
    (
        said("system", "Be brief."),
        said("user", "Hi"),
        said("assistant", "Hello."),
        said("user", "2 + 2?"),
        said("assistant", "4"),
    ),
    (said("user", "Name a colour."), said("assistant", "blue, I think")),
)

GENERATED = (
    "{% for message in messages %}<|{{ message['role'] }}|>{% if message['role'] == 'assistant' %}{% generation %}"
    "{{ message['content'] }}<|end|>{% endgeneration %}{% else %}{{ message['content'] }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""The chat template with marks around what the assistant says, which TRL reads its mask from."""


# --- fine-tuning ---------------------------------------------------------------------------------


def sft_trainer(models: Models, out: Path, rows: list[dict[str, Any]], **chosen: Any) -> Any:
    from trl import SFTConfig, SFTTrainer

    words = tokenizer(models.policy)
    words.chat_template = GENERATED
    return SFTTrainer(
        model=network(models.policy),
        args=settings(SFTConfig, out, **chosen),
        train_dataset=dataset(rows),
        processing_class=words,
    )


def test_the_marked_template_renders_the_same(models: Models) -> None:
    words = tokenizer(models.policy)
    for dialogue in DIALOGUES:
        texts = [
            words.apply_chat_template(list(dialogue), chat_template=template, tokenize=False)
            for template in (CHAT_TEMPLATE, GENERATED)
        ]
        assert texts[0] == texts[1]


def test_assistant_messages_only(models: Models, tmp_path: Path) -> None:
    model = models.burnish()
    rows = [{"messages": list(dialogue)} for dialogue in DIALOGUES]
    trainer = sft_trainer(models, tmp_path, rows, assistant_only_loss=True)
    units = [encode(model.chat, Example(dialogue)) for dialogue in DIALOGUES]
    assert_agree(by_burnish(model, NLL(), collate(units)), by_trl(trainer, whole_batch(trainer)))


def test_completion_only(models: Models, tmp_path: Path) -> None:
    model = models.burnish()
    rows = [{"prompt": list(dialogue[:-1]), "completion": [dialogue[-1]]} for dialogue in DIALOGUES]
    units = [encode(model.chat, Example(dialogue), last_only=True) for dialogue in DIALOGUES]
    trainer = sft_trainer(models, tmp_path, rows)
    assert_agree(by_burnish(model, NLL(), collate(units)), by_trl(trainer, whole_batch(trainer)))


def test_every_token(models: Models, tmp_path: Path) -> None:
    model = models.burnish()
    texts = [model.chat.encode_dialogue(dialogue)[0] for dialogue in DIALOGUES]
    trainer = sft_trainer(models, tmp_path, [{"messages": list(dialogue)} for dialogue in DIALOGUES])
    units = [supervised(tokens, [True] * len(tokens)) for tokens in texts]
    assert_agree(by_burnish(model, NLL(), collate(units)), by_trl(trainer, whole_batch(trainer)))


# --- distillation --------------------------------------------------------------------------------

DIVERGENCES = {"forward": FORWARD_KL, "reverse": REVERSE_KL, "jsd": JSD, "jsd at 0.3": Distil(0.3)}


def taught(models: Models) -> tuple[LocalModel, Batch]:
    model = models.burnish()
    model.learn_from(LocalModel(models.other, ENGINE))
    dialogues = [(said("user", pair.prompt), said("assistant", pair.chosen)) for pair in PAIRS]
    return model, collate([encode(model.chat, Example(dialogue)) for dialogue in dialogues])


@pytest.mark.parametrize("name", DIVERGENCES)
def test_distillation_on_given_text(name: str, models: Models, tmp_path: Path) -> None:
    """GKDTrainer's temperature is that of its samples alone; the distributions it compares are at 1."""
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    loss = DIVERGENCES[name]
    trainer = GKDTrainer(
        model=network(models.policy),
        teacher_model=network(models.other),
        args=settings(GKDConfig, tmp_path, beta=loss.beta, lmbda=0.0, temperature=0.7),
        train_dataset=dataset(
            [{"messages": [said("user", pair.prompt), said("assistant", pair.chosen)]} for pair in PAIRS]
        ),
        processing_class=tokenizer(models.policy),
    )
    model, batch = taught(models)
    assert_agree(by_burnish(model, loss, batch), by_trl(trainer, whole_batch(trainer)))


@pytest.mark.parametrize("name", DIVERGENCES)
def test_distillation_on_samples_at_a_temperature(name: str, models: Models, tmp_path: Path) -> None:
    """Both distributions are at the temperature of the samples; no square of it multiplies the loss."""
    from trl import DistillationConfig, DistillationTrainer

    loss, temperature = DIVERGENCES[name], 1.3
    trainer = DistillationTrainer(
        model=network(models.policy),
        teacher_model=network(models.other),
        args=settings(DistillationConfig, tmp_path, beta=loss.beta, temperature=temperature),
        train_dataset=dataset([{"prompt": [said("user", pair.prompt)]} for pair in PAIRS]),
        processing_class=tokenizer(models.policy),
    )
    model, batch = taught(models)
    theirs = by_trl(trainer, samples(batch))
    assert_agree(by_burnish(model, loss, replace(batch, temperature=temperature)), theirs)

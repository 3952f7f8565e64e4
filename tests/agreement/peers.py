"""TRL's trainers and Burnish's losses on the same weights and tokens: what each says the loss is, and its gradient.

TRL is not among what Burnish is tested with: ``make test-agreement`` has an environment of its own for it. Elsewhere a test
module that imports this one is skipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoTokenizer

from burnish.data.units import Unit, encode
from burnish.engines.local import Engine, LocalModel
from burnish.engines.reference import Reference
from burnish.loops.fixed import prepared
from burnish.types import Answer, Batch, Comparison, Head, Loss, Message, needs_of

REASON = "these tests compare with TRL 1.16, which is not installed here: run `make test-agreement`"

if not pytest.importorskip("trl", reason=REASON).__version__.startswith("1.16."):
    pytest.skip(REASON, allow_module_level=True)

TOLERANCE = 1e-5
ENGINE = Engine(dtype="float32", device="cpu")


# --- models --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Models:
    """Directories of a policy and of another model, its reference or teacher, which is nats away from it."""

    policy: Path
    other: Path

    def burnish(self, heads: Mapping[str, Head] | None = None) -> LocalModel:
        return LocalModel(self.policy, ENGINE, heads=heads)

    def with_reference(self, policy: LocalModel, batch: Batch) -> Batch:
        reference = Reference(policy, directory=self.other)
        return replace(batch, ref_logprobs=reference.forward(batch).logprobs)


def network(directory: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, local_files_only=True)


def tokenizer(directory: Path) -> Any:
    return AutoTokenizer.from_pretrained(directory, local_files_only=True)


def moved(source: Path, target: Path, deviation: float, seed: int) -> Path:
    """The model with noise on every weight, written to ``target``."""
    model, generator = network(source), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(deviation * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(target)
    tokenizer(source).save_pretrained(target)
    return target


# --- data ----------------------------------------------------------------------------------------


def said(role: str, content: str) -> Message:
    return {"role": role, "content": content}


@dataclass(frozen=True)
class Pair:
    """Two answers to a prompt, of different lengths, as both libraries take them."""

    prompt: str
    chosen: str
    rejected: str
    margin: float

    def for_trl(self) -> dict[str, Any]:
        chosen, rejected = [said("assistant", self.chosen)], [said("assistant", self.rejected)]
        return {"prompt": [said("user", self.prompt)], "chosen": chosen, "rejected": rejected}

    def for_burnish(self) -> Comparison:
        better = Answer((said("assistant", self.chosen),), rank=0, scores={"margin": self.margin})
        worse = Answer((said("assistant", self.rejected),), rank=1, scores={"margin": 0.0})
        return Comparison((said("user", self.prompt),), (better, worse))


PAIRS = (
    Pair("2 + 2 = ?", "4", "five", 1.0),
    Pair("Say hi.", "Hi there", "Hello there", 0.25),
    Pair("7 * 6", "42", "eight", 2.0),
    Pair("Name a colour.", "blue", "I would rather not.", 0.5),
    Pair("Done?", "Yes, all of it", "Maybe so", 0.0),
)
"""Three of the pairs differ in length by the same number of characters: what sorts them is not that alone."""


def encoded(model: LocalModel, pairs: Sequence[Pair] = PAIRS) -> list[Unit]:
    return [encode(model.chat, pair.for_burnish()) for pair in pairs]


# --- both sides ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """A loss and its gradient, by the names of the parameters."""

    loss: float
    gradient: Mapping[str, Tensor]


def by_burnish(model: LocalModel, loss: Loss, batch: Batch) -> Found:
    """The loss of one optimizer step that is one micro-batch."""
    batch = prepared(model, loss, batch)
    value, _ = loss(model.outputs(batch, needs_of(loss)), batch)
    heads = {f"{name}.{k}": p for name, head in model.heads.items() for k, p in head.named_parameters()}
    return _differentiated(value, {**dict(model.network.named_parameters()), **heads})


def by_trl(trainer: Any, inputs: Mapping[str, Any]) -> Found:
    """What the trainer hands to backward for this batch. In evaluation mode it divides by no accumulation steps."""
    trainer.model.eval()
    value = trainer.compute_loss(trainer.model, dict(inputs))
    return _differentiated(value, dict(trainer.model.named_parameters()))


def _differentiated(value: Tensor, parameters: Mapping[str, Tensor]) -> Found:
    gradients = torch.autograd.grad(value, list(parameters.values()), materialize_grads=True)
    return Found(float(value.detach()), dict(zip(parameters, gradients, strict=True)))


def distance(ours: Found, theirs: Found) -> float:
    """How far the gradients are apart, all parameters as one vector, relative to the length of theirs."""
    names = sorted(theirs.gradient)
    assert set(names) <= set(ours.gradient)
    a, b = (torch.cat([found.gradient[name].flatten().double() for name in names]) for found in (ours, theirs))
    assert float(b.norm()) > 0
    return float((a - b).norm() / b.norm())


def assert_agree(ours: Found, theirs: Found) -> None:
    """To 1e-5, relatively. A loss that is a sum of terms of both signs may be near 0: their float32 rounding is allowed for."""
    assert ours.loss == pytest.approx(theirs.loss, rel=TOLERANCE, abs=1e-6)
    assert distance(ours, theirs) < TOLERANCE


# --- trainers ------------------------------------------------------------------------------------


def settings(config: type, out: Path, **chosen: Any) -> Any:
    """A trainer's configuration on the CPU and in float32; it reports to nobody."""
    common: dict[str, Any] = {"report_to": "none", "use_cpu": True, "bf16": False, "disable_tqdm": True}
    return config(output_dir=str(out), **{**common, "per_device_train_batch_size": 8, **chosen})


def dataset(found: Sequence[Mapping[str, Any]]) -> Any:
    from datasets import Dataset

    return Dataset.from_list([dict(row) for row in found])


def whole_batch(trainer: Any) -> dict[str, Any]:
    """All of the trainer's data as its own collator makes one batch of it."""
    return dict(trainer.data_collator([trainer.train_dataset[i] for i in range(len(trainer.train_dataset))]))


def samples(batch: Batch) -> dict[str, Tensor]:
    """Prompts and completions as TRL lays out what was sampled: prompts padded on the left, completions on the right."""
    flipped = [prompt.flip(0) for prompt in batch.prompts]
    ones = [torch.ones_like(prompt) for prompt in flipped]
    return {
        "prompt_ids": pad_sequence(flipped, batch_first=True).flip(1),
        "prompt_mask": pad_sequence(ones, batch_first=True).flip(1),
        "completion_ids": batch.tokens,
        "completion_mask": (torch.arange(batch.tokens.shape[1]) < batch.lengths[:, None]).long(),
    }

"""What a teacher leaves for a student: texts it wrote, the ids it held likeliest in them, and how far the two are apart."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.text import Text

from burnish import files
from burnish.core import keys
from burnish.core.intervals import Z95
from burnish.data import units
from burnish.data.chat import Chat
from burnish.data.datasets import Dataset
from burnish.data.stored import tensors
from burnish.data.units import Row, TopTokens, Unit
from burnish.engines.controls import suppressed
from burnish.engines.decode import LocalSampler
from burnish.engines.local import Engine, LocalModel
from burnish.engines.teacher import check_teacher, top_k
from burnish.errors import InputError
from burnish.loops.curate.base import REHEARSED, Draw, complete, ends
from burnish.loops.evaluate import distinct
from burnish.loops.fixed import encode_all
from burnish.stage import Stage
from burnish.types import Completion, Example, Needs, Request, Sampling, Task


@dataclass(frozen=True)
class Lesson(Draw):
    """What a teacher is asked for: one text to each prompt, if nothing else is said."""

    samples: int = 1


def write(stage: Stage, teacher: Path, prompts: Task, *, cfg: Lesson) -> Path:
    """A stage: the teacher's completions as a data file of prompts and completions.

    What was cut off at its limit is left out: its end is none. A dry run asks for a few and prints them. Raises InputError
    where nothing else is there.
    """
    asked = distinct(prompts, min(REHEARSED if stage.dry_run else cfg.n or len(prompts), len(prompts)))
    stage.view.say(f"{stage.name}: the teacher writes {len(asked) * cfg.samples} texts")
    done = [(each.example, c) for each in complete(stage, teacher, asked, cfg) for c in each.completions]
    whole = [(example, c) for example, c in done if ends(c)]
    if not whole:
        raise InputError(
            f"none of the teacher's {len(done)} texts ends within {cfg.sampling.max_tokens} tokens: raise "
            "texts.sampling.max_tokens"
        )
    if cut := len(done) - len(whole):
        stage.view.say(f"left out, because they were cut off or are empty: {cut}")
    if stage.dry_run:
        for example, c in whole:
            stage.view.say(Text(f"  {example.messages[-1]['content']!r} -> {c.text!r}"))
    path = stage.directory / "texts.jsonl"
    rows = [{"prompt": list(example.messages), "completion": list(c.messages)} for example, c in whole]
    files.write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    return path


def store(
    stage: Stage, teacher: Path, student: Path, texts: Dataset, *, k: int, engine: Engine, limit: int = 0
) -> Path:
    """A stage: at every token of the texts, as the student reads them, the teacher's ``k`` likeliest ids.

    Texts longer than ``limit`` tokens (0: what both can hold) are left out. Raises InputError where the two do not share a
    vocabulary.
    """
    held = _held(stage, engine)
    model, reader = LocalModel(Path(teacher), held), LocalModel(Path(student), held)
    check_teacher(reader, model)
    longest = min(limit or reader.context, reader.context, model.context)
    found = encode_all(reader.chat, texts, longest, drop_long=True)
    stage.view.say(f"{stage.name}: the {k} likeliest of {sum(len(u[0].tokens) for u in found)} tokens are stored")
    rows: list[Unit] = []
    for start in range(0, len(found), 64):
        part = found[start : start + 64]
        ids, logprobs = top_k(model, units.collate(part), k)
        rows += [_taught(unit[0], TopTokens(i, p)) for unit, i, p in zip(part, ids, logprobs.float(), strict=True)]
    path = stage.directory / "teacher.safetensors"
    files.write_safetensors(path, tensors(rows))
    return path


def _taught(row: Row, known: TopTokens) -> Unit:
    end = len(row.tokens)
    return (replace(row, teacher=TopTokens(known.ids[:end].clone(), known.logprobs[:end].clone())),)


def _held(stage: Stage, engine: Engine) -> Engine:
    found: Engine = replace(stage.decide("engine", engine.resolved), adapter=None)
    return found


def _sampled(model: LocalModel, examples: Sequence[Example], sampling: Sampling, key: int) -> list[Completion]:
    requests = [
        Request(model.chat.encode_prompt(example.messages), keys.derive(key, "text", number), sampling)
        for number, example in enumerate(examples)
    ]
    return sorted(LocalSampler(model).sample(requests), key=lambda c: c.index)


# --- how far apart -------------------------------------------------------------------------------


def share_tokens(student: Path, teacher: Path) -> bool:
    """Whether a token means the same to both, so that distributions can be compared."""
    one, other = (Chat.load(model).tokenizer.get_vocab() for model in (student, teacher))
    return bool(one == other)


def apart(stage: Stage, student: Path, teacher: Path, prompts: Task, texts: Dataset, *, cfg: Lesson) -> dict[str, Any]:
    """A stage: KL(student || teacher) on the student's own completions, and its NLL of the teacher's texts, row by row.

    ``kl`` and ``nll`` are sums over the tokens of a row, in nats; the KL is left out where the two share no vocabulary. The
    same randomness every time. A dry run measures nothing.
    """
    if stage.dry_run:
        return {}
    engine = _held(stage, cfg.engine)
    policy = LocalModel(Path(student), engine)
    stage.view.say(f"{stage.name}: {cfg.n} prompts, {len(texts)} texts of the teacher")
    found: dict[str, Any] = _likelihood(policy, encode_all(policy.chat, texts, policy.context, drop_long=True))
    if share_tokens(Path(student), Path(teacher)):
        policy.learn_from(LocalModel(Path(teacher), engine))
        examples = distinct(prompts, cfg.n)
        done = _sampled(policy, examples, cfg.sampling, keys.derive("evaluate"))
        found |= _divergence(policy, examples, done, cfg.sampling)
        found["shown"] = [(e.messages[-1]["content"], c.text) for e, c in zip(examples[:3], done, strict=False)]
    return found


def _likelihood(policy: LocalModel, rows: Sequence[Unit]) -> dict[str, list[float]]:
    batch = units.collate(rows)
    logprobs = torch.where(batch.mask, policy.forward(batch).logprobs.double(), 0.0)
    return {"nll": (-logprobs.sum(1)).tolist(), "nll_tokens": batch.mask.sum(1).double().tolist()}


def _divergence(
    policy: LocalModel, examples: Sequence[Example], done: Sequence[Completion], sampling: Sampling
) -> dict[str, list[float]]:
    rows: list[Unit] = [
        (Row(policy.chat.encode_prompt(e.messages), c.tokens, c.chosen),) for e, c in zip(examples, done, strict=True)
    ]
    banned = suppressed(policy.chat, sampling)
    batch = replace(units.collate(rows), temperature=sampling.temperature, suppressed=banned)
    divergence = policy.forward(batch, Needs(logprobs=False, divergence=1.0)).divergence
    assert divergence is not None
    sums = torch.where(batch.mask, divergence.double(), 0.0).sum(1)
    return {"kl": sums.tolist(), "kl_tokens": batch.lengths.double().tolist()}


def per_token(sums: Sequence[float], tokens: Sequence[float]) -> dict[str, float]:
    """The mean per token with its 95% interval. Rows, not tokens, are independent: a ratio estimator over rows."""
    return _interval(sum(sums) / sum(tokens), _influence(sums, tokens))


def change(
    before: tuple[Sequence[float], Sequence[float]], after: tuple[Sequence[float], Sequence[float]]
) -> dict[str, float]:
    """The change of the mean per token on the same prompts, each a (sums, tokens); what they share cancels."""
    (a, m), (b, n) = before, after
    pulls = [y - x for x, y in zip(_influence(a, m), _influence(b, n), strict=True)]
    return _interval(sum(b) / sum(n) - sum(a) / sum(m), pulls)


def _influence(sums: Sequence[float], tokens: Sequence[float]) -> list[float]:
    """What each row adds to the error of the ratio: ``(s_i - R t_i) / T``."""
    total = sum(tokens)
    ratio = sum(sums) / total
    return [(s - ratio * t) / total for s, t in zip(sums, tokens, strict=True)]


def _interval(value: float, pulls: Sequence[float]) -> dict[str, float]:
    n = len(pulls)
    half = Z95 * math.sqrt(sum(pull**2 for pull in pulls) * n / max(1, n - 1))
    return {"mean": value, "low": value - half, "high": value + half, "n": float(n)}

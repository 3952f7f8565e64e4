"""What curation shares: a model's completions to the prompts of a task, and data files that say where they came from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from burnish import files
from burnish.core import keys
from burnish.engines.decode import LocalSampler
from burnish.engines.local import Engine, LocalModel
from burnish.loops.evaluate import distinct
from burnish.stage import Stage
from burnish.types import Completion, Example, Request, Sampling, Task


@dataclass(frozen=True)
class Draw:
    """``samples`` completions to each of the first ``n`` different prompts of a task (0: all of them)."""

    n: int = 0
    samples: int = 8
    sampling: Sampling = field(default_factory=Sampling)
    engine: Engine = field(default_factory=Engine)

    def __post_init__(self) -> None:
        if self.n < 0 or self.samples < 1:
            raise ValueError(f"n={self.n}, samples={self.samples}: give n >= 0 and samples >= 1")


class Drawn(NamedTuple):
    """A prompt and the completions to it."""

    example: Example
    completions: tuple[Completion, ...]


def draw(stage: Stage, model: Path, task: Task, cfg: Draw, who: str = "draw") -> list[Drawn]:
    """The completions of ``model``, prompt by prompt. Their randomness follows from the stage's seed and ``who``."""
    engine = replace(stage.decide("engine", cfg.engine.resolved), adapter=None)
    policy = LocalModel(Path(model), engine)
    examples = distinct(task, min(cfg.n or len(task), len(task)))
    requests = [
        Request(policy.chat.encode_prompt(example.messages), keys.derive(stage.seed, who, i, j), cfg.sampling)
        for i, example in enumerate(examples)
        for j in range(cfg.samples)
    ]
    done = sorted(LocalSampler(policy).sample(requests), key=lambda c: c.index)
    return [Drawn(e, tuple(done[i * cfg.samples : (i + 1) * cfg.samples])) for i, e in enumerate(examples)]


def store(
    stage: Stage, rows: Iterable[Mapping[str, Any]], *, counts: Mapping[str, int], source: Mapping[str, Any],
    name: str = "data",
) -> Path:  # fmt: skip
    """Write the rows to ``{name}.jsonl`` in the stage's directory, and beside it ``{name}.provenance.json``.

    ``counts`` says how many were left after each step, in order, from the first draw to what was kept; it is also
    printed. ``source`` says what they were made from: models, task, settings.
    """
    path = stage.directory / f"{name}.jsonl"
    files.write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    record = {"stage": stage.name, "seed": stage.seed, "source": source, "counts": counts}
    files.write_text(stage.directory / f"{name}.provenance.json", json.dumps(record, indent=2, default=str) + "\n")
    stage.view.say(f"{stage.name}: " + ", ".join(f"{count} {what}" for what, count in counts.items()))
    return path

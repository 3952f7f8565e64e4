"""Merge models that were made from one base: averages (arXiv:2203.05482), task vectors, TIES, DARE.

    burnish run merge models='["runs/a/1-sft/model", "runs/b/1-sft/model"]'
    burnish run merge models='["a", "b"]' method=ties base=smollm2-135m method.keep=0.3

``models`` are directories or names, all of one architecture and one tokenizer; ``base`` is the model they come from, for the
methods that merge what training changed. ``method`` is average, ema, task-vectors, ties or dare, with settings of its own;
``Share`` gives layers weights of their own::

    method='{kind: Average, shares: [{layers: [0, 11], weights: [1, 0]}, {match: lm_head, weights: [1, 3]}]}'

Weights are read and written tensor by tensor, so that the memory needed is one tensor of each model and one file of
``shard_gb`` of the result. Nothing is trained, so a scale changes nothing but that: the models say how large the merge is.

- ``tiny`` and ``laptop`` write files of 1 GB.
- ``paper`` writes files of 5 GB, as the large models of Llama 3 (arXiv:2407.21783) and Gemma 2 (arXiv:2408.00118) come,
  whose pipelines average models of runs with different data and settings.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from burnish.core.merging import Average, Merge
from burnish.engines.pretrained import resolve
from burnish.errors import InputError
from burnish.loops import report
from burnish.loops.merge import merge
from burnish.run import Artifact, Run


@dataclass(frozen=True)
class Merging:
    """``models`` and ``base`` are directories, aliases or hub names; ``shard_gb`` bounds a file of the result, in 10^9
    bytes."""

    models: tuple[str, ...] = ()
    method: Merge = field(default_factory=Average)
    base: str | None = None
    shard_gb: float = 1.0

    def __post_init__(self) -> None:
        if self.shard_gb <= 0:
            raise ValueError(f"shard_gb={self.shard_gb}: a file of the result has to hold something")


def main(run: Run, s: Merging) -> Artifact:
    if len(s.models) < 2:
        raise InputError("""merge needs models to merge: add models='["DIRECTORY", "DIRECTORY"]'.""")
    models: list[Path] = [resolve(name) for name in s.models]
    base = resolve(s.base) if s.base else None
    if base and not s.method.needs_base:
        raise InputError(
            f"{type(s.method).__name__} merges no task vectors, so it has no use for a base: leave out base="
        )
    merged: Artifact = run.stage(
        merge, "1-merge", models, method=s.method, base=base, shard_bytes=int(s.shard_gb * 1e9)
    )
    report.say_next(run, merged, "Hello.")
    return merged


SCALES = {"tiny": Merging(), "laptop": Merging(), "paper": Merging(shard_gb=5.0)}

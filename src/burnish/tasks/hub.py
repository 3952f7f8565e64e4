"""GSM8K (arXiv:2110.14168) and MATH (arXiv:2103.03874), from the model hub or from a copy of yours."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

from burnish.data.rows import load_rows
from burnish.errors import InputError
from burnish.rewards.answers import SOURCES, boxed
from burnish.rewards.base import Composable, total
from burnish.rewards.math import MARKED, Math
from burnish.rewards.pool import guarded
from burnish.tasks import checks
from burnish.tasks.problems import CLOSING, evasions
from burnish.types import Completion, Example, Reward, outcome

SUFFIXES = (".parquet", ".jsonl", ".json")
SECONDS = 10.0  # for one reply to be compared by symbolic algebra


@dataclass(frozen=True)
class Published(ABC):
    """Problems with published solutions. They are fetched from the hub only when they are looked at, and no code is.

    ``path`` is a directory with a copy: files of the published columns (Parquet, JSONL or JSON), in whose names is the split,
    "train" or "test". A tenth of the published training problems, by their text, is the split "dev". Every problem is graded
    as mathematics (:class:`~burnish.rewards.math.Math`). Raises InputError, saying what was tried, where there are no data.
    """

    path: Path | None = None
    split: str = "train"
    style: str = "plain"

    repository: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]
    sources: ClassVar[tuple[str, ...]] = MARKED

    def __post_init__(self) -> None:
        checks.check_choice("split", self.split, checks.SPLITS)
        checks.check_choice("style", self.style, checks.STYLES)
        if self.path is not None:
            object.__setattr__(self, "path", Path(self.path))  # a stage hashes the files behind a Path

    @abstractmethod
    def published(self, part: str) -> tuple[str, ...]:
        """The names of the files on the hub that hold a part, "train" or "test"."""

    @abstractmethod
    def convert(self, row: Mapping[str, Any]) -> Example | None:
        """One published row; None where it has no answer that can be graded."""

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Example:
        checks.check_index(index, len(self))
        return self._examples[index]

    def with_split(self, split: str) -> Self:
        return replace(self, split=split)

    @cached_property
    def _examples(self) -> tuple[Example, ...]:
        part = "test" if self.split == "test" else "train"
        found = []
        for file in self._local(part) if self.path else self._fetched(part):
            for number, row in enumerate(load_rows(file), start=1):
                missing = [name for name in self.columns if not isinstance(row.get(name), str)]
                if missing:
                    raise InputError(
                        f"{file}, row {number} has no text in column '{missing[0]}': give the published files"
                    )
                example = self.convert(row)
                if example is not None and self._in_split(example):
                    found.append(example)
        return tuple(found)

    def _in_split(self, example: Example) -> bool:
        if self.split == "test":
            return True
        return (checks.split_of(example.meta["canonical"]) == "dev") == (self.split == "dev")

    def _local(self, part: str) -> list[Path]:
        assert self.path is not None
        if not self.path.is_dir():
            raise InputError(f"{self.path} is no directory: give one with a copy of {self.repository}, task.path=DIR")
        files = sorted(file for file in self.path.rglob("*") if file.suffix in SUFFIXES)
        found = [file for file in files if part in file.name]
        if not found:
            seen = f"it has {', '.join(file.name for file in files[:5])}" if files else "it has no data file"
            raise InputError(
                f"{self.path} has no file with '{part}' in its name that ends in {', '.join(SUFFIXES)} ({seen}): "
                f"give a directory with a copy of {self.repository}"
            )
        return found

    def _fetched(self, part: str) -> list[Path]:
        from huggingface_hub import errors, hf_hub_download

        names = self.published(part)
        try:
            return [Path(hf_hub_download(self.repository, name, repo_type="dataset")) for name in names]
        except (OSError, errors.HfHubHTTPError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f"the hub did not give {names[0]} of {self.repository} ({reason}): check the network and HF_HUB_OFFLINE, or "
                f"give a directory with a copy, task.path=DIR, with files such as {part}-00000-of-00001.parquet"
            ) from error

    def example(self, question: str, answer: str, solution: str, meta: Mapping[str, Any]) -> Example:
        closing = CLOSING if self.style == "think" else "Put the final answer in \\boxed{}."
        known = {"canonical": " ".join(question.split()), "solution": solution, "domain": "math"}
        return Example(({"role": "user", "content": f"{question.strip()}\n\n{closing}"},), answer, {**meta, **known})

    def grader(self, sources: tuple[str, ...]) -> Composable:
        """What judges a reply that states its answer in one of ``sources``."""
        return Math(sources)

    def reward(self, example: Example, completions: Sequence[Completion]) -> list[Reward]:
        """Lenient accuracy."""
        return [outcome(total(each), "accuracy") for each in self.grader(self.sources)(example, completions)]

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:
        """Strict: in a box, in ``<answer>`` or as the whole reply. Lenient: in any of the task's ``sources``."""
        strict = self.grader(("boxed", "tag", "whole"))(example, [completion])[0]
        return {"accuracy": total(self.reward(example, [completion])[0]), "accuracy_strict": total(strict)}

    def gold(self, example: Example) -> str:
        """The published solution, and its answer."""
        return self._reply(example, f"\\boxed{{{example.answer}}}")

    def near_misses(self, example: Example) -> tuple[str, ...]:
        """Another answer, two answers, the solution without its end, an answer that is only thought of."""
        right, wrong = f"\\boxed{{{example.answer}}}", f"\\boxed{{{example.answer} + 1}}"
        replies = (wrong, f"{right} or {wrong}", "\\boxed{}", f"\\boxed{{{example.answer}")
        return (*(self._reply(example, text) for text in replies), *evasions(right))

    def _reply(self, example: Example, answer: str) -> str:
        thoughts = example.meta["solution"].replace("\\boxed", "")
        if self.style == "think":
            return f"<think>{thoughts}</think><answer>{answer}</answer>"
        return f"{thoughts}\n{answer}"

    def validate(self, count: int = 100) -> str:
        """See :func:`burnish.tasks.checks.validate`."""
        return checks.validate(self, count)


@dataclass(frozen=True)
class Gsm8k(Published):
    """Grade-school word problems with whole numbers as answers (arXiv:2110.14168).

    The last number of a reply counts as its answer where nothing else is marked as one. ``meta``: kind, difficulty (steps of
    the published solution), canonical (the question), solution, domain.
    """

    repository: ClassVar[str] = "openai/gsm8k"
    columns: ClassVar[tuple[str, ...]] = ("question", "answer")
    sources: ClassVar[tuple[str, ...]] = SOURCES

    def published(self, part: str) -> tuple[str, ...]:
        return (f"main/{part}-00000-of-00001.parquet",)

    def convert(self, row: Mapping[str, Any]) -> Example | None:
        solution, _, answer = row["answer"].rpartition("####")
        answer = answer.strip().replace(",", "")
        if not solution or not answer.lstrip("-").isdecimal():
            return None
        meta = {"kind": "gsm8k", "difficulty": len(solution.strip().splitlines())}
        return self.example(row["question"], answer, solution.strip(), meta)


@dataclass(frozen=True)
class CompetitionMath(Published):
    """MATH: problems of mathematics competitions, with a level from 1 to 5 (arXiv:2103.03874). Needs the extra ``rewards``.

    Answers are read where a reply marks them, as :class:`~burnish.rewards.math.Math` does. Rows whose published answer it
    cannot grade are left out. ``meta``: kind, difficulty (the level), canonical (the problem), subject, solution, domain.
    """

    repository: ClassVar[str] = "EleutherAI/hendrycks_math"
    columns: ClassVar[tuple[str, ...]] = ("problem", "solution")
    subjects: ClassVar[tuple[str, ...]] = (
        "algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory", "prealgebra",
        "precalculus",
    )  # fmt: skip

    def published(self, part: str) -> tuple[str, ...]:
        return tuple(f"{subject}/{part}-00000-of-00001.parquet" for subject in self.subjects)

    def grader(self, sources: tuple[str, ...]) -> Composable:
        return guarded(Math(sources), SECONDS)

    def convert(self, row: Mapping[str, Any]) -> Example | None:
        answers = boxed(row["solution"])
        level = str(row.get("level", "")).removeprefix("Level ")
        meta = {"kind": "math", "difficulty": int(level) if level.isdecimal() else 0, "subject": row.get("type", "")}
        if not answers or not answers[-1].strip():
            return None
        example = self.example(row["problem"], answers[-1].strip(), row["solution"], meta)
        return example if _gradable(example) else None


def _gradable(example: Example) -> bool:
    """Whether the grader accepts the published answer. Raises InputError where the package is missing that may be needed."""
    try:
        import math_verify  # noqa: F401
    except ImportError as error:
        raise InputError(
            "MATH is graded with math-verify, which is not installed: pip install 'burnish[rewards]'"
        ) from error
    said = Completion((), f"\\boxed{{{example.answer}}}", (), "eos")
    try:
        return total(Math()(example, [said])[0]) == 1
    except InputError:
        return False

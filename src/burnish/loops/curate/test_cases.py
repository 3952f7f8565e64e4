"""Tests for code problems that have none: inputs that known-good programs agree about (Kimi k1.5, arXiv:2501.12599).

A generator writes inputs. Programs that were accepted elsewhere are run on them, and what most of them print is the expected
output. A case about which they do not agree is dropped, and so is a problem whose own good programs then fail.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from burnish import config
from burnish.data.rows import Row, load_rows, numbered
from burnish.errors import InputError
from burnish.loops.curate.base import store
from burnish.loops.curate.items import write_rows
from burnish.loops.curate.writer import Author, Writer, filled, says
from burnish.rewards.code import program_of
from burnish.rewards.sandbox import Limits, Program, Sandbox, choose
from burnish.stage import Stage

GENERATOR = (
    "Here is a programming problem.\n\n{problem}\n\nWrite a Python program that writes one random test input for it, in the "
    "format that the problem asks for, and nothing else. It reads a whole number from its standard input: seed the random "
    "numbers with it. Small numbers are to give small inputs, large ones inputs at the limits of the problem. Reply with the "
    "program in one block marked as Python."
)


@dataclass(frozen=True)
class Rules:
    """A case stays where at least the share ``agree`` of the submissions print the same, a problem where at least the share
    ``passing`` of them pass all cases that stayed.

    A problem needs ``submissions`` programs and ``cases`` cases that stay; of a generator ``inputs`` are asked. All are the
    paper's numbers.
    """

    agree: float = 0.7
    passing: float = 0.9
    submissions: int = 10
    cases: int = 40
    inputs: int = 50

    def __post_init__(self) -> None:
        if not 0.5 < self.agree <= 1 or not 0 <= self.passing <= 1:
            raise InputError(f"agree={self.agree}, passing={self.passing}: give more than .5, and a share from 0 to 1")
        if min(self.submissions, self.cases, self.inputs) < 1:
            raise InputError(f"{self}: submissions, cases and inputs are at least 1")


KIMI, LIMITS = Rules(), Limits()


class Checked(NamedTuple):
    """What is left of a problem: the ``tests`` that stayed, and how many of its ``submissions`` are ``passing`` all of them."""

    tests: tuple[dict[str, str], ...]
    passing: int
    submissions: int

    def dropped(self, rules: Rules) -> str:
        """Why the problem is dropped; empty where it stays."""
        if self.submissions < rules.submissions:
            return "too few submissions"
        if len(self.tests) < rules.cases:
            return "too few cases"
        return "" if self.passing / self.submissions >= rules.passing else "submissions disagree"


def agreed(outputs: Sequence[str | None], share: float) -> str | None:
    """What at least this share of the programs print, None where there is no such thing. A None among them is a failure."""
    for output, count in Counter(outputs).most_common(1):
        if count / len(outputs) >= share:
            return output
    return None


def check(inputs: Sequence[str], outputs: Sequence[Sequence[str | None]], rules: Rules) -> Checked:
    """Which cases stay. ``outputs[case][submission]`` is what was printed, None where a program failed."""
    wanted = [agreed(line, rules.agree) for line in outputs]
    kept = [place for place, output in enumerate(wanted) if output is not None]
    tests = tuple({"stdin": inputs[place], "stdout": wanted[place] or ""} for place in kept)
    submissions = len(outputs[0]) if outputs else 0
    passing = sum(all(outputs[place][i] == wanted[place] for place in kept) for i in range(submissions))
    return Checked(tests, passing, submissions)


def printed(sandbox: Sandbox, programs: Sequence[Program], limits: Limits) -> list[str | None]:
    """What each program prints, white space at the ends of lines and of the text aside; None where it fails.

    They run side by side. One that reaches the net of real time runs once more, alone.
    """
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        results = list(pool.map(lambda program: sandbox.run(program, limits), programs))
    again = [
        sandbox.run(program, limits) if result.status == "wall" else result
        for program, result in zip(programs, results, strict=True)
    ]
    return [_lines(result.stdout) if result.status == "ok" else None for result in again]


def run_all(
    sandbox: Sandbox, submissions: Sequence[str], inputs: Sequence[str], limits: Limits
) -> list[list[str | None]]:
    """[case][submission] what every submission prints for every input."""
    programs = [Program(source, given.encode()) for given in inputs for source in submissions]
    found = printed(sandbox, programs, limits)
    size = len(submissions)
    return [found[case * size : (case + 1) * size] for case in range(len(inputs))]


def generated(sandbox: Sandbox, generator: str, count: int, limits: Limits) -> list[str]:
    """The different inputs that a generator prints for the numbers from 0; those for which it fails are missing."""
    found = printed(sandbox, [Program(generator, f"{number}\n".encode()) for number in range(count)], limits)
    return list(dict.fromkeys(text + "\n" for text in found if text))


def generators(writer: Writer, problems: Sequence[str], template: str = GENERATOR, *, seed: int = 0) -> list[str]:
    """A generator of inputs for each problem; empty where the reply has no program."""
    asked = [(says("user", filled(template, problem=problem)),) for problem in problems]
    return [program_of(reply) or "" for reply in writer.write(asked, seed, "generators")]


def add_tests(
    stage: Stage, data: Path, *, model: Author | None = None, rules: Rules = KIMI, limits: Limits = LIMITS,
    backend: str = "auto", url: str = "", unsafe: bool = False,
) -> Path:  # fmt: skip
    """A stage: code problems with tests, in the form that :class:`burnish.rewards.code.Code` reads.

    A row has a ``prompt`` and ``submissions``, a list of programs that are known to be right; and ``inputs``, a list of
    texts, or a ``generator``, a program (see :data:`GENERATOR`), or else the model is asked for one. The sandbox is that of
    :func:`burnish.rewards.sandbox.choose`. ``problems.jsonl`` says of every problem what became of it. Raises InputError.
    """
    writer = Writer.of(model, temperature=1.0, max_tokens=2048) if model else None
    rows = [numbered(number, _problem, row) for number, row in enumerate(load_rows(data), start=1)]
    written = _written(rows, writer, stage.seed)
    sandbox = choose(backend, url, unsafe)
    found = [_checked(sandbox, row, generator, rules, limits) for row, generator in zip(rows, written, strict=True)]
    reasons = [each.dropped(rules) for each in found]
    counts = {"problems": len(rows), **Counter(f"dropped: {reason}" for reason in reasons if reason)}
    counts["kept"] = reasons.count("")
    source = {"data": str(data), "rules": config.plain(rules), "model": model, "sandbox": sandbox.name}
    notes = [
        {"row": i, "cases": len(each.tests), "passing": each.passing, "of": each.submissions, "dropped": reason}
        for i, (each, reason) in enumerate(zip(found, reasons, strict=True), start=1)
    ]
    write_rows(stage.directory / "problems.jsonl", notes)
    kept = [_tested(row, each) for row, each, reason in zip(rows, found, reasons, strict=True) if not reason]
    return store(stage, kept, counts=counts, source=source)


def _checked(sandbox: Sandbox, row: Row, generator: str, rules: Rules, limits: Limits) -> Checked:
    submissions = row["submissions"]
    if len(submissions) < rules.submissions:
        return Checked((), 0, len(submissions))
    inputs = row.get("inputs") or (generated(sandbox, generator, rules.inputs, limits) if generator else [])
    inputs = list(dict.fromkeys(inputs))
    outputs = run_all(sandbox, submissions, inputs, limits)
    return check(inputs, outputs, rules)._replace(submissions=len(submissions))


def _written(rows: Sequence[Row], writer: Writer | None, seed: int) -> list[str]:
    """The generator of every problem; empty for those that have inputs."""
    lacking = [not row.get("inputs") and not row.get("generator") for row in rows]
    missing = [row for row, lacks in zip(rows, lacking, strict=True) if lacks]
    if missing and writer is None:
        raise InputError(
            f"{len(missing)} of {len(rows)} problems have neither 'inputs' nor a 'generator': add one of them to each row, or "
            "give a model to ask for generators"
        )
    asked = iter(generators(writer, [_asked(row) for row in missing], seed=seed) if writer else ())
    return [next(asked) if lacks else str(row.get("generator") or "") for row, lacks in zip(rows, lacking, strict=True)]


def _problem(row: Mapping[str, Any]) -> Row:
    """The row, if it is a problem."""
    if not _asked(row):
        raise InputError("column 'prompt' is empty: write the problem into it")
    for name in ("submissions", "inputs"):
        value = row.get(name, [] if name == "inputs" else None)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise InputError(f"column '{name}' has to be a list of texts")
    return dict(row)


def _asked(row: Mapping[str, Any]) -> str:
    prompt = row.get("prompt")
    last = prompt[-1] if isinstance(prompt, list) and prompt else prompt
    text = last.get("content") if isinstance(last, Mapping) else last
    return text if isinstance(text, str) else ""


def _tested(row: Row, checked: Checked) -> Row:
    rest = {name: value for name, value in row.items() if name not in ("submissions", "inputs", "generator")}
    return {"domain": "code", **rest, "tests": list(checked.tests)}


def _lines(output: bytes) -> str:
    return "\n".join(line.rstrip() for line in output.decode(errors="replace").rstrip().split("\n"))

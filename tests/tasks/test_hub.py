"""GSM8K and MATH from files in the published columns; offline, one error that says what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from burnish import config
from burnish.errors import InputError
from burnish.rewards.pool import close_pools
from burnish.stage import fingerprint
from burnish.tasks.hub import CompetitionMath, Gsm8k
from burnish.types import Completion


def said(text: str, finish: str = "eos") -> Completion:
    return Completion((), text, (), finish)


def word_problem(i: int) -> dict[str, str]:
    question = f"Ada has {i} apples and buys {i + 2} more. How many has she?"
    return {
        "question": question,
        "answer": f"She has {i}+{i + 2} = <<{i}+{i + 2}={2 * i + 2}>>{2 * i + 2}.\nSo many.\n#### {2 * i + 2:,}",
    }


@pytest.fixture
def gsm8k(tmp_path: Path) -> Path:
    (tmp_path / "main").mkdir()
    for part, numbers in (("train", range(1200, 1500)), ("test", range(3000, 3100))):
        rows = [word_problem(i) for i in numbers]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "main" / f"{part}-00000-of-00001.parquet")
    return tmp_path


ANSWERS = ["\\frac{1}{2}", "12", "(1,2]", "x^2 + 3x", "\\text{Monday}", "\\sqrt{2}", "-3"]


@pytest.fixture
def competition(tmp_path: Path) -> Path:
    def row(i: int) -> dict[str, Any]:
        answer = ANSWERS[i % len(ANSWERS)]
        solution = f"First $\\boxed{{}}$ nothing. Then the answer is $\\boxed{{{answer}}}$."
        return {"problem": f"Problem {i}?", "level": f"Level {1 + i % 5}", "type": "Algebra", "solution": solution}

    for part, count in (("train", 60), ("test", 14)):
        rows = [row(i + (1000 if part == "test" else 0)) for i in range(count)]
        rows.append({**row(9), "problem": f"{part} without an answer?", "solution": "It is clear."})
        rows.append({**row(9), "problem": f"{part} unreadable?", "solution": "It is $\\boxed{123456!}$."})
        (tmp_path / f"{part}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return tmp_path


@pytest.mark.parametrize("style", ["plain", "think"])
def test_gsm8k(gsm8k: Path, style: str) -> None:
    task = Gsm8k(gsm8k, style=style)
    assert "disjoint" in task.validate(100)
    parts = {split: task.with_split(split) for split in ("train", "dev", "test")}
    assert len(parts["train"]) + len(parts["dev"]) == 300 and len(parts["test"]) == 100
    assert 10 < len(parts["dev"]) < 60
    example = parts["test"][0]
    assert example.answer == "6002" and "####" not in task.gold(example)
    assert example.meta["difficulty"] == 2 and example.meta["kind"] == "gsm8k"


@pytest.mark.parametrize(
    ("reply", "lenient", "strict"),
    [
        ("\\boxed{6002}", 1, 1),
        ("6,002", 1, 1),
        ("#### 6002", 1, 0),
        ("She has 6002 apples.", 1, 0),
        ("6002 or 6003", 0, 0),
        ("\\boxed{6002} \\boxed{6003}", 0, 0),
        ("<think>6002</think>", 0, 0),
        ("6002²", 0, 0),
        ("٦٠٠٢", 0, 0),
    ],
)
def test_gsm8k_grading(gsm8k: Path, reply: str, lenient: float, strict: float) -> None:
    task = Gsm8k(gsm8k, split="test")
    assert task.measure(task[0], said(reply)) == {"accuracy": lenient, "accuracy_strict": strict}
    assert task.reward(task[0], [said(reply), said(reply, "length")]) == [
        ((-1, lenient, "accuracy"),),
        ((-1, 0.0, "accuracy"),),
    ]


@pytest.mark.parametrize("style", ["plain", "think"])
def test_math(competition: Path, style: str) -> None:
    pytest.importorskip("math_verify", reason="needs the extra 'rewards'")
    task = CompetitionMath(competition, style=style)
    try:
        assert "disjoint" in task.validate(7)
    finally:
        close_pools()
    test = task.with_split("test")
    assert len(test) == 14, "rows without an answer that can be graded are left out"
    assert test[0].meta["difficulty"] == 1 and test[0].meta["subject"] == "Algebra"
    assert [test[i].answer for i in range(7)] == [ANSWERS[(1000 + i) % 7] for i in range(7)]


def test_offline_there_is_one_error_that_says_what_was_tried_and_what_to_do() -> None:
    for task, name in ((Gsm8k(), "openai/gsm8k"), (CompetitionMath(), "EleutherAI/hendrycks_math")):
        with pytest.raises(
            InputError, match=rf"{name} \(.*\): check the network and HF_HUB_OFFLINE, or .* task\.path=DIR"
        ):
            len(task)


def test_files_that_are_not_the_published_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file with 'train' in its name .* \(it has no data file\)"):
        len(Gsm8k(tmp_path))
    with pytest.raises(
        InputError, match=r"nowhere is no directory: give one with a copy of openai/gsm8k, task\.path=DIR"
    ):
        len(Gsm8k(tmp_path / "nowhere"))
    (tmp_path / "valid.jsonl").write_text('{"question": "1+1?", "answer": "#### 2"}\n')
    with pytest.raises(InputError, match=r"it has valid\.jsonl.*copy of openai/gsm8k"):
        len(Gsm8k(tmp_path))
    (tmp_path / "train.jsonl").write_text('{"prompt": "1+1?"}\n')
    with pytest.raises(InputError, match=r"train\.jsonl, row 1 has no text in column 'question'"):
        len(Gsm8k(tmp_path))


def test_the_copy_is_named_on_the_command_line_and_known_by_its_content(gsm8k: Path) -> None:
    from burnish.recipes import catalog

    tiny = catalog.get("grpo").SCALES["tiny"]
    task = config.apply(tiny, ["task=gsm8k", f"task.path={gsm8k}", "task.style=think"]).task
    assert task == Gsm8k(gsm8k, style="think")
    assert config.plain(task)["path"] == str(gsm8k)

    before = fingerprint(_stage, (task,), {}, 0)
    assert before == fingerprint(_stage, (Gsm8k(str(gsm8k), style="think"),), {}, 0)  # type: ignore[arg-type]
    (gsm8k / "more-train.jsonl").write_text(json.dumps(word_problem(7)) + "\n")
    assert fingerprint(_stage, (task,), {}, 0) != before


def _stage(stage: object, task: object) -> None:
    """What a stage would do."""

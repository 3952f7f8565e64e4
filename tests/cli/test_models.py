"""`burnish sample` on a model that says nothing sensible."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish.cli import main

Captured = pytest.CaptureFixture[str]


def test_sample_repeats_itself_unless_the_seed_changes(nano: Path, capsys: Captured) -> None:
    def replies(*options: str) -> str:
        assert main(["sample", str(nano), "Hello", "-n", "2", "--max-tokens", "8", *options]) == 0
        return str(capsys.readouterr().out)

    first = replies()
    assert first.startswith("[1] ") and "\n[2] " in first
    assert replies() == first != replies("--seed", "1")
    greedy = replies("--temperature", "0")
    assert greedy.split("\n[2] ")[0][4:] == greedy.split("\n[2] ")[1].rstrip("\n")
    assert replies("--top-k", "1") == greedy


def test_sample_says_when_a_reply_was_cut(nano: Path, capsys: Captured) -> None:
    assert main(["sample", str(nano), "Hello", "--max-tokens", "1"]) == 0
    assert "the reply was cut off; --max-tokens allows longer ones" in capsys.readouterr().err


def test_sample_forces_what_it_is_told_to(nano: Path, capsys: Captured) -> None:
    options = ["-n", "4", "--max-tokens", "20", "--begin", "<think>", "--min-thinking", "2", "--max-thinking", "5"]
    banned = [*"0123456789", "<think>", "<answer>", "</answer>"]
    assert (
        main(["sample", str(nano), "Hello", *options, *(word for text in banned for word in ("--suppress", text))]) == 0
    )
    replies = capsys.readouterr().out.split("] <think>")[1:]
    assert len(replies) == 4
    for reply in replies:
        thought, closing, answer = reply.partition("</think>")
        assert closing and len(thought) <= 5 and not set(answer.rpartition("\n[")[0]) & set("0123456789")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--top-p", "0"], "top_p=0.0 keeps no token"),
        (["--suppress", "ab"], "suppress='ab' is not one token of this model's vocabulary, which reads 'a', 'b'"),
        (["--min-thinking", "9", "--max-thinking", "8"], "minimum=9, maximum=8"),
        (["--min-thinking", "9", "--max-tokens", "9"], "raise max_tokens"),
        (["--begin", "</think>", "--max-thinking", "9"], "closes the thinking"),
    ],
)
def test_sample_refuses(nano: Path, options: list[str], message: str, capsys: Captured) -> None:
    assert main(["sample", str(nano), "Hello", *options]) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1

"""`burnish diff` on models that say nothing sensible."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from burnish.cli import main
from burnish.loops.differ import PROMPTS
from tiny import two_token_model

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def other(nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nano after a jolt."""
    home = tmp_path_factory.mktemp("other") / "model"
    shutil.copytree(nano, home)
    weights = load_file(home / "model.safetensors")
    generator = torch.Generator().manual_seed(1)
    jolted = {name: w + 0.02 * torch.randn(w.shape, generator=generator) for name, w in weights.items()}
    save_file(jolted, home / "model.safetensors", {"format": "pt"})
    return home


def printed(capsys: Captured, *arguments: str) -> str:
    assert main(["diff", *arguments, "--max-tokens", "6"]) == 0
    out, err = capsys.readouterr()
    assert not err
    return str(out)


def test_the_report_has_every_part_and_repeats(nano: Path, other: Path, capsys: Captured) -> None:
    text = printed(capsys, str(nano), str(other), "-n", "4")
    assert text.startswith(f"A = {nano}\nB = {other}\n4 prompts, 24 tokens of B's answers (greedy, at most 6 tokens, ")
    for part in ("unshifted", "stylistic, of the shifted tokens", "KL(B || A)", "KL(A || B)", "2 to 4", "A would say"):
        assert part in text
    assert f"prompt: {PROMPTS[2]}" in text and f"prompt: {PROMPTS[3]}" not in text and "(the first 3 of 4)" in text
    assert "of 4\n" in text and "⟦" in text.partition(f"prompt: {PROMPTS[0]}")[2]
    assert max(map(len, text.splitlines())) <= 120 + len(str(other))
    assert printed(capsys, str(nano), str(other), "-n", "4") == text


def test_a_model_compared_with_itself(nano: Path, capsys: Captured) -> None:
    text = printed(capsys, str(nano), str(nano), "-n", "2")
    assert "the same answer word for word: 2 of 2" in text and "A would say" not in text
    assert all(mark not in text.partition("answers;")[2].partition("\n")[2] for mark in "⟦⟨")


def test_json_and_out_say_the_same_and_out_has_every_token(
    nano: Path, other: Path, tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "diff.json"
    found = json.loads(printed(capsys, str(nano), str(other), "-n", "2", "--json", "--out", str(path)))
    assert found["a"] == str(nano) and found["n"] == 2 and found["tokens"] == 12
    shares = [found[name] for name in ("unshifted", "marginal", "shifted")]
    assert sum(share["mean"] for share in shares) == pytest.approx(1)
    assert all(0 <= share["low"] <= share["mean"] <= share["high"] <= 1 for share in shares)
    assert sum(row["times"] for row in found["exchanges"]) == round(found["shifted"]["mean"] * 12) > 0
    saved = json.loads(path.read_text())
    each = saved.pop("prompts")
    assert saved == found
    assert [len(one[name]) for one in each for name in ("tokens", "ranks", "kl", "style")] == [6] * 8
    for one, example in zip(each, found["examples"], strict=True):
        pieces = [
            one["text"][slice(*place)] for place, rank in zip(one["places"], one["ranks"], strict=True) if rank > 3
        ]
        assert "".join(re.findall(r"[⟦⟨](.*?)[⟧⟩]", example["marked"], re.DOTALL)) == "".join(pieces)
        assert re.sub("[⟦⟨⟧⟩]", "", example["marked"]) == example["b"] == one["text"]
    kl = sum(x for one in each for x in one["kl"]) / 12
    assert found["kl"]["mean"] == pytest.approx(kl) and kl > 0


def test_what_limits_the_numbers_is_said(nano: Path, other: Path, tmp_path: Path, capsys: Captured) -> None:
    text = printed(capsys, str(nano), str(other), "-n", "1", "--temperature", "1")
    assert "sampled at temperature 1" in text and "sampling alone shifts: of B's tokens" in text
    assert "one prompt says nothing about others" in text
    home = tmp_path / "templated"
    shutil.copytree(other, home)
    (home / "chat_template.jinja").write_text(
        "{% for message in messages %}{{ message['content'] }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    assert "the chat templates of A and B differ: both models were given B's" in printed(
        capsys, str(nano), str(home), "-n", "2"
    )


def test_prompts_come_from_files_and_tasks(nano: Path, tmp_path: Path, capsys: Captured) -> None:
    dialogues, pairs = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    dialogues.write_text(
        '{"prompt": "Hi", "completion": "Yo"}\n{"prompt": "Hi", "completion": "Hm"}\n{"prompt": "Ho", "completion": "x"}\n'
    )
    pairs.write_text('{"prompt": "Who?", "chosen": "I", "rejected": "You"}\n')
    for options, prompts in (
        (["--data", str(dialogues)], ["Hi", "Ho"]),
        (["--data", str(pairs)], ["Who?"]),
    ):
        found = json.loads(printed(capsys, str(nano), str(nano), *options, "--json"))
        assert [each["prompt"] for each in found["examples"]] == prompts
        assert found["n"] == len(prompts), "a prompt counts once"
    task = json.loads(printed(capsys, str(nano), str(nano), "--task", "largest", "-n", "5", "--json"))
    assert task["n"] == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-n", "13"], "12 different prompts: lower -n 13, or take others with --data or --task"),
        (["--task", "larges"], "Did you mean 'largest'"),
        (["--task", "largest", "--data", "x.jsonl"], "give either --data or --task"),
        (["--data", "missing.jsonl"], "missing.jsonl"),
        (["--out", "no/such/directory/x.json"], "give a file in a directory that exists"),
    ],
    ids=["too many", "unknown task", "two sources", "no file", "no directory"],
)
def test_bad_input_is_refused(nano: Path, options: list[str], message: str, capsys: Captured) -> None:
    assert main(["diff", str(nano), str(nano), *options]) == 2
    assert message in capsys.readouterr().err


def test_another_tokenizer_and_an_unknown_model_are_refused(nano: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["diff", str(nano), str(two_token_model(tmp_path / "m"))]) == 2
    assert "different tokenizers" in capsys.readouterr().err
    assert main(["diff", str(nano), "nanoo"]) == 2
    assert "nano" in capsys.readouterr().err

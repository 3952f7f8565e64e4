"""What a teacher leaves for a student: its texts, its likeliest ids, and how far apart the two are."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish.core.distil import FORWARD_KL, TOP_K
from burnish.data.datasets import Dataset
from burnish.data.stored import Stored
from burnish.data.units import collate
from burnish.engines.local import Engine, LocalModel
from burnish.engines.nano import build_nano
from burnish.errors import InputError
from burnish.loops.fit import FitConfig, fit
from burnish.loops.teach import Lesson, apart, change, per_token, store, write
from burnish.run import Run
from burnish.types import Completion, Example, Reward, Sampling
from burnish.view import View
from tests.tiny import plain_distributions, plain_network

ENGINE = Engine(dtype="float32", device="cpu")
CFG = Lesson(n=6, samples=4, sampling=Sampling(max_tokens=40), engine=ENGINE)


@dataclass(frozen=True)
class Questions:
    size: int = 8

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Example:
        return Example(({"role": "user", "content": f"{index // 2}?"},))  # each prompt occurs twice

    def reward(self, example: Example, completions: list[Completion]) -> list[Reward]:
        raise NotImplementedError


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("teacher")
    build_nano(directory, seed=1)
    return directory


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with Run.open(tmp_path / "run", recipe="t", scale="tiny", config=CFG, seed=0, view=View(quiet=True)) as run:
        yield run


def test_the_teacher_writes_to_different_prompts_and_what_is_cut_off_is_left_out(run: Run, teacher: Path) -> None:
    path = run.stage(write, "texts", teacher, Questions(), cfg=CFG)
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    assert 0 < len(rows) < 16, "of 4 prompts x 4 samples some are cut off at 40 tokens"
    assert {row["prompt"][0]["content"] for row in rows} <= {f"{i}?" for i in range(4)}
    assert len({row["completion"][0]["content"] for row in rows}) == len(rows), "every sample has randomness of its own"
    assert all(row["completion"][0]["role"] == "assistant" and row["completion"][0]["content"].strip() for row in rows)
    with pytest.raises(InputError, match=r"none of the teacher's 16 texts ends within 1 tokens: raise texts\.sampling"):
        run.stage(
            write, "short", teacher, Questions(), cfg=Lesson(samples=4, sampling=Sampling(max_tokens=1), engine=ENGINE)
        )


def test_what_is_stored_are_the_likeliest_ids_with_their_log_probs(run: Run, nano: Path, teacher: Path) -> None:
    texts = Dataset(run.stage(write, "texts", teacher, Questions(), cfg=CFG))
    kept = Stored(run.stage(store, "top", teacher, nano, texts, k=5, engine=ENGINE))
    network = plain_network(teacher)
    assert len(kept) == len(texts)
    for (row,) in list(kept)[:3]:
        whole = plain_distributions(network, row.prompt, row.tokens)
        assert row.teacher is not None and row.teacher.ids.shape == (len(row.tokens), 5)
        expected = whole.gather(1, row.teacher.ids.long())
        assert torch.allclose(row.teacher.logprobs.double(), expected, atol=1e-5)
        assert torch.allclose(expected, whole.topk(5).values, atol=1e-5)


def test_a_student_learns_what_was_stored(run: Run, nano: Path, teacher: Path) -> None:
    texts = Dataset(run.stage(write, "texts", teacher, Questions(), cfg=CFG))
    kept = Stored(run.stage(store, "top", teacher, nano, texts, k=8, engine=ENGINE))
    tuned = run.stage(fit, "fit", nano, kept, cfg=FitConfig(steps=12, batch=4, engine=ENGINE), loss=TOP_K)
    lines = [json.loads(line) for line in (run.directory / "fit" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["kl/teacher"] < lines[0]["kl/teacher"]
    assert 0 < lines[0]["teacher/rest"] < 1
    assert (Path(tuned) / "model.safetensors").is_file()


def test_with_the_whole_vocabulary_it_is_the_forward_kl_of_a_teacher_that_is_there(
    run: Run, nano: Path, teacher: Path
) -> None:
    texts = Dataset(run.stage(write, "texts", teacher, Questions(), cfg=CFG))
    size = len(LocalModel(nano, ENGINE).chat.tokenizer)
    kept = Stored(run.stage(store, "top", teacher, nano, texts, k=size, engine=ENGINE))
    one = FitConfig(steps=1, batch=len(texts), engine=ENGINE)
    run.stage(fit, "fit", nano, kept, cfg=one, loss=TOP_K)
    student = LocalModel(nano, ENGINE)
    student.learn_from(LocalModel(teacher, ENGINE))
    batch = FORWARD_KL.prepare(collate(list(kept)))
    exact = FORWARD_KL(student.forward(batch, FORWARD_KL.needs), batch)[0].item()
    line = json.loads((run.directory / "fit" / "metrics.jsonl").read_text())
    assert line["loss"] == pytest.approx(exact, rel=1e-4)


def test_the_distances_are_those_of_the_whole_distributions(run: Run, nano: Path, teacher: Path) -> None:
    texts = Dataset(run.stage(write, "texts", teacher, Questions(), cfg=CFG))
    cfg = Lesson(n=3, sampling=Sampling(max_tokens=6), engine=ENGINE)
    found: dict[str, Any] = run.stage(apart, "apart", nano, teacher, Questions(), texts, cfg=cfg)
    assert len(found["kl"]) == 3 and len(found["nll"]) == len(texts)
    assert found["kl_tokens"] == [6.0] * 3 or max(found["kl_tokens"]) <= 6
    student, other = plain_network(nano), plain_network(teacher)
    chat = LocalModel(nano, ENGINE).chat
    whole = chat.encode_dialogue(texts[0].messages)
    place = list(whole[1]).index(True)
    prompt, tokens, mask = whole[0][:place], whole[0][place:], torch.tensor(whole[1][place:])
    said = plain_distributions(student, prompt, tokens)
    nll = -said.gather(1, torch.tensor([tokens]).T)[:, 0][mask].sum()
    assert found["nll"][0] == pytest.approx(nll.item(), rel=1e-5) and found["nll_tokens"][0] == float(mask.sum())
    checked = 0
    for number, (_, text) in enumerate(found["shown"]):
        written = chat.tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(written) == found["kl_tokens"][number]:  # the text says what was sampled, but for an end-of-turn token
            asked = chat.encode_prompt(Questions()[2 * number].messages)
            p, q = (plain_distributions(model, asked, tuple(written)) for model in (student, other))
            assert found["kl"][number] == pytest.approx((p.exp() * (p - q)).sum().item(), rel=1e-4)
            checked += 1
    assert checked
    same: dict[str, Any] = run.stage(apart, "same", teacher, teacher, Questions(), texts, cfg=cfg)
    assert max(map(abs, same["kl"])) < 1e-5


def test_a_change_per_token_is_of_rows_and_what_both_share_cancels() -> None:
    draw, hits = random.Random(0), 0
    for _ in range(300):
        hard = [draw.gauss(2, 1) for _ in range(80)]
        old_tokens, new_tokens = ([float(draw.randint(5, 40)) for _ in hard] for _ in range(2))
        old = [h * t + draw.gauss(0, 3) for h, t in zip(hard, old_tokens, strict=True)]
        new = [(h - 0.5) * t + draw.gauss(0, 3) for h, t in zip(hard, new_tokens, strict=True)]
        moved = change((old, old_tokens), (new, new_tokens))
        assert moved["mean"] == pytest.approx(sum(new) / sum(new_tokens) - sum(old) / sum(old_tokens))
        hits += moved["low"] < -0.5 < moved["high"]
    assert 0.92 <= hits / 300 <= 0.98
    exact = change(([2.0, 4.0], [1.0, 2.0]), ([1.0, 2.0], [1.0, 2.0]))
    assert (exact["low"], exact["high"]) == (-1.0, -1.0)
    assert per_token([2.0, 6.0], [1.0, 3.0])["mean"] == 2.0

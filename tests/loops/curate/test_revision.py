"""Revisions keep the principles better than first drafts, by one principle for each item and round."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from burnish.data.comparisons import Comparisons
from burnish.data.datasets import Dataset
from burnish.errors import InputError
from burnish.loops.curate.revision import CRITIQUE, REVISION, Revising, revise, revisions
from burnish.loops.curate.writer import Conversation, Writer, filled, says
from burnish.rewards.ask import Question, Said
from burnish.rewards.endpoint import Endpoint
from burnish.rewards.principles import PRINCIPLES
from curating import curate, provenance, rows, speaker, write
from judging import Scripted, serving

FLAWS = " ".join(f"flaw{i}" for i in range(len(PRINCIPLES)))


@dataclass(frozen=True)
class Repentant:
    """Its drafts violate every principle; told of one, it names that flaw, and its revision is the same without it."""

    def ask(self, questions: Sequence[Question]) -> list[Said]:
        return [Said(self._said([message["content"] for message in each.messages])) for each in questions]

    def _said(self, texts: list[str]) -> str:
        if texts[-1] == REVISION:
            return re.sub(rf"{texts[-2]}\b", "", texts[-4])
        (number,) = [i for i, principle in enumerate(PRINCIPLES) if principle in texts[-1]] or [None]
        return FLAWS if number is None else f"flaw{number}"


def prompts(count: int) -> list[Conversation]:
    return [(says("user", f"question {i}"),) for i in range(count)]


def violations(text: str) -> int:
    return len(re.findall(r"flaw\d+", text))


def test_each_revision_violates_what_its_principle_names_no_more() -> None:
    for item in revisions(Writer(Repentant()), prompts(20), Revising()):
        assert item.draft == FLAWS and len(item.rounds) == 4
        drawn: set[str] = set()
        for each in item.rounds:
            drawn.add(each.principle)
            assert violations(each.reply) == len(PRINCIPLES) - len(drawn)
            assert each.critique == f"flaw{PRINCIPLES.index(each.principle)}"
        assert violations(item.reply) < violations(item.draft)


def test_one_principle_is_drawn_for_each_item_and_round_and_all_get_used() -> None:
    """Over 400 draws each of 16 is expected 25 times; the smallest and largest counts are within 4 deviations."""
    model = Scripted(lambda text: f"to {text}")
    found = revisions(Writer(model), prompts(100), Revising())
    drawn = Counter(each.principle for item in found for each in item.rounds)
    assert set(drawn) == set(PRINCIPLES) and sum(drawn.values()) == 400
    assert all(abs(count - 25) < 20 for count in drawn.values())
    assert len({tuple(each.principle for each in item.rounds) for item in found}) > 90, "items have draws of their own"
    asked = [text for text in model.texts if text not in (REVISION,) and not text.startswith("question")]
    assert Counter(asked) == Counter(filled(CRITIQUE, principle=p) for p in drawn.elements())
    again, other = (
        [
            [each.principle for each in item.rounds]
            for item in revisions(Writer(model), prompts(5), Revising(), seed=seed)
        ]
        for seed in (0, 1)
    )
    assert again == [[each.principle for each in item.rounds] for item in found[:5]] != other


def test_the_author_sees_the_whole_conversation() -> None:
    model = Scripted(lambda text: {"question 0": "draft", REVISION: "better"}.get(text, "critique"))
    revisions(Writer(model), prompts(1), Revising(rounds=2))
    said = [[message["content"] for message in call[0].messages] for call in model.seen]
    first, second = (
        filled(CRITIQUE, principle=each) for each in (Revising().principle(prompts(1)[0], i) for i in (0, 1))
    )
    assert said == [
        ["question 0"],
        ["question 0", "draft", first],
        ["question 0", "draft", first, "critique", REVISION],
        ["question 0", "better", second],
        ["question 0", "better", second, "critique", REVISION],
    ]


def test_a_round_without_words_changes_nothing() -> None:
    no_critique = Scripted(lambda text: "draft" if text.startswith("question") else "")
    (item,) = revisions(Writer(no_critique), prompts(1), Revising(rounds=2))
    assert item.reply == "draft" and [len(call) for call in no_critique.seen] == [1, 1, 1]
    for revision in ("", "critique"):
        said = {"question 0": "draft", REVISION: revision}
        model = Scripted(lambda text, said=said: said.get(text, "critique"))  # type: ignore[misc]
        (item,) = revisions(Writer(model), prompts(1), Revising(rounds=2))
        assert item.reply == "draft" and [each.critique for each in item.rounds] == ["critique"] * 2
    assert revisions(Writer(Scripted(lambda _: "")), prompts(3), Revising()) == []


def test_a_model_that_drafts_rudely_and_mends(tmp_path: Path) -> None:
    """Drafts are rude with chance .8, revisions with .05. Of 100 items 3 deviations are .12 and .07."""
    table = {
        "ask": {"rude": 0.8, "kind": 0.2},
        "judge": {"flaw": 1.0},
        "mend": {"kind": 0.95, "rude": 0.05},
    }
    model = speaker(tmp_path / "model", table)
    data = write(tmp_path / "a.jsonl", [{"prompt": f"{'x' * i}ask", "completion": "unread"} for i in range(100)])
    cfg = Revising(rounds=1, max_tokens=3, critique="{principle}judge", revision="mend")
    path = curate(tmp_path / "r", revise, model, data, cfg=cfg)
    found = rows(path)
    assert len(Dataset(path)) == len(found) == 100
    assert sum(row["draft"] == "rude" for row in found) / 100 == pytest.approx(0.8, abs=0.12)
    assert sum(row["completion"] == "rude" for row in found) / 100 == pytest.approx(0.05, abs=0.07)
    assert all(each["critique"] == "flaw" and each["principle"] in PRINCIPLES for r in found for each in r["rounds"])
    pairs = Comparisons(path.with_name("pairs.jsonl"))
    changed = [row for row in found if row["draft"] != row["completion"]]
    assert [tuple(a.messages[0]["content"] for a in pair.answers) for pair in pairs] == [
        (row["completion"], row["draft"]) for row in changed
    ]
    counts = provenance(path)["counts"]
    assert counts["drafts"] == counts["kept"] == 100 and counts["revised"] == len(changed)
    assert counts["principles used"] == 16


def test_another_model_may_draft_and_an_endpoint_may_revise(tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", [{"prompt": "Insult me."}])
    with serving(lambda _: "You fool.") as rude, serving(lambda text: "No." if text == REVISION else "Rude.") as kind:
        drafter, model = (Endpoint(server.url, "m", cache=False) for server in (rude, kind))
        (row,) = rows(curate(tmp_path / "r", revise, model, data, drafter=drafter, cfg=Revising(rounds=1)))
    assert (row["draft"], row["rounds"][0]["critique"], row["completion"]) == ("You fool.", "Rude.", "No.")


def test_nothing_to_revise_is_an_error(tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", [{"prompt": "a"}])
    with pytest.raises(InputError, match="none of 1 drafts was finished"):
        curate(tmp_path / "r", revise, Scripted(nothing), data)
    with pytest.raises(InputError, match="give at least one of each"):
        Revising(principles=())
    with pytest.raises(InputError, match=r"has no \{principle\}"):
        revisions(Writer(Repentant()), prompts(1), Revising(critique="Criticise."))


def nothing(text: str) -> str:  # noqa: ARG001
    return ""

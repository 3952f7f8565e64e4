"""Models write prompts, dialogues and pairs; what is good stays, and the provenance says what nobody wrote."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from burnish.data.comparisons import Comparisons
from burnish.data.datasets import Dataset
from burnish.errors import InputError
from burnish.loops.curate.synthesis import Contest, Synthesis, converse, synthesise, synthesise_pairs, write_prompts
from burnish.loops.curate.writer import Writer
from burnish.rewards.accuracy import Accuracy
from burnish.rewards.base import Composable, per_completion
from burnish.rewards.endpoint import Endpoint
from burnish.types import Completion, Example, Reward, outcome
from curating import curate, provenance, rows, speaker, write
from judging import Scripted, serving

CFG = Synthesis(per_topic=30, turns=3, forms=("{topic}",), follow_up="{conversation}next", least=1.0, max_tokens=4)


@dataclass(frozen=True)
class SaysGood(Composable):
    """1 for "good"."""

    @per_completion
    def __call__(self, example: Example, completion: Completion) -> Reward:  # noqa: ARG002
        return outcome(completion.text == "good", "good")


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It has two questions about sums and one about maps, and always a further one."""
    table = {"sums": {"how?": 0.5, "why?": 0.5}, "maps": {"where?": 1.0}, "next": {"and?": 1.0}}
    return speaker(tmp_path_factory.mktemp("user"), table)


@pytest.fixture(scope="module")
def assistant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it is asked further it is good half of the time."""
    table = {question: {"good": 1.0} for question in ("how?", "why?", "where?")} | {"and?": {"good": 0.5, "bad": 0.5}}
    return speaker(tmp_path_factory.mktemp("assistant"), table)


def local(model: Path) -> Writer:
    return Writer.of(model, temperature=1.0, max_tokens=4)


def test_prompts_have_topics_and_no_doubles(user: Path) -> None:
    found = write_prompts(local(user), ("sums", "maps"), CFG)
    said = [(example.messages[0]["content"], example.meta["topic"]) for example in found]
    assert sorted(said) == [("how?", "sums"), ("where?", "maps"), ("why?", "sums")]


def test_nothing_is_written_about_nothing(user: Path) -> None:
    with pytest.raises(InputError, match="nothing to write about: give topics"):
        write_prompts(Writer(user), (), Synthesis())


def test_forms_are_taken_in_turn() -> None:
    model = Scripted(lambda text: text)
    found = write_prompts(Writer(model), ("a", "b"), Synthesis(per_topic=3, forms=("Ask {topic}", "Do {topic}")))
    assert model.texts == ["Ask a", "Do a", "Ask a", "Ask b", "Do b", "Ask b"]
    assert len(found) == 4


def test_the_user_is_played_and_the_assistant_has_the_last_word(user: Path, assistant: Path) -> None:
    (dialogue, *_) = converse(local(user), local(assistant), write_prompts(local(user), ("maps",), CFG), CFG)
    assert [message["role"] for message in dialogue.messages] == ["user", "assistant"] * 3
    assert [m["content"] for m in dialogue.messages if m["role"] == "user"] == ["where?", "and?", "and?"]


def test_the_one_who_plays_the_user_reads_the_conversation() -> None:
    model = Scripted(lambda text: "more" if "Put yourself in the place" in text else "reply")
    prompts = [Example(({"role": "user", "content": "begin"},))]
    converse(Writer(model), Writer(Scripted(lambda text: f"to {text}")), prompts, Synthesis(turns=2))
    (text,) = model.texts
    assert "[user]\nbegin\n\n[assistant]\nto begin" in text


def test_all_that_is_written_follows_from_the_seed(user: Path, assistant: Path) -> None:
    asked = [Example(({"role": "user", "content": "how?"},))] * 20
    first, again, other = (converse(local(user), local(assistant), asked, CFG, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert len({dialogue.messages[-1]["content"] for dialogue in first}) == 2, "each has draws of its own"
    model = Scripted(lambda text: f"{len(text)}!")
    for seed in (0, 1):
        converse(Writer(model), Writer(Scripted(lambda text: f"{text}?")), asked[:1], CFG, seed=seed)
    seeds = [question.seed for call in model.seen for question in call]
    assert len(set(seeds)) == len(seeds) == 4, "and so has the one who plays the user"


def test_who_has_nothing_to_say_or_says_it_again_ends_the_dialogue() -> None:
    silent = Writer(Scripted(lambda text: {"b": "", "c": "c"}.get(text, "reply")))
    prompts = [Example(({"role": "user", "content": text},)) for text in "abc"]
    found = converse(silent, silent, prompts, Synthesis(turns=1))
    assert [dialogue.messages[0]["content"] for dialogue in found] == ["a"]


def test_what_is_good_stays_beside_what_people_wrote(tmp_path: Path, user: Path, assistant: Path) -> None:
    """A dialogue ends well with chance .5; under this seed some of the three do, and not all."""
    human = write(tmp_path / "human.jsonl", [{"prompt": "Hi", "completion": "Yo"}])
    path = curate(
        tmp_path / "r", synthesise, assistant, topics=("sums", "maps"), user=user, reward=SaysGood(), human=human,
        cfg=CFG, seed=1,
    )  # fmt: skip
    found = rows(path)
    assert len(Dataset(path)) == len(found)
    assert [row["synthetic"] for row in found] == [False, *[True] * (len(found) - 1)]
    assert all(row["messages"][-1]["content"] == "good" and row["score"] == 1 for row in found[1:])
    record = provenance(path)
    counts = record["counts"]
    assert counts["prompts"] == counts["dialogues"] == 3
    assert 0 < counts["good enough"] < 3 and counts["kept"] == counts["good enough"] + 1 == len(found)
    assert record["source"]["synthetic_share"] == (len(found) - 1) / len(found)


def test_bad_dialogues_are_left_out(tmp_path: Path) -> None:
    both = Scripted(rule)
    path = curate(
        tmp_path / "r", synthesise, both, topics=("a", "b", "c"), reward=SaysGood(),
        cfg=Synthesis(per_topic=1, turns=1, forms=("topic {topic}",), least=1.0),
    )  # fmt: skip
    assert [row["topic"] for row in rows(path)] == ["a", "c"]
    assert provenance(path)["counts"] == {
        "topics": 3, "prompts": 3, "dialogues": 3, "good enough": 2, "by people": 0, "kept": 2,
    }  # fmt: skip
    assert provenance(path)["source"]["synthetic_share"] == 1
    with pytest.raises(InputError, match=r"no dialogue came about, .*: raise max_tokens"):
        curate(tmp_path / "p", synthesise, Scripted(mute), topics=("b",), cfg=Synthesis(per_topic=1))
    with pytest.raises(InputError, match="of 1 prompts came 1 dialogues and none with a score of 1"):
        curate(
            tmp_path / "q", synthesise, both, topics=("b",), reward=SaysGood(),
            cfg=Synthesis(per_topic=1, turns=1, forms=("topic {topic}",), least=1.0),
        )  # fmt: skip


def mute(text: str) -> str:  # noqa: ARG001
    return ""


def rule(text: str) -> str:
    """Asks about a topic; good about all but b."""
    return f"about {text[-1]}?" if text.startswith("topic") else "bad" if "b?" in text else "good"


def test_pairs_are_ordered_by_the_reward(tmp_path: Path, assistant: Path) -> None:
    data = write(tmp_path / "a.jsonl", [{"prompt": "and?"}, {"prompt": "how?"}])
    path = curate(
        tmp_path / "r", synthesise_pairs, assistant, data, others=(assistant,), reward=SaysGood(), cfg=Contest(8)
    )
    (row,) = rows(path)  # to "how?" it has only one reply
    assert (row["chosen"], row["rejected"], row["score_chosen"], row["score_rejected"]) == ("good", "bad", 1, 0)
    (pair,) = Comparisons(path)
    assert [answer.rank for answer in pair.answers] == [0, 1]
    assert provenance(path)["counts"] == {"prompts": 2, "replies each": 16, "pairs": 1}
    with pytest.raises(InputError, match="2 prompts gave no two replies with rewards more than 1 apart"):
        curate(tmp_path / "q", synthesise_pairs, assistant, data, reward=SaysGood(), cfg=Contest(margin=1))


def test_pairs_by_the_ground_truth_from_an_endpoint(tmp_path: Path) -> None:
    """A weak and a strong model behind one server: the strong one is right."""
    data = write(tmp_path / "a.jsonl", [{"prompt": "2 + 2?", "answer": "4"}, {"prompt": "1 + 1?", "answer": "2"}])
    right = {"2 + 2?": "It is 4", "1 + 1?": "It is 2"}
    with serving(lambda text: right[text]) as strong, serving(lambda _: "It is 5") as weak:
        first, second = (Endpoint(server.url, "m", cache=False) for server in (weak, strong))
        path = curate(
            tmp_path / "r", synthesise_pairs, first, data, others=(second,), reward=Accuracy(), cfg=Contest(1)
        )
    assert Counter((row["chosen"], row["rejected"]) for row in rows(path)) == {
        ("It is 4", "It is 5"): 1,
        ("It is 2", "It is 5"): 1,
    }


def test_settings() -> None:
    with pytest.raises(InputError, match="at least one form"):
        Synthesis(forms=())
    with pytest.raises(InputError, match="margin >= 0"):
        Contest(margin=-1)

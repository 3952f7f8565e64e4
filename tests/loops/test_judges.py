"""Judges from plain settings: every name finds its field, and what has none is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from burnish.errors import InputError
from burnish.loops.judges import FORMS, form_of, from_arguments, judge, rubric_file
from burnish.loops.local_judge import LocalJudge
from burnish.rewards.canaries import Canaries
from burnish.rewards.constitution import Constitution
from burnish.rewards.endpoint import Endpoint
from burnish.rewards.format import Format
from burnish.rewards.generative import GenerativeReward, cot_math
from burnish.rewards.material import Reading
from burnish.rewards.pairwise import Comparing, PairwiseJudge
from burnish.rewards.rubric import KINDS, REFUSALS, Kind, Rubric

URL = "http://127.0.0.1:1/v1"
ASKED = Endpoint(URL, "m")


def made(form: str, **settings: Any) -> Any:
    return from_arguments(form, model="m", url=URL, **settings)


def test_every_form_by_its_name() -> None:
    assert {form: made(form) for form in FORMS} == {
        "rubric": Rubric(ASKED),
        "constitution": Constitution(ASKED),
        "pairwise": PairwiseJudge(ASKED),
        "judge": GenerativeReward(ASKED),
        "cot_math": cot_math(ASKED),
    }


def test_a_reward_with_nothing_but_its_judge_has_the_name_of_its_form() -> None:
    assert {form: form_of(made(form)) for form in FORMS} == {form: form for form in FORMS}
    others = (made("rubric", soft=False), made("cot_math", max_tokens=9), made("judge", canaries=7), Format())
    assert {form_of(other) for other in others} == {""}


def test_settings_go_where_their_names_are() -> None:
    assert made("judge", criterion="Is it kind?", concurrency=2, least=5) == GenerativeReward(
        Endpoint(URL, "m", concurrency=2), "Is it kind?", reading=Reading(least=5)
    )
    assert made("pairwise", reference="gold", reasoned=True, key_env="MINE") == PairwiseJudge(
        Endpoint(URL, "m", "MINE"), reference="gold", comparing=Comparing(reasoned=True)
    )
    assert made("constitution", seed=3, all_pairs=False, both_orders=False) == Constitution(
        ASKED, seed=3, all_pairs=False, comparing=Comparing(both_orders=False)
    )
    assert made("rubric", soft=False, canaries=7) == Canaries(Rubric(ASKED, soft=False), every=7)


def test_what_a_form_sets_itself_stays() -> None:
    assert made("cot_math", least=2).reading == Reading(least=2, whole=True)
    assert made("rubric", least=2).reading == Reading(least=2, answer_only=False)


def test_without_a_url_the_judge_is_a_model_in_this_process(nano: Path) -> None:
    assert from_arguments("rubric", model=str(nano)) == Rubric(LocalJudge(nano))
    with pytest.raises(InputError, match="no setting retries: give the url"):
        judge(str(nano), retries=3)
    with pytest.raises(InputError, match="no setting retries: give the url"):
        from_arguments("judge", model=str(nano), retries=3)
    with pytest.raises(InputError, match=r"unknown setting of a judge 'maxtokens'\. Did you mean 'max_tokens'"):
        from_arguments("judge", model=str(nano), maxtokens=3)
    with pytest.raises(InputError, match="nowhere"):
        from_arguments("rubric", model="./nowhere")


@pytest.mark.parametrize(
    ("form", "settings", "told"),
    [
        ("rubrik", {}, "unknown form of judge 'rubrik'. Did you mean 'rubric'"),
        ("rubric", {"retrys": 3}, "unknown setting of a judge 'retrys'. Did you mean 'retries'"),
        ("judge", {"both_orders": True}, "unknown setting of a judge 'both_orders'"),
        ("judge", {"verdict": "x"}, "unknown setting of a judge 'verdict'"),
        ("judge", {"file": "x.yaml"}, "reads no rubric file"),
    ],
)
def test_what_does_not_exist_is_named(form: str, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        made(form, **settings)


def test_a_rubric_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "rubric.yaml"
    path.write_text("classes: [It rhymes., It does not.]\nkinds:\n  poem: [1, 0]\n  prose: [0, 1]\n")
    expected = Rubric(
        ASKED, ("It rhymes.", "It does not."), (Kind("poem", (1, 0)), Kind("prose", (0, 1))), column="style"
    )
    assert made("rubric", file=str(path), column="style") == expected


def test_the_shipped_rubric_can_be_written_as_a_file(tmp_path: Path) -> None:
    import yaml

    path = tmp_path / "rubric.yaml"
    kinds = {kind.name: list(kind.scores) for kind in KINDS}
    path.write_text(yaml.safe_dump({"classes": list(REFUSALS), "kinds": kinds}))
    assert Rubric(ASKED, **rubric_file(path)) == Rubric(ASKED)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "classes: 3",
        "classes: [a, b]",
        "classes: [a, b]\nkinds: {x: [1, y]}",
        "clases: [a]\nkinds: {}",
        "a: [",
        "\x00",
    ],
)
def test_a_file_that_is_no_rubric(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rubric.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"rubric.yaml is no rubric .*give 'classes'"):
        rubric_file(path)
    with pytest.raises(InputError, match="is no rubric"):
        rubric_file(tmp_path / "nowhere.yaml")

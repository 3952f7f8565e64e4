"""Difficulty: what is measured of a prompt, and which prompts the band, the variance and the guesses leave."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from quiz import SETTINGS, Quiz, curate, group, provenance, rows

from burnish.data.chat import Chat
from burnish.data.datasets import Dataset
from burnish.engines.table import END
from burnish.errors import InputError
from burnish.loops.curate.difficulty import Difficulty, Guessing, answer_only, measured, rate
from burnish.types import Example, Sampling
from words import write

CHANCES: Mapping[str, Mapping[str, float]] = {
    "always": {"yes": 1.0},
    "never": {"no": 1.0},
    "often": {"yes": 0.8, "no": 0.2},
    "seldom": {"yes": 0.2, "no": 0.8},
    "yes": {END: 1.0},
    "no": {END: 1.0},
}
WORDS = Quiz(("always", "never", "often", "seldom"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("quiz") / "table", CHANCES)


def test_a_prompt_is_measured_by_its_completions() -> None:
    found = measured(group("a", ("x", 1.0), ("y", 0.5), ("z", 0.0), ("w", 1.0)))
    assert (found.pass_rate, found.mean) == (0.5, 0.625)
    assert found.variance == pytest.approx((2 * 0.375**2 + 0.125**2 + 0.625**2) / 4)
    assert measured(group("a", ("x", 1.0), ("y", 0.5)), threshold=0.5).pass_rate == 1


def test_every_prompt_gets_its_pass_rate(model: Path, tmp_path: Path) -> None:
    path = curate(tmp_path / "run", rate, model, WORDS, cfg=Difficulty(samples=50, **SETTINGS))
    found = {row["prompt"][0]["content"]: row for row in rows(path)}
    assert len(Dataset(path)) == 4 and found["always"]["pass_rate"] == 1 and found["never"]["pass_rate"] == 0
    assert 0.6 < found["often"]["pass_rate"] < 0.95 and 0.05 < found["seldom"]["pass_rate"] < 0.4
    for row in found.values():
        p = row["pass_rate"]
        assert row["difficulty"] == 1 - p and row["answer"] == "yes" and row["kind"] == row["prompt"][0]["content"]
        assert row["reward_mean"] == pytest.approx(p) and row["reward_variance"] == pytest.approx(p * (1 - p))


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"low": 0.01, "high": 0.99}, {"often", "seldom"}),
        ({"low": 0.5}, {"always", "often"}),
        ({"high": 0.5}, {"never", "seldom"}),
        ({"variance": 0.01}, {"often", "seldom"}),
        ({"threshold": -1.0, "low": 1.0}, {"always", "never", "often", "seldom"}),
    ],
)
def test_bands_and_variance_leave_what_can_be_learnt(
    settings: dict[str, float], left: set[str], model: Path, tmp_path: Path
) -> None:
    path = curate(tmp_path / "run", rate, model, WORDS, cfg=Difficulty(samples=24, **settings, **SETTINGS))
    assert {row["prompt"][0]["content"] for row in rows(path)} == left


def test_what_is_guessed_without_thinking_is_dropped(tmp_path: Path) -> None:
    """Both prompts are always solved by thinking; asked for the answer alone, one of them is still answered right."""
    ask = "!"
    model = write(
        tmp_path / "table",
        {
            "easy": {"hm ": 1.0}, "hard": {"hm ": 1.0}, "hm ": {"yes": 1.0}, "\n\n": {"no": 1.0}, ask: {"no": 1.0},
            "yes": {END: 1.0}, "no": {END: 1.0}, "guess": {"yes": 0.5, "no": 0.5},
        },
    )  # fmt: skip
    # The table reads the last token alone, so the template says which prompt is asked to be guessed.
    template = (
        "{% set asked = messages[-1]['content'] %}"
        "{% if '!' in asked and 'easy' in asked %}guess{% elif '!' in asked %}!{% else %}{{ asked }}{% endif %}"
        "{% for m in messages if m['role'] == 'assistant' %}{{ m['content'] }}{% endfor %}"
    )
    (model / "chat_template.jinja").write_text(template)
    assert Chat.load(model).encode_prompt([{"role": "user", "content": "easy\n\n!"}])
    cfg = Difficulty(guess=Guessing(8, ask, Sampling(max_tokens=2)), samples=4, **SETTINGS)
    path = curate(tmp_path / "run", rate, model, Quiz(("easy", "hard")), cfg=cfg)
    assert [row["prompt"][0]["content"] for row in rows(path)] == ["hard"], "with the prompt as it was"
    assert list(provenance(path)["counts"].values()) == [2, 2, 2, 1]
    assert json.loads(path.with_suffix(".provenance.json").read_text())["source"]["settings"]["guess"]["tries"] == 8


def test_a_guess_is_asked_below_the_prompt() -> None:
    system, user = {"role": "system", "content": "Be kind."}, {"role": "user", "content": "1 + 1?"}
    asked = answer_only(Example((system, user), "2"), "Guess.")  # type: ignore[arg-type]
    assert asked.messages == (system, {"role": "user", "content": "1 + 1?\n\nGuess."}) and asked.answer == "2"


def test_settings_are_checked() -> None:
    with pytest.raises(InputError, match="give a band of pass rates"):
        Difficulty(low=0.8, high=0.2)
    with pytest.raises(InputError, match="give the number of guesses"):
        Guessing(-1)

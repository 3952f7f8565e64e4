"""Word chain: the rules, who is paid, and that a policy which plays both sides learns to win without being shown how."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from burnish.core import keys
from burnish.core.algorithms import GRPO
from burnish.data.chat import Chat
from burnish.engines.decode import LocalSampler
from burnish.engines.local import LocalModel
from burnish.engines.optim import Schedule
from burnish.errors import InputError
from burnish.loops.episodes import Opening, environments, play
from burnish.loops.evaluate import run_items, summarise
from burnish.loops.rl import RLConfig, rl
from burnish.run import Run
from burnish.tasks.checks import SPLITS
from burnish.tasks.word_game import DRAW, LOSE, WIN, WORDS, Seat, WordGame
from burnish.types import Completion, Sampling
from burnish.view import View
from turns import ONE, Scripted
from words import ENGINE, write

SMALL = WordGame(("an", "au", "ax", "na", "nu", "nx", "ua", "un", "ux"), rules=False)
"""Whoever says a word that ends with x wins: no word begins with it."""


def game(*rounds: tuple[str, str], task: WordGame = SMALL, given: str = "na") -> list[tuple[list[str], float, bool]]:
    """For each player: what it was answered, what it was paid, whether the game ended with the last round."""
    example = replace(task[0], meta={"word": given})
    seats = task.seats(example, 2)
    found: list[tuple[list[str], float, bool]] = []
    heard: tuple[list[str], list[str]] = ([], [])
    for said in rounds:
        for seat, text in zip(seats, said, strict=True):
            assert isinstance(seat, Seat)
            seat.hear(Completion((), text, (), "eos"))
        found = []
        for player, (seat, text) in enumerate(zip(seats, said, strict=True)):
            answer, reward, done, _ = seat.step(text)
            heard[player].extend(message["content"] for message in answer)
            found.append((heard[player], sum(part.value for part in reward), done))
    return found


def test_two_chains_run_crosswise() -> None:
    first, second = game(("an", "au"), (" UN ", "nu"))
    assert first == (["au", "nu"], 0.0, False) and second == (["an", "un"], 0.0, False), "case and space do not count"


@pytest.mark.parametrize(
    ("rounds", "paid"),
    [
        ([("an", "na")], (1.0, -1.0)),  # not the last letter of "na"
        ([("", "ax")], (-1.0, 1.0)),
        ([("an ax", "ax")], (-1.0, 1.0)),  # two words
        ([("az", "ax")], (-1.0, 1.0)),  # not in the list
        ([("az", "aq")], (0.0, 0.0)),  # both
        ([("ax", "an"), ("nu", "xa")], (1.0, -1.0)),  # nothing begins with x
        ([("ax", "ax"), ("xa", "")], (0.0, 0.0)),
        ([("an", "an"), ("nu", "na")], (1.0, -1.0)),  # said before, by nobody but the world
        ([("an", "ax"), ("", "nu")], (-1.0, 1.0)),
    ],
)
def test_who_breaks_a_rule_while_the_other_does_not_loses(
    rounds: list[tuple[str, str]], paid: tuple[float, float]
) -> None:
    first, second = game(*rounds)
    assert (first[1], second[1]) == paid and first[2] and second[2]
    ends = {1.0: WIN, -1.0: LOSE, 0.0: DRAW}
    assert (first[0][-1], second[0][-1]) == (ends[paid[0]], ends[paid[1]])


def test_what_both_say_at_once_is_said_before_from_the_next_round_on() -> None:
    assert game(("an", "an"))[0][2] is False
    assert [player[1] for player in game(("au", "an"), ("nu", "ua"), ("an", "ux"))] == [-1.0, 1.0], "an was the other's"


def test_a_game_is_cut_after_its_rounds_as_a_draw() -> None:
    first, second = game(("an", "au"), task=replace(SMALL, rounds=1))
    assert first == ([DRAW], 0.0, True) and second == ([DRAW], 0.0, True)
    assert replace(SMALL, rounds=3).max_turns == 3


def test_the_random_opponent_keeps_the_rules_and_follows_from_the_seed() -> None:
    def answers(seed: int) -> list[str]:
        env = SMALL.env(SMALL[0])
        [opening] = env.reset(seed)
        word, found = opening["content"], [opening["content"]]
        for _ in range(SMALL.rounds):
            order = sorted(SMALL.words, reverse=bool(seed % 2))
            own = next((w for w in order if w[0] == word[-1] and w not in found), "")
            answer, _, done, _ = env.step(own)
            found += [own, answer[0]["content"]]
            if done:
                break
            word = answer[0]["content"]
        return found

    games = {seed: answers(seed) for seed in range(60)}
    assert games == {seed: answers(seed) for seed in range(60)}
    assert {len(said) > 5 for said in games.values()} == {True, False}
    ends = Counter(said[-1] for said in games.values())
    assert ends[WIN] and ends[LOSE], "it knows the rules and not how to win"
    for said in games.values():
        others = [word for word in said[2::2] if word in SMALL.words]
        continued = [said[0], *said[1::2]]
        assert all(other[0] == before[-1] for other, before in zip(others, continued, strict=False))


def test_splits_share_no_word_and_validate_says_so() -> None:
    task = WordGame()
    given = [{task.with_split(split)[i].meta["word"] for i in range(200)} for split in SPLITS]
    assert sum(map(len, given)) == len(set().union(*given)) and all(given)
    assert "who breaks a rule loses" in task.validate()
    opening = task[0].messages[0]["content"]
    assert opening.splitlines()[-1] == task[0].meta["word"] and " ".join(WORDS) in opening


def test_what_cannot_be_played() -> None:
    with pytest.raises(InputError, match="one too many"):
        SMALL.seats(SMALL[0], 3)
    assert len(replace(SMALL, opponent="random").seats(SMALL[0], 3)) == 3
    with pytest.raises(InputError, match="Did you mean 'self'"):
        WordGame(opponent="selv")
    with pytest.raises(InputError, match="small letters"):
        WordGame(("Tea",))
    with pytest.raises(InputError, match="no word of split 'train' can be continued"):
        _ = WordGame(("ab",))[0]
    with pytest.raises(InputError, match="turn by turn"):
        SMALL.reward(SMALL[0], [])


def test_every_player_has_a_row_of_its_own_with_its_own_words_unmasked(tmp_path: Path) -> None:
    chat = Chat.load(write(tmp_path / "table", {word: {} for word in SMALL.words}))
    said = [("an", "un", "ux"), ("au", "nu", "an"), ("an", "na"), ("ax", "nu")]
    ids = [[tuple(chat.tokenizer(word, add_special_tokens=False)["input_ids"]) for word in line] for line in said]
    example = replace(SMALL[0], messages=({"role": "user", "content": "na"},), meta={"word": "na"})
    seats = environments(SMALL, example, 4)
    openings = [Opening(env, ("t", i), Sampling(), 0, i) for i, env in enumerate(seats)]
    episodes = play(Scripted(chat, ids), chat, openings, max_turns=6)
    for number, episode in enumerate(episodes):
        [row] = episode.rollouts
        own = [chat.decode([t]) for t, mask in zip(row.tokens, row.mask, strict=True) if mask]
        heard = [chat.decode([t]) for t, mask in zip(row.tokens, row.mask, strict=True) if not mask]
        partner = said[number ^ 1]
        assert own == list(said[number])[: len(own)] and heard == list(partner)[: len(own) - 1]
        assert [part.position for part in row.rewards] == [len(row.tokens) - 1], "paid at its own last word"
    paid = [episode.rollouts[0].reward for episode in episodes]
    assert paid == [1.0, -1.0, -1.0, 1.0]


def test_a_player_whose_partner_has_left_draws() -> None:
    """The context of one row is full; the other must not wait for it for ever, nor be paid."""
    seats = SMALL.seats(replace(SMALL[0], meta={"word": "na"}), 2)
    for seat in seats:
        assert isinstance(seat, Seat)
        seat.hear(Completion((), "an", (), "eos"))
    assert not any(seat.step("an")[2] for seat in seats)
    answer, reward, done, _ = seats[0].step("nu")
    assert done and reward[0].value == 0.0 and answer[0]["content"] == DRAW


def test_self_play_learns_to_win(tmp_path: Path) -> None:
    """From a policy that says any of nine words, legal one time in three, by meeting only itself."""
    table = write(tmp_path / "table", {word: dict.fromkeys(SMALL.words, 1 / 9) for word in SMALL.words})
    cfg = RLConfig(steps=30, prompts=3, group=32, sampling=ONE, schedule=Schedule(0.3), engine=ENGINE)
    with Run.open(tmp_path / "run", recipe="t", scale="tiny", config=cfg, seed=0, view=View(quiet=True)) as run:
        trained = run.stage(rl, "rl", table, SMALL, algo=GRPO, cfg=cfg)
    scores = []
    for directory in (table, Path(trained)):
        model = LocalModel(directory, ENGINE)
        items = run_items(
            LocalSampler(model), model.chat, SMALL, n=200, samples=1, sampling=ONE, key=keys.derive("evaluate")
        )
        scores.append({name: summarise(items)[name]["mean"] for name in ("win", "not_lost")})
    assert scores[0]["win"] < 0.15 and scores[0]["not_lost"] < 0.35
    assert scores[1]["win"] > 0.5 and scores[1]["not_lost"] > 0.95, scores
    for step in (1, 30):
        rows = pq.read_table(tmp_path / f"run/rl/rollouts/step-{step:06d}.parquet").to_pylist()
        paid = {row["episode"]: row["reward"] for row in rows}
        assert len(paid) == 96 and all(paid[e] + paid[e + 1] == 0 for e in paid if e % 2 == 0)
        assert step > 1 or set(paid.values()) == {-1.0, 0.0, 1.0}

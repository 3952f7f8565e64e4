"""The commentator where everything is known: a game whose values are a linear system, and mistakes planted into won games."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import pytest
import torch
from torch import Tensor

from burnish.engines.decode import LocalSampler
from burnish.engines.local import Engine, LocalModel
from burnish.engines.table import END, NEVER, save_table
from burnish.errors import InputError
from burnish.loops.commentate import Commentary, Grading, biggest_drop, commentate, play_on
from burnish.types import Completion, Example, Head, Reward, RewardPart, Rollout, Sampling, outcome

GOOD, FAIR, LOST, STOP = range(4)
LETTERS = ("g", "f", "l", END)
MOVES = torch.tensor(
    [  # to:  g     f     l     end    (from g, f, l, end)
        [0.40, 0.20, 0.05, 0.35],
        [0.30, 0.25, 0.10, 0.35],
        [0.00, 0.00, 0.50, 0.50],
        [0.00, 0.00, 0.00, 1.00],
    ],
    dtype=torch.float64,
)
"""A game of letters. From l nothing leads back; a text that ends without it is won."""
LIMIT = 60  # so long that no game is cut: the longest chance is .65 ** 60
SAMPLING = Sampling(max_tokens=LIMIT)


@dataclass(frozen=True)
class Letters:
    """A won game scores 1. ``bonus`` is added to the reward for each g, at its place."""

    bonus: float = 0.0

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Example:
        return Example(({"role": "user", "content": "g"},), "won")

    def reward(self, example: Example, completions: Sequence[Completion]) -> list[Reward]:
        rewards = []
        for c in completions:
            parts = [RewardPart(p, self.bonus, "g") for p, token in enumerate(c.tokens) if self.bonus and token == GOOD]
            rewards.append((*outcome(self.measure(example, c)["won"], "won"), *parts))
        return rewards

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:  # noqa: ARG002
        return {"won": float("l" not in completion.text and completion.finish != "length")}


def exact_values(policy: LocalModel, bonus: float = 0.0) -> Tensor:
    """[4] the expected reward to come after each letter, by a linear system in the policy's own probabilities."""
    chances = policy.head_weight.detach().double().T.softmax(1)
    won = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    road = chances[:STOP, :STOP]
    earned = chances[:STOP, STOP] * won[:STOP] + road[:, GOOD] * bonus
    found = torch.linalg.solve(torch.eye(STOP, dtype=torch.float64) - road, earned)
    return torch.cat([found, torch.zeros(1, dtype=torch.float64)])


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    directory = tmp_path_factory.mktemp("letters")
    save_table(directory, LETTERS, MOVES.T.log().clamp(min=NEVER).float())
    return LocalModel(directory, Engine(dtype="float64", device="cpu"))


def critic_with(policy: LocalModel, values: Tensor) -> LocalModel:
    """The same table with V in place of a learnt head: V of a state is that of its last letter."""
    critic = LocalModel(policy.directory, policy.engine, heads={"value": Head()})
    with torch.no_grad():
        critic.heads["value"].weight.copy_(values[None])
    return critic


@pytest.fixture(scope="module")
def critic(policy: LocalModel) -> LocalModel:
    return critic_with(policy, exact_values(policy))


def game(policy: LocalModel, text: str, task: Letters | None = None, *, ended: bool = True) -> Rollout:
    """A finished game as a rollout, with the reward it gets."""
    tokens = tuple(LETTERS.index(letter) for letter in text) + (STOP,) * ended
    prompt = policy.chat.encode_prompt([{"role": "user", "content": "g"}])
    completion = Completion(tokens, text, (), "eos" if ended else "length")
    rewards = (task or Letters()).reward(Letters()[0], [completion])[0]
    size = len(tokens)
    rewards = tuple(p._replace(position=size - 1 if p.position < 0 else p.position) for p in rewards)
    return Rollout(prompt, tokens, (True,) * size, (0.0,) * size, rewards, 0, 0, finish=completion.finish)


def comment(
    policy: LocalModel, critic: LocalModel, rollout: Rollout, samples: int = 0, **options: object
) -> Commentary:
    task = options.pop("task", Letters())
    assert isinstance(task, Letters)
    grading = Grading(task, task.reward, SAMPLING)
    settings = {"sampler": LocalSampler(policy), "chat": policy.chat, "sampling": SAMPLING, "key": 1} | options
    judge = grading.judge(task[0]) if samples else None
    return commentate(critic, rollout, judge=judge, samples=samples or 1, **settings)  # type: ignore[arg-type]


WON = ["".join(letters) for size in range(1, 6) for letters in product("gf", repeat=size)]
"""Every won game of at most five moves."""
PLANTED = [(won, place) for won in WON for place in range(len(won))]


def planted(won: str, place: int) -> str:
    """The game with its move at ``place`` turned into the losing one; what follows is lost too, as nothing leads back."""
    return won[:place] + "l" * (len(won) - place)


# --- an exact critic -----------------------------------------------------------------------------


def test_an_exact_critic_says_the_exact_value_of_every_state(policy: LocalModel, critic: LocalModel) -> None:
    exact = exact_values(policy)
    assert exact[GOOD] > exact[FAIR] > 0.6 and exact[LOST] == exact[STOP] == 0
    for text in (*WON, *(planted(*case) for case in PLANTED)):
        found = comment(policy, critic, game(policy, text))
        states = [GOOD, *(LETTERS.index(letter) for letter in text)]
        wanted = [*exact[states].tolist(), float("l" not in text)]
        assert found.values == pytest.approx(wanted, abs=1e-10)
        assert found.places == tuple(range(len(text) + 1)) and not found.estimates and found.outcome is None


def test_an_exact_critic_agrees_with_the_continuations(policy: LocalModel, critic: LocalModel) -> None:
    """The success rates are around the exact values as chance has it: 95% intervals hold nearly all of them."""
    samples, inside, states = 200, 0, 0
    for key, text in enumerate(WON[10:40:2]):
        found = comment(policy, critic, game(policy, text), samples, key=key)
        assert found.outcome is not None and found.outcome.success == ("l" not in text)
        assert len(found.estimates) == len(found.places) == len(found.rates) - 1
        for value, estimate in zip(found.values, found.estimates, strict=False):
            assert estimate.n == samples and abs(estimate.rate - value) <= 4 * (value * (1 - value) / samples) ** 0.5
            low, high = estimate.interval
            inside += low <= value <= high
            states += 1
        error, chance = found.error
        assert error < 3 * chance + 1e-12
    assert states > 60 and inside / states > 0.9


def test_the_mean_reward_counts_what_was_earned_before_the_state(policy: LocalModel) -> None:
    task = Letters(bonus=0.5)
    critic = critic_with(policy, exact_values(policy, bonus=0.5))
    found = comment(policy, critic, game(policy, "gfg", task), 400, task=task)
    assert found.values[-1] == 2.0 and found.outcome is not None and found.outcome.reward == 2.0
    assert found.values[1] == pytest.approx(0.5 + float(exact_values(policy, 0.5)[GOOD]), abs=1e-10)
    for value, estimate in zip(found.values, found.estimates, strict=False):
        assert abs(value - estimate.reward) < 4 * estimate.reward_error
        assert estimate.reward_error > 0.01


def test_a_wrong_critic_is_told(policy: LocalModel, critic: LocalModel) -> None:
    wrong = critic_with(policy, exact_values(policy) + 0.3)
    right, off = (comment(policy, each, game(policy, "gfg"), 200).error for each in (critic, wrong))
    assert off[0] > 0.25 > 2 * right[0] and off[1] == right[1]


# --- planted mistakes ----------------------------------------------------------------------------


def test_the_biggest_drop_of_an_exact_critic_is_the_planted_mistake(policy: LocalModel, critic: LocalModel) -> None:
    """Every won game of at most five moves, a mistake at every move of it: always."""
    assert len(PLANTED) == sum(2**size * size for size in range(1, 6))
    for won, place in PLANTED:
        drop = comment(policy, critic, game(policy, planted(won, place))).value_drop
        assert drop is not None and drop.token == place, (won, place)
        assert drop.after == 0 and drop.before > 0.6


def test_the_biggest_drop_of_the_success_rate_is_the_planted_mistake(policy: LocalModel, critic: LocalModel) -> None:
    for won, place in PLANTED[::4]:
        found = comment(policy, critic, game(policy, planted(won, place)), 64)
        assert found.rate_drop is not None and found.rate_drop.token == place, (won, place)
        assert found.clear and found.rate_drop.after == 0


def test_a_game_that_goes_well_has_no_mistake(policy: LocalModel, critic: LocalModel) -> None:
    found = comment(policy, critic, game(policy, "ggg"))
    assert found.value_drop is None and found.rate_drop is None and not found.clear


def test_the_last_token_can_lose_the_game(policy: LocalModel, critic: LocalModel) -> None:
    """A game cut at its limit is lost, though all was well."""
    tight = replace(SAMPLING, max_tokens=2)
    found = comment(policy, critic, game(policy, "gg", ended=False), 64, sampling=tight)
    assert found.outcome is not None and not found.outcome.success
    for drop in (found.value_drop, found.rate_drop):
        assert drop is not None and drop.token == 1 and drop.after == 0


def test_biggest_drop_by_hand() -> None:
    assert biggest_drop((0, 1, 2), (0.5, 0.4, 0.1, 0.9)) == (drop := biggest_drop((0, 1, 2), (0.5, 0.4, 0.1)))
    assert drop is not None and (drop.token, drop.before, drop.after) == (1, 0.4, 0.1)
    assert biggest_drop((3, 7), (0.5, 0.2, 0.9)).token == 3  # type: ignore[union-attr]
    assert biggest_drop((0, 1), (0.5, 0.5 - 1e-12, 0.6)) is None
    assert biggest_drop((0,), ()) is None


def test_a_fall_within_chance_is_not_clear(policy: LocalModel, critic: LocalModel) -> None:
    few = comment(policy, critic, game(policy, "gfl"), 2)
    many = comment(policy, critic, game(policy, "gfl"), 64)
    assert few.rate_drop is not None and not few.clear and many.clear


# --- continuations -------------------------------------------------------------------------------


def test_continuations_agree_with_the_completion_up_to_their_place(policy: LocalModel) -> None:
    rollout = game(policy, "gfg")
    games = play_on(LocalSampler(policy), policy.chat, rollout, SAMPLING, 5, key=3)
    assert [len(own) for own in games] == [5] * 4
    for place, own in enumerate(games):
        assert all(c.tokens[:place] == rollout.tokens[:place] and c.tokens[-1] == STOP for c in own)
        assert all(c.text == policy.chat.decode(c.tokens) == c.messages[0]["content"] for c in own)
    again = play_on(LocalSampler(policy), policy.chat, rollout, SAMPLING, 5, key=3)
    other = play_on(LocalSampler(policy), policy.chat, rollout, SAMPLING, 5, key=4)
    assert games == again != other
    fewer = play_on(LocalSampler(policy), policy.chat, rollout, SAMPLING, 2, key=3)
    assert [[c.tokens for c in own[:2]] for own in games] == [[c.tokens for c in own] for own in fewer]
    assert len({c.tokens for c in games[0]}) > 1
    level = play_on(LocalSampler(policy), policy.chat, game(policy, "ggg"), SAMPLING, 20, key=3)
    after = [[c.tokens[place:] for c in own] for place, own in enumerate(level)]
    assert after[0] != after[1] != after[2], "every state has luck of its own"


def test_the_limit_holds_for_the_whole_completion(policy: LocalModel) -> None:
    cut = play_on(LocalSampler(policy), policy.chat, game(policy, "gfg"), replace(SAMPLING, max_tokens=4), 40, key=3)
    sizes = {(len(c.tokens), c.finish) for own in cut for c in own}
    assert max(size for size, _ in sizes) == 4 and (4, "length") in sizes
    with pytest.raises(InputError, match="more than the limit 3"):
        play_on(LocalSampler(policy), policy.chat, game(policy, "gfg"), replace(SAMPLING, max_tokens=3), 1, key=3)
    with pytest.raises(InputError, match="at least 1"):
        play_on(LocalSampler(policy), policy.chat, game(policy, "gfg"), SAMPLING, 0, key=3)


def test_a_stop_string_is_seen_across_the_place(policy: LocalModel) -> None:
    """Continued after its first letter, "gf" still ends the game: for the sampler the continuation began with "f"."""
    stopping = replace(SAMPLING, stop=("gf",))
    games = play_on(LocalSampler(policy), policy.chat, game(policy, "ggg"), stopping, 60, key=3)
    for own in games:
        assert all(c.text.find("gf") in (-1, len(c.text) - 2) for c in own)
        assert all((c.finish == "stop") == c.text.endswith("gf") for c in own)
    assert any(c.text == "gf" and c.finish == "stop" for c in games[1])


def test_half_a_success_is_none() -> None:
    @dataclass(frozen=True)
    class Halves(Letters):
        def measure(self, example: Example, completion: Completion) -> dict[str, float]:  # noqa: ARG002
            return {"won": len(completion.tokens) / 2, "other": 1.0}

    task = Halves()
    judge = Grading(task, task.reward, SAMPLING).judge(task[0])
    found = judge([Completion((GOOD,) * size, "g" * size, (), "eos") for size in (1, 2, 3)])
    assert [v.success for v in found] == [False, True, True] and [v.reward for v in found] == [0.5, 1.0, 1.5]


# --- rows of other kinds -------------------------------------------------------------------------


def test_tokens_of_the_environment_have_no_value(policy: LocalModel, critic: LocalModel) -> None:
    """The critic is asked where the policy chose; what the environment did in between belongs to the choice before."""
    exact = exact_values(policy)
    rollout = replace(game(policy, "gfl"), mask=(True, False, False, True))
    found = comment(policy, critic, rollout)
    assert found.places == (0, 3)
    assert found.values == pytest.approx([float(exact[GOOD]), float(exact[LOST]), 0.0], abs=1e-10)
    assert found.value_drop is not None and found.value_drop.token == 0
    with pytest.raises(InputError, match="an environment speaks"):
        comment(policy, critic, rollout, 4)
    with pytest.raises(InputError, match="chose no token"):
        comment(policy, critic, replace(rollout, mask=(False,) * 4))


def test_without_a_reward_the_end_has_no_value(policy: LocalModel, critic: LocalModel) -> None:
    found = comment(policy, critic, replace(game(policy, "gl"), rewards=()))
    assert len(found.values) == len(found.places) == 3
    assert found.value_drop is not None and found.value_drop.token == 1

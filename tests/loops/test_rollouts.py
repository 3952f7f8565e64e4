"""Groups: who gets which randomness, what is checked, what is stored and read back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from bandit import Bandit

from burnish.core.algorithms import DR_GRPO
from burnish.data.batching import collate
from burnish.engines.decode import LocalSampler
from burnish.engines.local import Engine, LocalModel
from burnish.errors import InputError
from burnish.loops.episodes import checked
from burnish.loops.rollouts import Group, draw_groups, read_groups, rollout_table, stamped
from burnish.types import Completion, Example, Request, Reward, RewardPart, Sampling, outcome
from tiny import three_token_model


@pytest.fixture
def model(tmp_path: Path) -> LocalModel:
    return LocalModel(three_token_model(tmp_path / "m"), Engine(dtype="float32", device="cpu"))


def draw(model: LocalModel, draws: range, sampler: LocalSampler | None = None, **options: object) -> list[Group]:
    settings: dict[str, object] = {"size": 3, "sampling": Sampling(max_tokens=4), "seed": 7, "version": 2, **options}
    reward = settings.pop("reward", Bandit().reward)
    return draw_groups(sampler or LocalSampler(model), model.chat, Bandit(), reward, draws=draws, **settings)  # type: ignore[arg-type]


def test_a_draw_is_the_same_whatever_is_drawn_beside_it(model: LocalModel) -> None:
    together = draw(model, range(6))
    apart = [group for d in range(6) for group in draw(model, range(d, d + 1))]
    assert [g.texts for g in together] == [g.texts for g in apart]
    assert [g.example for g in together] == [g.example for g in apart]


def test_an_example_drawn_again_gets_fresh_randomness(model: LocalModel) -> None:
    groups = draw(model, range(len(Bandit()) * 6), size=8)
    by_prompt: dict[str, list[tuple[str, ...]]] = {}
    for group in groups:
        by_prompt.setdefault(group.example.messages[0]["content"], []).append(group.texts)
    assert all(len(texts) == len(set(texts)) == 12 for texts in by_prompt.values())


def test_each_pass_draws_every_item_once(model: LocalModel) -> None:
    class Four(Bandit):
        def __getitem__(self, index: int) -> Example:
            return Example(({"role": "user", "content": "ab" * (index + 1)},))

    groups = draw_groups(
        LocalSampler(model), model.chat, Four(), Four().reward, draws=range(8), size=1, sampling=Sampling(max_tokens=1),
        seed=0, version=0,
    )  # fmt: skip
    lengths = [len(g.rollouts[0].prompt) for g in groups]
    assert sorted(lengths[:4]) == sorted(lengths[4:]) == [2, 4, 6, 8]


class Backwards(LocalSampler):
    """Yields in the opposite order of finishing."""

    def sample(self, requests: Iterable[Request]) -> Iterator[Completion]:
        yield from reversed(list(super().sample(requests)))


def test_the_order_of_arrival_never_reaches_a_group(model: LocalModel) -> None:
    assert draw(model, range(4)) == draw(model, range(4), Backwards(model))


def test_rewards_that_cannot_be_used() -> None:
    completion = Completion((0, 1), "ab", (), "eos")
    assert checked(outcome(1.0), completion) == (RewardPart(1, 1.0, "reward"),)
    assert checked((RewardPart(0, 2, "step"),), completion) == (RewardPart(0, 2.0, "step"),)
    with pytest.raises(InputError, match="part 'reward' is nan for the completion 'ab'"):
        checked(outcome(float("nan")), completion)
    with pytest.raises(InputError, match="at token 2, but the completion has 2 tokens"):
        checked((RewardPart(2, 1.0, "step"),), completion)


def test_a_reward_of_the_wrong_length(model: LocalModel) -> None:
    def short(example: Example, completions: Sequence[Completion]) -> list[Reward]:  # noqa: ARG001
        return [outcome(1.0)]

    with pytest.raises(InputError, match="returned 1 values for 3 completions"):
        draw(model, range(1), reward=short)


@pytest.mark.parametrize("truncation", ["full", "kept"])
def test_what_is_stored_is_what_was_drawn(model: LocalModel, tmp_path: Path, truncation: str) -> None:
    groups = draw(model, range(3), sampling=Sampling(max_tokens=4, top_k=2, truncation=truncation))
    assert {len(r.kept_ids) == len(r.tokens) for g in groups for r in g.rollouts} == {truncation == "kept"}
    batch = collate([r for g in groups for r in g.rollouts], max_tokens=4)
    batch = DR_GRPO.credit(batch, {})
    nothing = torch.full(batch.tokens.shape, torch.nan)
    table = rollout_table(5, groups, batch, {"logprobs": nothing, "entropy": nothing}, model.chat)
    pq.write_table(table, tmp_path / "step-000005.parquet")
    back = read_groups(tmp_path, 5)
    assert [g.rollouts for g in back] == [g.rollouts for g in groups]
    assert [g.texts for g in back] == [g.texts for g in groups]
    assert [g.example.messages for g in back] == [g.example.messages for g in groups]
    rows = table.to_pylist()
    assert rows[0]["logprobs"] is None, "a row that was not trained on has none"
    assert [len(row["advantages"]) for row in rows] == [len(row["token_ids"]) for row in rows]
    with pytest.raises(InputError, match="no rollouts of step 6"):
        read_groups(tmp_path, 6)
    newer = [replace(r, version=9) for g in back for r in g.rollouts]
    assert [r for g in stamped(back, 9) for r in g.rollouts] == newer != [r for g in back for r in g.rollouts]

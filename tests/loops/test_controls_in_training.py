"""Training with each control of sampling: what is forced is not trained, and a run goes on to the bit."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from burnish.core.algorithms import GRPO
from burnish.core.kl import KL, k3
from burnish.data.batching import collate
from burnish.engines.controls import suppressed
from burnish.engines.decode import LocalSampler
from burnish.engines.local import Engine, LocalModel
from burnish.engines.nano import CONTROL
from burnish.engines.optim import Schedule
from burnish.errors import InputError
from burnish.loops.episodes import Opening, play
from burnish.loops.rl import RLConfig, rl
from burnish.rewards.base import Composable
from burnish.run import Run
from burnish.sampling import Repetition, Sampling, Thinking
from burnish.signals import Interrupted
from burnish.types import Example, Reward, outcome
from burnish.view import View
from tiny import model as tiny_model
from turns import Speaker
from words import Prompts

LETTERS = "ab<>W."
CONTROLS = {
    "begin": Sampling(12, begin="<a"),
    "suppress": Sampling(12, suppress=("a",), begin="a"),
    "repetition": Sampling(12, repetition=Repetition(1, 2, 3)),
    "thinking": Sampling(12, thinking=Thinking("<>", 3, 6, "W")),
    "all": Sampling(
        12, temperature=0.8, top_k=4, truncation="kept", suppress=("b",), begin="W", repetition=Repetition(1, 2, 4),
        thinking=Thinking("<>", 3, 6, "bW", waits=2),
    ),
}  # fmt: skip
BETWEEN = ("<|end|>", "<|user|>", *"more", "<|end|>", "<|assistant|>")
"""What nano's template puts between two turns."""
CFG = RLConfig(
    steps=2, prompts=2, group=6, epochs=2, schedule=Schedule(0.05), engine=Engine(dtype="float32", device="cpu"),
    checkpoint_every=1,
)  # fmt: skip
ALGO = replace(GRPO, kl=KL(k3, 0.1))
PULLED: list[int] = []
"""How many groups are graded before the plug is pulled."""


@dataclass(frozen=True)
class Letters(Composable):
    """Pays for the number of b and W, and pulls the plug when it is time."""

    def __call__(self, example: Example, completions: Any, /) -> list[Reward]:  # noqa: ARG002
        if PULLED:
            PULLED[0] -= 1
            if not PULLED[0]:
                PULLED.clear()
                raise Interrupted(signal.SIGINT)
        return [outcome(c.text.count("b") + 0.3 * c.text.count("W") - 0.1 * len(c.tokens)) for c in completions]


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("letters"), LETTERS, ".", seed=15)


def trained(out: Path, model: Path, sampling: Sampling, *, resume: bool = False, **options: Any) -> Path:
    cfg = replace(CFG, sampling=sampling, **options)
    with Run.open(out, recipe="t", scale="tiny", config=cfg, seed=0, resume=resume, view=View(quiet=True)) as run:
        return Path(run.stage(rl, "rl", model, Prompts(("ab", "ba")), algo=ALGO, cfg=cfg, reward=Letters()))


def rows(out: Path, step: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(out / f"rl/rollouts/step-{step:06d}.parquet").to_pylist()
    return found


@pytest.mark.parametrize("name", CONTROLS)
def test_two_steps_train_what_was_chosen_and_resume_to_the_bit(letters: Path, tmp_path: Path, name: str) -> None:
    sampling = CONTROLS[name]
    straight = trained(tmp_path / "straight", letters, sampling)
    PULLED.append(3)
    with pytest.raises(Interrupted):
        trained(tmp_path / "broken", letters, sampling)
    again = trained(tmp_path / "broken", letters, sampling, resume=True)
    weights = [Path(out, "model.safetensors").read_bytes() for out in (letters, straight, again)]
    assert not PULLED and weights[0] != weights[1] == weights[2]
    forced = compared = 0
    for step in (1, 2):
        own, other = (rows(tmp_path / run, step) for run in ("straight", "broken"))
        assert own == other
        for row in own:
            token_rows = zip(row["mask"], row["sampler_logprobs"], row["advantages"], strict=True)
            for place, (chosen, sampled, advantage) in enumerate(token_rows):
                forced += not chosen
                assert chosen or (sampled == 0 and advantage == 0)
                if chosen and row["old_logprobs"] and not row["kept_ids"]:
                    assert row["old_logprobs"][place] == pytest.approx(sampled, abs=1e-4)
                    compared += 1
    lines = [json.loads(line) for line in (tmp_path / "straight/rl/metrics.jsonl").read_text().splitlines()]
    assert bool(forced) == (name != "repetition") and (compared > 50 or name == "all")
    assert all(
        line["mismatch/abs"] < 1e-4 and ("length/repeated_frac" in line) == bool(sampling.repetition) for line in lines
    )
    assert sum(line.get("length/repeated_frac", 0) for line in lines) > 0 or not sampling.repetition
    mean = sum(sum(row["mask"]) for row in rows(tmp_path / "straight", 1)) / 12
    assert lines[0]["length/mean"] == pytest.approx(mean)


def test_the_reference_is_without_suppressed_tokens_as_well(letters: Path, tmp_path: Path) -> None:
    """Before the first update it is the policy."""
    trained(tmp_path, letters, Sampling(12, suppress=("a", ".")), epochs=1)
    first = json.loads((tmp_path / "rl/metrics.jsonl").read_text().splitlines()[0])
    assert first["kl/ref"] < 1e-9 and first["mismatch/abs"] < 1e-5


def test_rollouts_of_another_policy_are_not_replayed(letters: Path, tmp_path: Path) -> None:
    trained(tmp_path / "free", letters, Sampling(12))
    with pytest.raises(InputError, match=r"is suppressed, but the policy chose it: train with the sampling\.suppress"):
        trained(tmp_path / "replay", letters, Sampling(12, suppress=("a",)), replay=str(tmp_path / "free/rl/rollouts"))


def test_what_is_forced_in_a_turn_is_masked_as_what_the_environment_says(nano: Path) -> None:
    sampler = LocalSampler(LocalModel(nano, CFG.engine))
    sampling = Sampling(4, begin="<think>", suppress=CONTROL)
    openings = [Opening(Speaker(["more", "more"]), ("test", i), sampling, episode=i) for i in range(4)]
    turn = (False, True, True, True)
    for episode in play(sampler, sampler.model.chat, openings, max_turns=3):
        [row] = episode.rollouts
        said = sampler.model.chat.decode(row.tokens, special=True)
        assert row.mask == (*turn, *(False,) * len(BETWEEN), *turn, *(False,) * len(BETWEEN), *turn), said
        assert said.count("<think>") >= 3 and said.count("".join(BETWEEN)) == 2
        assert all((p == 0) == (not own) for p, own in zip(row.sampler_logprobs, row.mask, strict=True))
        banned = suppressed(sampler.model.chat, sampling)
        batch = collate([row], suppressed=banned)
        trained = sampler.model.forward(batch).logprobs
        assert batch.sampler_logprobs is not None
        assert (trained - batch.sampler_logprobs)[batch.mask].abs().max() < 1e-5

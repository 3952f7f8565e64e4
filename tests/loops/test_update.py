"""One rollout batch to new weights: whose gradients are added up, who moves and who does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from bandit import Bandit
from torch import Tensor

from burnish.core.algorithms import A2C, PPO, PPO_PTX, REMAX, RLOO, TRPO, Algorithm
from burnish.core.losses import NLL
from burnish.core.selection import Band, MixedGroups
from burnish.data import units
from burnish.data.batching import collate
from burnish.engines.local import Engine, LocalModel
from burnish.engines.optim import Schedule
from burnish.engines.reference import Reference
from burnish.errors import InputError, TrainingHaltedError
from burnish.loops.rl import RLConfig, annotate, rl
from burnish.loops.update import CriticConfig, Models, Update
from burnish.run import Run
from burnish.stage import Stage
from burnish.types import Batch, Head, Sampling
from burnish.view import View
from rows import rollout
from tiny import three_token_model, two_token_model

EXACT = Engine(dtype="float64", device="cpu")
TEXT = [units.supervised((0, 1, 0, 2), (False, True, True, True)), units.supervised((1, 0, 0), (False, True, True))]
EVERY_ROW = replace(RLOO, entropy=1e-3)  # no row is idle, so no metric is without a token
CONFIG = RLConfig(
    steps=6, prompts=2, group=4, sampling=Sampling(max_tokens=1), schedule=Schedule(lr=0.02), engine=EXACT,
    critic=CriticConfig(Schedule(lr=0.05)), pretraining_batch=2,
)  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with Run.open(tmp_path / "run", recipe="t", scale="tiny", config=CONFIG, seed=0, view=View(quiet=True)) as run:
        yield run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return two_token_model(tmp_path / "two", seed=3)


def players(directory: Path, *, shared: bool = False) -> Models:
    heads = {"value": Head(spread=1.0)}
    policy = LocalModel(directory, EXACT, heads=heads if shared else None)
    critic = policy if shared else LocalModel(directory, EXACT, seed=1, heads=heads)
    return Models(policy, critic, Reference(policy))


def credited(models: Models, algo: Algorithm) -> Batch:
    """Ragged rows of which one is a baseline that nothing trains on."""
    rows = [
        rollout(n, reward, group=i // 2, episode=i, prompt=(0, 1), tokens=[(i + t) % 2 for t in range(n)], train=i < 4)
        for i, (n, reward) in enumerate([(3, 1.0), (1, 0.0), (2, 0.5), (4, 0.25), (2, 1.0)])
    ]
    return algo.credit(annotate(collate(rows, max_tokens=4), algo, models, CONFIG), algo.init())


def gradients(model: LocalModel) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.masters.params.items() if p.grad is not None}
    model.discard_gradient()
    return found


def close(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        torch.allclose(g, right[n], rtol=1e-10, atol=1e-13) for n, g in left.items()
    )


def lines(stage: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]


def update(models: Models, algo: Algorithm, run: Run, cfg: RLConfig = CONFIG, step: int = 0) -> Update:
    stage = Stage(run.directory / "s", seed=5, view=View(quiet=True))
    return Update(models, algo, cfg, step, stage, TEXT)


def test_the_joint_step_of_ppo_ptx_is_ppo_plus_gamma_times_the_text(tmp_path: Path, run: Run) -> None:
    models = players(three_token_model(tmp_path / "m"))
    batch = credited(models, PPO)
    update(models, PPO_PTX, run).accumulate(batch, 0, None)
    joint, of_critic = gradients(models.policy), gradients(models.critic or models.policy)
    update(models, PPO, run).accumulate(batch, 0, None)
    ppo, alone = gradients(models.policy), gradients(models.critic or models.policy)
    models.policy.forward_backward(NLL().prepare(units.collate(TEXT)), NLL())
    text = gradients(models.policy)
    assert close(joint, {name: ppo[name] + 27.8 * g for name, g in text.items()})
    assert close(of_critic, alone), "the text is the policy's business"


def test_a_shared_trunk_adds_both_losses_up(tmp_path: Path, run: Run) -> None:
    models = players(three_token_model(tmp_path / "m"), shared=True)
    algo = replace(PPO, value_coef=0.3)
    batch = credited(models, algo)
    update(models, algo, run).accumulate(batch, 0, None)
    joint = gradients(models.policy)
    models.policy.forward_backward(algo.loss.prepare(batch), algo.loss)
    models.policy.forward_backward(algo.value_loss.prepare(batch), algo.value_loss)
    assert close(joint, gradients(models.policy))
    assert joint["heads.value.weight"].abs().max() > 0


def test_rows_without_advantage_still_teach_the_critic(tmp_path: Path, run: Run) -> None:
    models = players(three_token_model(tmp_path / "m"))
    assert models.critic is not None
    batch = credited(models, A2C)
    silent = replace(batch, advantages=torch.zeros_like(batch.tokens, dtype=torch.float64))
    update(models, replace(A2C, entropy=0.0), run).accumulate(silent, 0, None)
    assert not gradients(models.policy)
    found = gradients(models.critic)
    models.critic.forward_backward(A2C.value_loss.prepare(batch), A2C.value_loss)
    assert close(found, gradients(models.critic))


def test_a_critic_learns_alone_first(run: Run, model: Path) -> None:
    cfg = replace(CONFIG, steps=3, group=16, critic=CriticConfig(Schedule(lr=0.005), pretrain=4))
    out = run.stage(rl, "s", model, Bandit(), algo=A2C, cfg=cfg)
    rows = lines(run.directory / "s")
    assert ["lr" in row for row in rows] == [False] * 4 + [True] * 3
    assert all("critic/lr" in row for row in rows)
    assert rows[0]["value/mean"] == 0 < rows[3]["value/mean"] and rows[0]["reward/mean"] > 0
    assert (Path(out).parent / "critic" / "heads.safetensors").exists()


def test_the_policy_stands_still_meanwhile(run: Run, model: Path) -> None:
    models = players(model)
    before = {name: w.clone() for name, w in models.policy.weights().items()}
    learner = update(models, PPO, run, replace(CONFIG, critic=replace(CONFIG.critic, pretrain=1)))
    with ExitStack() as critical:
        learner.run(credited(models, PPO), critical)
    assert all(torch.equal(w, before[name]) for name, w in models.policy.weights().items())
    with ExitStack() as critical:
        replace(learner, step=1).run(credited(models, PPO), critical)
    assert any(not torch.equal(w, before[name]) for name, w in models.policy.weights().items())


def test_a_critic_begins_as_the_model_it_is_given(run: Run, model: Path) -> None:
    first = run.stage(rl, "a", model, Bandit(), algo=A2C, cfg=CONFIG)
    critic = Path(first).parent / "critic"
    cfg = replace(CONFIG, steps=1)
    run.stage(rl, "b", model, Bandit(), algo=A2C, cfg=cfg, critic=critic)
    run.stage(rl, "c", model, Bandit(), algo=A2C, cfg=cfg)
    begun = [lines(run.directory / name)[0]["value/mean"] for name in "bc"]
    assert begun[0] != 0 and begun[1] == 0


def test_the_greedy_completion_is_the_baseline_and_nothing_else(run: Run, model: Path) -> None:
    run.stage(rl, "s", model, Bandit(), algo=REMAX, cfg=replace(CONFIG, steps=1))
    rows = pq.read_table(run.directory / "s/rollouts/step-000001.parquet").to_pylist()
    groups = {row["group"] for row in rows}
    assert len(rows) == CONFIG.prompts * (CONFIG.group + 1)
    for group in groups:
        own = [row for row in rows if row["group"] == group]
        [greedy] = [row for row in own if not row["train"]]
        assert greedy["advantages"] == [0.0]
        assert greedy["token_ids"] == [1], "the model prefers b"
        penalty = [0.05 * (row["old_logprobs"][0] - row["ref_logprobs"][0]) for row in own]
        scores = [row["reward"] - p for row, p in zip(own, penalty, strict=True)]
        for row, score in zip(own, scores, strict=True):
            if row["train"]:
                assert row["advantages"][0] == pytest.approx(score - scores[own.index(greedy)], abs=1e-12)
    assert lines(run.directory / "s")[0]["reward/mean"] == pytest.approx(
        sum(row["reward"] for row in rows if row["train"]) / (CONFIG.prompts * CONFIG.group)
    )


def test_groups_that_are_refused_are_drawn_anew(run: Run, model: Path) -> None:
    algo = replace(RLOO, select=MixedGroups(cap=100))
    run.stage(rl, "s", model, Bandit(), algo=algo, cfg=replace(CONFIG, steps=3))
    rows = lines(run.directory / "s")
    assert [row["groups/zero_variance"] for row in rows] == [0.0] * 3
    assert all(row["select/drawn"] >= 1 for row in rows) and max(row["select/drawn"] for row in rows) > 1
    drawn = sum(row["select/drawn"] for row in rows) * CONFIG.prompts
    last = pq.read_table(run.directory / "s/rollouts/step-000003.parquet").to_pylist()
    assert max(row["group"] for row in last) == drawn - 1, "every draw has its own randomness"


def test_a_selection_that_finds_nothing_says_so_and_keeps_the_run(run: Run, model: Path) -> None:
    algo = replace(RLOO, select=Band(low=0.99, high=1.0, cap=3))
    with pytest.raises(TrainingHaltedError, match=r"of 6 groups only 0 .* algo\.select\.cap"):
        run.stage(rl, "s", model, Bandit(), algo=algo, cfg=CONFIG)
    assert (run.directory / "s" / "checkpoints" / "step-000000").is_dir()


def test_the_trust_region_takes_the_place_of_the_optimizer(run: Run, model: Path) -> None:
    run.stage(rl, "s", model, Bandit(), algo=TRPO, cfg=CONFIG)
    rows = lines(run.directory / "s")
    assert all("lr" not in row for row in rows)
    moved = [row["trpo/kl"] for row in rows if row["trpo/accepted"]]
    assert moved and all(0 < kl <= 0.01 for kl in moved)


def test_the_reference_is_refreshed_when_it_is_due(run: Run, model: Path) -> None:
    cfg = replace(CONFIG, steps=5, group=16, refresh_reference=2)
    run.stage(rl, "s", model, Bandit(), algo=EVERY_ROW, cfg=cfg)
    near = [abs(row["kl/ref_k1"]) < 1e-12 for row in lines(run.directory / "s")]
    assert near == [True, False, True, False, True], "after steps 2 and 4 it is the policy itself"


def test_a_truncated_policy_is_trained_as_what_it_is(run: Run, tmp_path: Path) -> None:
    """With ``kept`` sampler and trainer agree on the truncated policy at every epoch, with ``full`` on the whole one."""
    model = three_token_model(tmp_path / "three", seed=1)
    entropy = {}
    for truncation in ("kept", "full"):
        cut = Sampling(max_tokens=3, top_k=2, truncation=truncation)
        cfg = replace(CONFIG, steps=2, epochs=2, sampling=cut)
        run.stage(rl, truncation, model, Bandit(), algo=EVERY_ROW, cfg=cfg)
        rows = lines(run.directory / truncation)
        assert max(row["mismatch/abs"] for row in rows) < 1e-10
        entropy[truncation] = rows[0]["entropy"]
    assert entropy["kept"] < entropy["full"]


def test_a_replay_needs_the_ids_that_were_kept(run: Run, tmp_path: Path) -> None:
    model = three_token_model(tmp_path / "three", seed=1)
    cfg = replace(CONFIG, steps=1, sampling=Sampling(max_tokens=3, top_k=2))
    run.stage(rl, "full", model, Bandit(), algo=RLOO, cfg=cfg)
    kept = replace(cfg, sampling=replace(cfg.sampling, truncation="kept"), replay=str(run.directory / "full/rollouts"))
    with pytest.raises(InputError, match="without the ids"):
        run.stage(rl, "again", model, Bandit(), algo=RLOO, cfg=kept)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"algo": PPO_PTX}, "pretraining"),
        ({"critic": Path()}, "not needed"),
        ({"algo": TRPO, "cfg": replace(CONFIG, critic=CriticConfig(shared=True))}, "trust region"),
    ],
    ids=["no-text", "critic-without-use", "trust-region-on-a-shared-trunk"],
)
def test_what_does_not_fit_together_is_refused(run: Run, model: Path, change: dict[str, object], message: str) -> None:
    arguments = {"algo": RLOO, "cfg": CONFIG, **change}
    if "critic" in arguments:
        arguments["critic"] = model
    with pytest.raises(InputError, match=message):
        run.stage(rl, "s", model, Bandit(), **arguments)


def test_a_critic_on_the_policys_trunk_cannot_learn_before_it() -> None:
    with pytest.raises(ValueError, match="pretrain=0 or shared=false"):
        CriticConfig(shared=True, pretrain=2)

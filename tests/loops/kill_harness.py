"""Runs a small pipeline many times, killing it with SIGKILL at chosen writes and at random moments, then resuming it.

Called by test_kill.py as a process of its own: it imports everything once and forks a child for every attempt, so that an
attempt costs what the pipeline costs. Prints one JSON object.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from burnish import files
from burnish.core.algorithms import GRPO, PPO, PPO_PTX, REINFORCE
from burnish.core.kl import KL, Adaptive, k1
from burnish.core.orders import Bands, Prioritised, Rates
from burnish.core.preference import DPO
from burnish.core.reward_models import BRADLEY_TERRY
from burnish.engines.local import Engine
from burnish.engines.lora import LoRA
from burnish.engines.optim import Schedule
from burnish.engines.table import build_table
from burnish.loops.fit import FitConfig, fit
from burnish.loops.rl import RLConfig, rl
from burnish.loops.update import CriticConfig
from burnish.rewards.accuracy import Accuracy
from burnish.rewards.base import Composable
from burnish.rewards.format import Format
from burnish.rewards.function import load_function
from burnish.rewards.pool import Pooled
from burnish.run import Run
from burnish.signals import Interrupted, handle_signals
from burnish.tabular.worlds import SIX_STEPS
from burnish.tasks.arithmetic import Arithmetic
from burnish.tasks.feedback import Feedback
from burnish.tasks.maze import MazeEnv, MazeTask
from burnish.tasks.tiny import Demonstrations
from burnish.types import Answer, Comparison, Example, Message, Sampling
from burnish.view import View

TASK = Arithmetic(kinds=("largest",), numbers=4, low=0, high=9, style="think")
PPO_ALL = dataclasses.replace(PPO_PTX, reward_kl=KL(k1, 0.05, adapt=Adaptive(0.01)))
CRITIC = CriticConfig(Schedule(1e-2), pretrain=1)
FULL, SMALL = (
    Engine(dtype="float32", device="cpu"),
    Engine(dtype="bfloat16", device="cpu", adapter=LoRA(rank=4, alpha=8)),
)
VARIANTS = {
    "full": (GRPO, RLConfig(engine=FULL, epochs=2, minibatches=2)),  # a reference model, several updates a batch
    "pooled": (GRPO, RLConfig(engine=FULL)),  # the user's function, in workers
    "lora": (REINFORCE, RLConfig(engine=SMALL)),  # algorithm state
    # rates that decide what is drawn, completions that wait
    "drawing": (GRPO, RLConfig(engine=FULL, order=Prioritised(Rates(success=0.5)), partial=3)),
    # a critic and its pretraining, an adaptive KL, a reference that is refreshed, pretraining text
    "ppo": (PPO_ALL, RLConfig(engine=FULL, epochs=2, minibatches=2, critic=CRITIC, refresh_reference=2)),
}


@dataclasses.dataclass(frozen=True)
class Pairs:
    """The demonstration, above a short answer."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Comparison:
        *prompt, reply = Demonstrations(TASK)[index].messages
        worse = {"role": "assistant", "content": "no" * (index % 3 + 1)}
        return Comparison(tuple(prompt), (Answer((reply,), 0), Answer((worse,), 1)))  # type: ignore[arg-type]


class Ruin(MazeEnv):
    """A maze that fails in one episode of eight."""

    def reset(self, seed: int) -> tuple[Message, ...]:
        if seed % 8 == 0:
            raise OSError("no such maze")
        return super().reset(seed)


@dataclasses.dataclass(frozen=True)
class Ruins(MazeTask):
    """Mazes some of which fail."""

    def env(self, example: Example) -> MazeEnv:  # noqa: ARG002
        return Ruin(self.grid, self.style)


def rewarded(folder: Path, variant: str) -> Composable:
    """What the policy is trained for."""
    if variant != "pooled":
        return Accuracy() + 0.5 * Format()
    file = folder / "closeness.py"
    file.write_text("def score(completion, answer): return completion.count(answer) - len(completion) / 100\n")
    return Pooled(load_function(f"{file}:score"), seconds=60, workers=1)


def judged(nano: Path, out: Path, resume: bool) -> None:
    """Preferences against a reference that is asked once and kept, from there a reward model with its head."""
    cfg = FitConfig(steps=5, batch=4, schedule=Schedule(1e-3), engine=FULL, checkpoint_every=2)
    with Run.open(out, recipe="kill", scale="tiny", config=cfg, seed=0, resume=resume, view=View(quiet=True)) as run:
        tuned = run.stage(fit, "0-dpo", nano, Pairs(), cfg=cfg, loss=DPO)
        run.stage(fit, "1-reward-model", tuned, Pairs(), cfg=cfg, loss=BRADLEY_TERRY)


def played(nano: Path, out: Path, resume: bool) -> None:
    """Episodes of several turns whose environments fail now and then, drawn by how they went."""
    table = nano.parent / "table"
    if not table.exists():
        build_table(table, SIX_STEPS)
    order = Bands(0.1, 0.9, 0.2, Rates(success=0.1))
    cfg = RLConfig(
        steps=5, prompts=2, group=4, sampling=Sampling(max_tokens=1), schedule=Schedule(0.1), engine=FULL, order=order,
        checkpoint_every=2,
    )  # fmt: skip
    with Run.open(out, recipe="kill", scale="tiny", config=cfg, seed=0, resume=resume, view=View(quiet=True)) as run:
        run.stage(rl, "1-rl", table, Ruins(size=6), algo=GRPO, cfg=cfg)


def answered(nano: Path, out: Path, resume: bool) -> None:
    """Episodes of several turns with a verifier's words, each turn paid, and a critic that learns first."""
    cfg = RLConfig(
        steps=4, prompts=2, group=4, epochs=2, minibatches=2, sampling=Sampling(max_tokens=4), schedule=Schedule(1e-3),
        engine=FULL, critic=CRITIC, checkpoint_every=2,
    )  # fmt: skip
    with Run.open(out, recipe="kill", scale="tiny", config=cfg, seed=0, resume=resume, view=View(quiet=True)) as run:
        run.stage(rl, "1-rl", nano, Feedback(2, pay="each")(TASK), algo=PPO, cfg=cfg)


def pipeline(nano: Path, out: Path, variant: str, resume: bool) -> None:
    if variant == "preference":
        judged(nano, out, resume)
        return
    if variant == "turns":
        played(nano, out, resume)
        return
    if variant == "feedback":
        answered(nano, out, resume)
        return
    algo, cfg = VARIANTS[variant]
    sft = FitConfig(
        steps=4,
        batch=4,
        schedule=Schedule(2e-3),
        engine=dataclasses.replace(cfg.engine, adapter=None),
        checkpoint_every=2,
    )
    cfg = dataclasses.replace(
        cfg, steps=5 - cfg.critic.pretrain, prompts=2, group=4, sampling=Sampling(max_tokens=8),
        schedule=Schedule(1e-2, warmup=1), checkpoint_every=2, pretraining_batch=4,
    )  # fmt: skip
    text = Demonstrations(TASK) if algo.pretraining else None
    with Run.open(out, recipe="kill", scale="tiny", config=cfg, seed=0, resume=resume, view=View(quiet=True)) as run:
        base = run.stage(fit, "0-fit", nano, Demonstrations(TASK), cfg=sft)
        run.stage(rl, "1-rl", base, TASK, algo=algo, reward=rewarded(out.parent, variant), cfg=cfg, pretraining=text)


def attempt(work: Callable[[], None], signum: int = signal.SIGKILL, after: float | None = None) -> bool:
    """Run ``work`` in a forked child, sending it ``signum`` ``after`` seconds; True if it finished, False if it was
    killed or left early with a checkpoint. Any other end is an error.
    """
    child = os.fork()
    if child == 0:
        try:
            with handle_signals():
                work()
        except Interrupted as stop:
            os._exit(128 + stop.signum)
        os._exit(0)
    if after is not None:
        time.sleep(after)
        os.kill(child, signum)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return False
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 128 + signum:
        return False
    if status != 0:
        raise SystemExit(f"an attempt ended with status {status}")
    return True


def killing_at(write: int, work: Callable[[], None]) -> Callable[[], None]:
    """``work``, with a SIGKILL to itself right before its ``write``-th step of writing to disk."""

    def killed() -> None:
        count = 0

        def inject(operation: str, path: Path) -> None:  # noqa: ARG001 - the hook's signature
            nonlocal count
            count += 1
            if count == write:
                os.kill(os.getpid(), signal.SIGKILL)

        files.inject = inject
        work()

    return killed


def main() -> None:
    nano, root, variant, kills = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    torch.set_num_threads(1)
    rng = random.Random(variant)
    started = time.perf_counter()
    out = root / "run"  # one place for all, because an adapter names the directory of its base model
    counter, cache = root / "writes", root / "cache"
    os.environ["BURNISH_CACHE"] = str(cache)  # what is kept between runs is written, and killed, like all else

    def counted() -> None:
        seen = []
        files.inject = lambda operation, path: seen.append((operation, path))
        pipeline(nano, out, variant, resume=False)
        counter.write_text(str(len(seen)))

    assert attempt(counted)
    out.rename(root / "undisturbed")
    shutil.rmtree(cache, ignore_errors=True)
    writes, seconds = int(counter.read_text()), time.perf_counter() - started
    killed = 0
    for number in range(kills):
        at = round((number + rng.random()) * writes / kills)

        def work() -> None:
            pipeline(nano, out, variant, resume=(out / "run.json").exists())

        killed += not attempt(killing_at(max(2, at), work))
        killed += not attempt(work, signal.SIGINT, after=rng.uniform(0.3, 1) * seconds)
        killed += not attempt(work, after=rng.uniform(0, seconds))
        if not attempt(work):
            raise SystemExit("an undisturbed attempt was killed")
        out.rename(root / f"killed-{number}")
        shutil.rmtree(cache, ignore_errors=True)
    print(json.dumps({"writes": writes, "killed": killed}))


if __name__ == "__main__":
    main()

"""`burnish commentate`: one completion of a run, with the critic's value at each token beside what happens from there."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from burnish.errors import InputError, near

if TYPE_CHECKING:
    from rich.table import Table

    from burnish.engines.local import Engine, LocalModel
    from burnish.loops.commentate import Commentary, Drop, Grading
    from burnish.types import Example, Rollout

RUN = "run.json"
BAR = 12  # characters
NARROW = 0.1  # values that differ by less do not fill the bar
LONG = 40  # episodes named in an error


@dataclass(frozen=True)
class Game:
    """What is commented on: a row, what was asked for, and how to call it. ``example`` None: nobody can judge the answer."""

    title: str
    prompt: str
    rollout: Rollout
    example: Example | None


def commentate(
    *,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.", show_default=False)],
    stage: Annotated[str, typer.Option(help="A stage of it; the last one with a critic if not given.")] = "",
    step: Annotated[int, typer.Option(min=0, help="Take a rollout of this step; the last one if not given.")] = 0,
    episode: Annotated[
        int | None, typer.Option(help="The episode; the first of the step if not given.", show_default=False)
    ] = None,
    prompt: Annotated[str, typer.Option(help="Sample a completion of this instead of taking a rollout.")] = "",
    answer: Annotated[str, typer.Option(help="The right answer to that prompt, for the judge.")] = "",
    samples: Annotated[int, typer.Option(min=1, help="Continuations from each token.")] = 32,
    seed: Annotated[int, typer.Option(help="All randomness follows from it.")] = 0,
) -> None:
    """Comment on one completion, token by token: the critic's value, and the success rate of playing on from there.

    Marked are the token at which the critic's expectation falls most, and the one at which the success rate does. Policy and
    critic are those at the end of the stage.
    """
    if prompt and (step or episode is not None):
        raise InputError("give either --prompt, or --step and --episode")
    if answer and not prompt:
        raise InputError("--answer belongs to --prompt: a rollout has its own")
    record = _record(run)
    where = _stage(run, stage)
    from burnish.core import keys
    from burnish.engines.decode import LocalSampler
    from burnish.loops import commentate as loop
    from burnish.types import Sampling
    from burnish.view import View

    view = View()
    grading, reason = _grading(record)
    policy, critic = _models(where)
    sampler, key = LocalSampler(policy), keys.derive("commentate", seed)
    sampling = grading.sampling if grading else Sampling()
    if prompt:
        game = _typed(prompt, answer, sampler, sampling, key, grading)
        reason = reason or "the right answer is not known: give it with --answer"
    else:
        game = _saved(where, step, episode)
    judge = grading.judge(game.example) if grading and game.example else None
    if judge and not all(game.rollout.mask):
        judge, reason = None, "an environment speaks within the row, and the policy cannot finish the episode alone"
    found = loop.commentate(
        critic,
        game.rollout,
        sampler=sampler,
        chat=policy.chat,
        sampling=sampling,
        judge=judge,
        samples=samples,
        key=key,
    )
    view.say(f"{run.name}, {where.name}, {game.title}\n{game.prompt}\n")
    view.say(_table(found, [policy.chat.decode([token], special=True) for token in found.tokens]))
    for line in _conclusions(found, policy, reason, bool(grading and grading.reward_kl)):
        view.say(line)


# --- the run ---------------------------------------------------------------------------------------


def _record(run: Path) -> dict[str, Any]:
    """What run.json says. Raises InputError where there is none."""
    if (run / RUN).exists():
        found: dict[str, Any] = json.loads((run / RUN).read_bytes())
        return found
    if not run.is_dir():
        raise InputError(f"there is no run in {run}: give the directory of a run, such as runs/grpo-laptop.")
    parents = [parent for parent in run.absolute().parents if (parent / RUN).exists()]
    if parents:
        name = run.absolute().relative_to(parents[0]).parts[0]
        raise InputError(f"{run} is a part of a run: write burnish commentate {parents[0]} --stage {name}")
    raise InputError(f"{run} is not a run directory: it has no {RUN}.")


def _stage(run: Path, name: str) -> Path:
    """The stage of that name, or the last one with a critic. Raises InputError where there is none."""
    from burnish.core.algorithms import table

    stages = {
        path.parent.name: path.parent for path in sorted(run.glob("*/stage.json")) if ".old-" not in path.parent.name
    }
    if name and name not in stages:
        raise InputError(
            f"there is no stage '{name}' in {run}.{near(name, stages)} Stages: {', '.join(stages) or 'none'}."
        )
    looked = [stages[name]] if name else list(stages.values())
    found = [stage for stage in looked if _has_value(stage / "critic") or _has_value(stage / "model")]
    if found:
        return found[-1]
    unfinished = [stage.name for stage in looked if not (stage / "done.json").exists()]
    if unfinished:
        raise InputError(
            f"stage {unfinished[-1]} of {run} is not finished, and leaves its critic at the end: --resume it."
        )
    known = ", ".join(each for each, algo in table().items() if algo.needs_critic)
    where = looked[-1] if name else run
    raise InputError(f"{where} was trained without a critic, so nobody can comment. Algorithms with one: {known}.")


def _has_value(directory: Path) -> bool:
    """Whether an exported model has a critic's head."""
    from safetensors import safe_open

    from burnish.engines.local import HEADS

    path = directory / HEADS
    if not path.exists():
        return False
    with safe_open(path, "pt") as heads:
        return "value.weight" in heads.keys()  # noqa: SIM118 - this is no dict


def _grading(record: dict[str, Any]) -> tuple[Grading | None, str]:
    """Task and reward as the recorded configuration says, or None and why they cannot be had."""
    from burnish.recipes import catalog

    name, scale = record["recipe"], record["scale"]
    if name not in catalog.RECIPES:
        return None, f"'{name}' is no recipe of `burnish list`, so its reward is not known here"
    recipe: Any = catalog.get(name)
    if not hasattr(recipe, "grading") or scale not in recipe.SCALES:
        return None, f"the recipe {name} does not say how a completion is judged"
    try:
        grading: Grading = recipe.grading(recorded(recipe.SCALES[scale], record["config"]))
    except InputError as error:
        return None, f"the reward of the run cannot be had again ({error})"
    return grading, ""


def recorded(settings: Any, record: dict[str, Any]) -> Any:
    """The settings of a run: those of its scale with what run.json says. Raises InputError."""
    from burnish import config

    given = {key: value for key, value in record.items() if key != config.KIND}
    return config.apply(settings, [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in given.items()])


def _models(stage: Path) -> tuple[LocalModel, LocalModel]:
    """(policy, critic); one and the same where they share a trunk."""
    from burnish.engines.local import LocalModel
    from burnish.types import Head

    heads, engine = {"value": Head()}, _engine(stage, "engine")
    if not _has_value(stage / "critic"):
        both = LocalModel(stage / "model", engine, heads=heads)
        return both, both
    own = "critic_engine" if (stage / "decisions" / "critic_engine.json").exists() else "engine"
    return LocalModel(stage / "model", engine), LocalModel(stage / "critic", _engine(stage, own), heads=heads)


def _engine(stage: Path, name: str) -> Engine:
    """In the precision of training, on whatever device there is."""
    from burnish import config
    from burnish.engines.local import Engine

    trained = config.from_yaml(Engine(), stage / "decisions" / f"{name}.json")
    return replace(trained, adapter=None, device="auto").resolved()


# --- the completion --------------------------------------------------------------------------------


def _saved(stage: Path, step: int, episode: int | None) -> Game:
    """A rollout as it was saved. Raises InputError where it was not."""
    from burnish.loops.rollouts import read_groups

    steps = sorted(int(path.stem.removeprefix("step-")) for path in (stage / "rollouts").glob("step-*.parquet"))
    if not steps:
        raise InputError(f"{stage} has no rollouts: comment on a completion of your own with --prompt")
    if step and step not in steps:
        raise InputError(f"there are no rollouts of step {step}: {stage.name} has steps {steps[0]} to {steps[-1]}")
    step = step or steps[-1]
    rows = [(group, rollout) for group in read_groups(stage / "rollouts", step) for rollout in group.rollouts]
    episodes = list(dict.fromkeys(rollout.episode for _, rollout in rows))
    episode = episodes[0] if episode is None else episode
    chosen = [(group, rollout) for group, rollout in rows if rollout.episode == episode]
    if not chosen:
        known = ", ".join(map(str, episodes[:LONG])) + ", ..." * (len(episodes) > LONG)
        raise InputError(f"step {step} has no episode {episode}; it has {known}")
    if len(chosen) > 1:
        raise InputError(
            f"episode {episode} is cut into {len(chosen)} rows, and a commentary is on one: choose another"
        )
    group, rollout = chosen[0]
    parts = "  ".join(f"{part.part} {part.value:g}" for part in rollout.rewards)
    title = f"step {step}, episode {episode} (one of {len(episodes)}): reward {rollout.reward:g} ({parts})"
    return Game(title, group.example.messages[-1]["content"], rollout, group.example)


def _typed(prompt: str, answer: str, sampler: Any, sampling: Any, key: int, grading: Grading | None) -> Game:
    """A completion that the policy gives to a prompt now."""
    from burnish.engines.decode import generate
    from burnish.loops.episodes import checked
    from burnish.types import Example, Reward, Rollout

    example = Example(({"role": "user", "content": prompt},), answer or None)
    tokens = sampler.model.chat.encode_prompt(example.messages)
    reply = generate(sampler, [tokens], sampling, key)[0]
    rewards: Reward = ()
    if grading and answer:
        try:
            rewards = checked(grading.reward(example, [reply])[0], reply)
        except KeyError as error:
            raise InputError(
                f"the reward asks for {error} of an example, which a typed prompt has not: comment on a rollout instead"
            ) from error
    known = f": reward {sum(part.value for part in rewards):g}" if rewards else ""
    mask = reply.chosen
    rollout = Rollout(tokens, reply.tokens, mask, reply.logprobs, rewards, 0, 0, finish=reply.finish, kept=reply.kept)
    return Game(f"a completion of your prompt{known}", prompt, rollout, example if rewards else None)


# --- what is printed -------------------------------------------------------------------------------


def _table(found: Commentary, pieces: list[str]) -> Table:
    """One line a state, named by the token that led to it; tokens that the policy did not choose have no numbers."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2), header_style="dim")
    judged = ["mean reward"] * _graded(found) + ["success", "95% interval"] if found.outcome else []
    for column in ("token", "V", "", *judged, ""):
        left = column in ("", "95% interval")
        table.add_column(column, justify="left" if left else "right", no_wrap=True)
    low, high = min(0.0, *found.values), max(found.values)
    lines = ["(prompt)", *(repr(piece) for piece in pieces)]
    states = {0: 0} | {place + 1: k + 1 for k, place in enumerate(found.places)}
    for number, token in enumerate(lines):
        k = states.get(number)
        if k is None or k >= len(found.values):
            table.add_row(Text(token, style="dim" if k is None else ""))
            continue
        mark = _mark(found, number - 1)
        value = found.values[k]
        cells = [Text(token), Text(_number(value)), Text(_bar(value, low, high), style="cyan"), *_rate(found, k)]
        table.add_row(*cells, Text(mark, style="bold red"), style="bold" if mark else "")
    return table


def _rate(found: Commentary, k: int) -> list[Any]:
    from rich.text import Text

    if found.outcome is None:
        return []
    if k == len(found.estimates):
        reward, rate, said = found.outcome.reward, float(found.outcome.success), "the outcome"
    else:
        estimate = found.estimates[k]
        reward, rate, said = estimate.reward, estimate.rate, "[{:.2f}, {:.2f}]".format(*estimate.interval)
    return [*[Text(f"{reward:.2f}")] * _graded(found), Text(f"{rate:.2f}"), Text(said, style="dim")]


def _graded(found: Commentary) -> bool:
    """Whether a reward says more than success or failure: then the mean reward is what V is to be compared with."""
    verdicts = [verdict for estimate in found.estimates for verdict in estimate.verdicts]
    return any(verdict.reward != verdict.success for verdict in verdicts)


def _mark(found: Commentary, token: int) -> str:
    drops = {"V": found.value_drop, "success": found.rate_drop}
    blamed = [name for name, drop in drops.items() if drop and drop.token == token]
    return f"◀ biggest drop of {' and '.join(blamed)}" if blamed else ""


def _number(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"  # no minus in front of a zero


def _bar(value: float, low: float, high: float) -> str:
    eighths = round(8 * BAR * (value - low) / max(high - low, NARROW))
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _conclusions(found: Commentary, policy: LocalModel, reason: str, reward_kl: bool) -> list[str]:
    def told(drop: Drop | None) -> str:
        if drop is None:
            return "never falls"
        piece = policy.chat.decode([found.tokens[drop.token]], special=True)
        return f"falls most at token {drop.token + 1}, {piece!r}: {_number(drop.before)} -> {_number(drop.after)}"

    lines = ["", f"what the critic expects {told(found.value_drop)}"]
    if found.outcome is None:
        return [*lines, f"no Monte Carlo: {reason}"]
    chance = "" if found.clear or found.rate_drop is None else " (within chance: more --samples would tell)"
    lines.append(f"the success rate of {found.estimates[0].n} continuations {told(found.rate_drop)}{chance}")
    error, noise = found.error
    lines.append(f"V is {error:.2f} off the mean reward (root mean square; {noise:.2f} of it is chance)")
    if reward_kl:
        lines.append(
            "V also expects the KL penalty that training takes off the reward; the continuations are judged without."
        )
    return lines

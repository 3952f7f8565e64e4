"""`burnish plan`: what training a recipe takes, from its settings and its model's configuration alone."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from burnish.cli.training import DEFAULT_SCALE, Order, Recipe, Scale

if TYPE_CHECKING:
    from burnish.engines.local import Outline
    from burnish.loops.fit import FitConfig
    from burnish.loops.plan import MemoryPlan
    from burnish.loops.rl import RLConfig


def plan(
    *,
    recipe: Recipe,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings, such as rl.prompts=64: see `burnish explain RECIPE`."),
    ] = None,
    scale: Scale = None,
) -> None:
    """Print what each training stage of a recipe does, and the memory it needs on one device. Loads no weights."""
    settings = Order(recipe, scale or DEFAULT_SCALE, overrides=tuple(overrides or ())).settings()
    stages = _training_stages(settings)
    if not stages:
        print(f"{recipe} trains no language model: there is nothing to plan.")
        return
    from burnish.engines.pretrained import on_disk
    from burnish.loops.plan import fit_work, rl_work
    from burnish.loops.rl import RLConfig

    directory = on_disk(settings.model)
    for name, cfg in stages.items():
        print(f"{name}: {settings.model}")
        work = rl_work(cfg, settings.algo) if isinstance(cfg, RLConfig) else fit_work(cfg)
        for key, value in {**work, **_needs(settings, cfg, directory)}.items():
            print(f"  {key:6}  {value}")
        print()
    sampled = any(isinstance(cfg, RLConfig) for cfg in stages.values())
    rehearsal = f"`burnish run {recipe} --dry-run` times the sampling of a few prompts, and " if sampled else ""
    print(f"Time has to be measured: {rehearsal}a run says after its first step how long the rest will take.")


def _training_stages(settings: Any) -> dict[str, FitConfig | RLConfig]:
    """The parts of a recipe's settings that configure a training loop, by their key."""
    from burnish.loops.fit import FitConfig
    from burnish.loops.rl import RLConfig

    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    return {name: value for name, value in values.items() if isinstance(value, FitConfig | RLConfig)}


def _needs(settings: Any, cfg: FitConfig | RLConfig, directory: Path | None) -> dict[str, str]:
    """The model and its memory; for "auto", in both of the precisions that a run chooses from."""
    from burnish.engines.local import Outline, outline
    from burnish.loops.plan import describe_model

    engine = replace(cfg.engine, device=cfg.engine.best_device())
    dtypes = ("float32", "bfloat16") if engine.dtype == "auto" else (engine.dtype,)
    if directory is None:
        return {
            "model": f"not on this machine; {' or '.join(dtypes)}",
            "memory": f"unknown without its configuration; to have that and no weights: hf download {settings.model} "
            "config.json",
        }
    models = [outline(directory, replace(engine, dtype=dtype)) for dtype in dtypes]
    plans = [_memory(settings, cfg, model) for model in models]
    peaks = [f"{plan.total / 1e9:.1f} GB in {dtype}" for dtype, (plan, _) in zip(dtypes, plans, strict=True)]
    return {
        "model": describe_model(Outline(engine, models[0].network, models[0].adapted)),
        "memory": f"about {' or '.join(peaks)} at its peak (predicted), {plans[0][1]}",
    }


def _memory(settings: Any, cfg: FitConfig | RLConfig, model: Outline) -> tuple[MemoryPlan, str]:
    """The prediction, and what it supposes of data that it has not read."""
    from burnish.loops.fit import FitConfig
    from burnish.loops.plan import PROMPT_TOKENS, fit_memory, rl_memory

    if isinstance(cfg, FitConfig):
        longest = cfg.max_length or model.context
        return fit_memory(model, cfg, longest=longest), f"for rows of up to {longest} tokens"
    critic = model if settings.algo.needs_critic and not cfg.critic.shared else None
    return rl_memory(model, cfg, settings.algo, critic), f"for prompts of up to {PROMPT_TOKENS} tokens"

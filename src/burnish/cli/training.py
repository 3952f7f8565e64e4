"""`burnish run` and `burnish schema`: from a recipe's name to its program."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from burnish.errors import InputError, unknown
from burnish.recipes import catalog

if TYPE_CHECKING:
    from burnish.view import View

DEFAULT_SCALE = "laptop"
COMMAND = "command.json"

Recipe = Annotated[str, typer.Argument(metavar="RECIPE", help="A name of `burnish list`.", show_default=False)]
Scale = Annotated[str | None, typer.Option(help="tiny (for tests), laptop (the default) or paper.", show_default=False)]


@dataclass(frozen=True)
class Order:
    """What was asked for, as typed. It is kept in the run directory, so that --resume need not repeat it."""

    recipe: str
    scale: str = DEFAULT_SCALE
    seed: int = 0
    overrides: tuple[str, ...] = ()
    config: str = ""

    def settings(self) -> Any:
        """The recipe's configuration for the scale, changed by the file, then by the overrides."""
        from burnish import config

        scales = catalog.get(self.recipe).SCALES
        if self.scale not in scales:
            raise unknown("scale", self.scale, scales)
        settings = scales[self.scale]
        if self.config:
            settings = config.from_yaml(settings, self.config)
        return config.apply(settings, self.overrides)

    def changed(self, scale: str | None, seed: int | None, overrides: list[str], config: Path | None) -> Order:
        """The same with what is given in addition; None leaves things as they are."""
        return Order(
            self.recipe,
            scale or self.scale,
            self.seed if seed is None else seed,
            (*(before for before in self.overrides if before not in overrides), *overrides),
            str(config.absolute()) if config else self.config,
        )


def run(
    *,
    recipe: Recipe,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings, such as rl.steps=50: see `burnish explain RECIPE`."),
    ] = None,
    scale: Scale = None,
    out: Annotated[Path | None, typer.Option(help="The run directory; runs/RECIPE-SCALE if not given.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in that directory; settings need not be repeated.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="All randomness follows from it; 0 if not given.")] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file of settings; overrides win.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the settings, sample a few prompts, train nothing, keep nothing.")
    ] = False,
    replay: Annotated[Path | None, typer.Option(help="Train on the saved rollouts in this rollouts/ folder.")] = None,
    report_to: Annotated[str, typer.Option(help="Also send metrics to tensorboard, trackio, wandb (commas).")] = "",
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors only.")] = False,
) -> None:
    """Run a recipe: train a model."""
    changes = list(overrides or [])
    if replay is not None:
        changes.append(f"rl.replay={json.dumps(str(replay.absolute()))}")
    out = out or Path("runs") / f"{recipe}-{scale or DEFAULT_SCALE}"
    order = (_begun_with(out, recipe) if resume else Order(recipe)).changed(scale, seed, changes, config)
    settings = order.settings()
    from burnish.view import View

    view = View(quiet=quiet)
    if dry_run:
        _rehearse(order, settings, view)
    else:
        _train(order, settings, out, view, resume=resume, sinks=[name for name in report_to.split(",") if name])


def schema(*, recipe: Recipe, scale: Scale = None) -> None:
    """Print the JSON schema of a recipe's settings."""
    from burnish import config

    settings = Order(recipe, scale or DEFAULT_SCALE).settings()
    print(json.dumps(config.schema(type(settings)), indent=2))


def _begun_with(out: Path, recipe: str) -> Order:
    """What the run in ``out`` was begun with. The defaults where it was stopped before that was written, or is a run of
    another recipe, which is refused when it is opened.
    """
    path = out / COMMAND
    record = json.loads(path.read_bytes()) if path.exists() else {"recipe": ""}
    return Order(**{**record, "overrides": tuple(record["overrides"])}) if record["recipe"] == recipe else Order(recipe)


def _rehearse(order: Order, settings: Any, view: View) -> None:
    """Print the settings and run the recipe up to where it would train, in a directory that is removed."""
    from burnish.loops.report import DryRunFinished
    from burnish.run import Run
    from burnish.signals import Interrupted, handle_signals

    _print_settings(order, settings, view)
    with tempfile.TemporaryDirectory(prefix="burnish-dry-run-") as directory:
        try:
            with handle_signals(), Run.open(
                directory, recipe=order.recipe, scale=order.scale, config=settings, seed=order.seed, view=view,
                dry_run=True,
            ) as opened:  # fmt: skip
                catalog.get(order.recipe).main(opened, settings)
        except DryRunFinished:
            view.say("\nThis was a dry run: nothing was trained and nothing was kept.")
        except Interrupted as stop:
            raise typer.Exit(128 + stop.signum) from stop


def _print_settings(order: Order, settings: Any, view: View) -> None:
    from burnish import config

    rows = [("recipe", order.recipe), ("scale", order.scale), ("seed", order.seed), *config.describe(settings)]
    width = max(len(key) for key, _ in rows)
    for key, value in rows:
        view.say(f"{key:{width}}  {'none' if value is None else value}")
    view.say("")


def _train(order: Order, settings: Any, out: Path, view: View, *, resume: bool, sinks: list[str]) -> None:
    from burnish import files
    from burnish.run import Run
    from burnish.signals import Interrupted, handle_signals

    found, opened = out.exists(), None
    again = f"burnish run {order.recipe} --resume --out {os.path.relpath(out)}"
    try:
        with handle_signals(), Run.open(
            out, recipe=order.recipe, scale=order.scale, config=settings, seed=order.seed, resume=resume, view=view,
            sinks=sinks,
        ) as opened:  # fmt: skip
            files.write_json(out / COMMAND, asdict(order))
            catalog.get(order.recipe).main(opened, settings)
    except Interrupted as stop:
        print(f"stopped; what was done is kept. Continue with: {again}", file=sys.stderr)
        raise typer.Exit(128 + stop.signum) from stop
    except InputError as error:
        if opened is None:
            raise
        if not found and not _begun(out):
            files.remove_tree(out)  # so that the mended command can be typed again as it was
            raise
        raise InputError(f"{error}\nWhat was done is kept. When it is mended, continue with: {again}") from error


def _begun(out: Path) -> bool:
    """Whether any stage left a step, a checkpoint or a result."""
    return any(any(out.glob(f"*/{name}")) for name in ("metrics.jsonl", "checkpoints/step-*", "done.json"))

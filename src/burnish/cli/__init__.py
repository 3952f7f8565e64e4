"""The command line. Commands import what they need when they run: `burnish --help` and `burnish list` stay quick.

Exit codes: 0 done, 1 training halted itself or an audit found mistakes, 2 bad input, 130/143 interrupted with a
checkpoint saved.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

from burnish import __version__
from burnish.cli import audit, chat, commentate, curate, data, diff, evaluate, explain, models, plan, serve, training
from burnish.errors import InputError, TrainingHaltedError

NOISY = r"(torch|transformers|huggingface_hub|tokenizers|accelerate|safetensors|peft|pyarrow)(\.|$)"

app = typer.Typer(
    name="burnish",
    help="Post-training for language models: supervised fine-tuning and reinforcement learning, resumable to the bit.",
    epilog="Start with: burnish list, then burnish run r1-zero --scale tiny",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(training.run)
app.command("plan")(plan.plan)
app.command("schema")(training.schema)
app.command("list")(explain.list_all)
app.command("explain")(explain.explain)
app.command("data")(data.data)
app.command("curate", epilog=curate.functions())(curate.curate)
app.command("eval")(evaluate.evaluate)
app.command("sample")(models.sample)
app.command("chat")(chat.chat)
app.command("serve")(serve.serve)
app.command("diff")(diff.diff)
app.command("commentate")(commentate.commentate)
app.command("audit")(audit.audit)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"burnish {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[  # noqa: ARG001 (its callback does the work)
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    return


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (by default that of the process) and return its exit code."""
    _prepare_libraries()
    try:
        app(None if arguments is None else list(arguments))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except TrainingHaltedError as error:
        print(f"training halted: {error}", file=sys.stderr)
        return 1
    return 0


def _prepare_libraries() -> None:
    """Settings that libraries read when they are imported.

    What they warn about is of no use to who types commands. GNU OpenMP threads spin for long while they wait for each
    other; beside any other busy process that costs far more than it gains (benchmarks/spin.py measures it). oneDNN keeps
    a compiled kernel of about 0.75 MB for each of the last 1024 shapes it has multiplied; 64 are as fast.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", module=NOISY)

"""What the documents say, held against the code: metrics, algorithms, commands, tests, papers, links, the example."""

from __future__ import annotations

import ast
import json
import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import typer.main

from burnish.core import algorithms, preference
from burnish.core.algorithms import GRPO, PPO_PTX
from burnish.core.corrections import TIS
from burnish.core.kl import KL, Adaptive, k1
from burnish.core.orders import Prioritised
from burnish.core.pointwise import OfLabels
from burnish.core.preference import CPO
from burnish.data.units import Row, collate
from burnish.engines.local import Engine
from burnish.errors import InputError
from burnish.loops.fit import FitConfig, fit
from burnish.loops.rl import RLConfig, rl
from burnish.rewards.accuracy import Accuracy
from burnish.rewards.format import Format
from burnish.rewards.function import load_function
from burnish.rewards.pool import Pooled
from burnish.run import Run
from burnish.tasks.arithmetic import Arithmetic
from burnish.tasks.mixture import Mixture
from burnish.tasks.tiny import Demonstrations
from burnish.types import Answer, Comparison, Sampling
from burnish.view import View

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "burnish").rglob("*.py"))
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
METRICS = ROOT / "docs" / "metrics.md"

ENGINE = Engine(dtype="float32", device="cpu")
ADAPTIVE = replace(PPO_PTX, reward_kl=KL(k1, 0.02, adapt=Adaptive()), correction=TIS())
TASK = Arithmetic(numbers=4, low=0, high=9, style="think")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


# --- metrics -------------------------------------------------------------------------------------


def documented() -> list[str]:
    """The first column of every table of docs/metrics.md: a name, or one with a placeholder such as ``reward/<part>``."""
    cells = re.findall(r"^\| ((?:`[^`]+`(?:, )?)+) \|", METRICS.read_text(encoding="utf-8"), re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def describes(name: str, metric: str) -> bool:
    return re.fullmatch(re.sub(r"<\w+>", r"[\\w@.-]+", name), metric) is not None


@dataclass(frozen=True)
class Pairs:
    """Comparisons of two answers."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Comparison:
        answers = (Answer(({"role": "assistant", "content": text},), rank) for rank, text in enumerate(("yes", "no")))
        return Comparison(({"role": "user", "content": f"is it {index}?"},), tuple(answers))


@pytest.fixture(scope="module")
def logged(nano: Path, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Every name that a small pipeline writes, with all there is to measure switched on."""
    out = tmp_path_factory.mktemp("docs") / "run"
    sft = FitConfig(steps=1, batch=4, engine=ENGINE, eval_every=1)
    cfg = RLConfig(
        steps=1,
        prompts=2,
        group=4,
        epochs=2,
        sampling=Sampling(max_tokens=8),
        engine=ENGINE,
        eval_every=1,
        eval_items=2,
    )
    with Run.open(out, recipe="docs", scale="tiny", config=cfg, seed=0, view=View(quiet=True)) as run:
        base = run.stage(fit, "fit", nano, Demonstrations(TASK, size=8), cfg=sft, heldout=Demonstrations(TASK, size=4))
        reward = Accuracy().when(Format()) + 0.5 * Format()
        mixture, drawn = Mixture((TASK,)), replace(cfg, order=Prioritised(), partial=4)
        run.stage(rl, "rl", base, mixture, algo=GRPO, reward=reward, cfg=drawn, heldout=mixture.with_split("dev"))
        run.stage(fit, "preferences", base, Pairs(), cfg=sft, loss=CPO, heldout=Pairs())
        text, cfg = Demonstrations(TASK, size=4), replace(cfg, eval_every=0, pretraining_batch=2)
        (out / "leaves.py").write_text("import os\n\ndef score(completion):\n    os._exit(1)\n")
        reward += Pooled(load_function(f"{out}/leaves.py:score"))
        run.stage(rl, "critic", base, TASK, algo=ADAPTIVE, reward=reward, cfg=cfg, pretraining=text)
    lines = [json.loads(line) for path in out.rglob("metrics.jsonl") for line in path.read_text().splitlines()]
    return {name for line in lines for name in line} - {"step"}


def written_in_sources() -> set[str]:
    """Names that stand in the sources as they are: string constants of the form ``family/name``."""
    families = {name.partition("/")[0] for name in documented() if "/" in name}
    pattern = re.compile(rf"(?:{'|'.join(sorted(families))})/[a-z0-9_]+[a-z0-9]")
    nodes = (node for path in SOURCES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    constants = (node.value for node in nodes if isinstance(node, ast.Constant))
    return {value for value in constants if isinstance(value, str) and pattern.fullmatch(value)}


def test_every_metric_is_documented(logged: set[str]) -> None:
    names = documented()
    records = {"perf/seconds", "perf/updated", "perf/opened"}  # of stage.json and run.json
    assert len(logged) > 20
    missing = {m for m in (logged | written_in_sources()) - records if not any(describes(name, m) for name in names)}
    assert not missing, f"write about them in {METRICS.relative_to(ROOT)}: {sorted(missing)}"


def test_every_documented_metric_exists(logged: set[str]) -> None:
    known = logged | written_in_sources()
    assert not {name for name in documented() if not any(describes(name, metric) for metric in known)}


# --- algorithms, papers, tests -------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(algorithms.table()))
def test_every_algorithm_has_its_page_and_its_rows(name: str) -> None:
    page = (ROOT / "docs" / "algorithms" / f"{name.replace('_', '-')}.md").read_text(encoding="utf-8")
    for section in ("Background", "Equation", "Pseudocode", "In Burnish", "Proof", "References"):
        assert f"\n## {section}\n" in page
    line = re.search(rf"^{name.upper()} = .*$", Path(algorithms.__file__).read_text(encoding="utf-8"), re.MULTILINE)
    assert line is not None and line[0] in page, "the page shows the line as it is in the table"
    assert f"`{name.upper()}`" in (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
    assert f"docs/algorithms/{name.replace('_', '-')}.md" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_paper_of_the_sources_is_in_the_index() -> None:
    cited = {
        found for path in SOURCES for found in re.findall(r"arXiv:(\d{4}\.\d{5})", path.read_text(encoding="utf-8"))
    }
    index = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
    assert cited and not {number for number in cited if f"arXiv:{number}" not in index}


@every_page
def test_tests_that_are_named_exist(page: Path) -> None:
    for file, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?", page.read_text(encoding="utf-8")):
        assert not name or f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{name}"
        assert (ROOT / file).is_file(), file


# --- commands ------------------------------------------------------------------------------------


def commands(page: Path) -> list[list[str]]:
    """Every ``burnish ...`` and ``make ...`` of a page, in code blocks and in running text."""
    text = page.read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"```\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    found = [line.split("#")[0].split() for line in [*lines, *re.findall(r"`([^`\n]+)`", text)]]
    return [words for words in found if words and words[0] in ("burnish", "make") and len(words) > 1]


@every_page
def test_commands_exist(page: Path) -> None:
    from burnish.cli import app
    from burnish.recipes.catalog import RECIPES

    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for program, command, *rest in commands(page):
        if program == "make":
            assert command in targets, f"make {command}"
            continue
        assert command in known, f"burnish {command}"
        options = {name for parameter in known[command].params for name in parameter.opts}
        assert {word for word in rest if word.startswith("-")} <= options, f"burnish {command} {' '.join(rest)}"
        if command == "run" and rest and not rest[0].isupper():
            assert rest[0] in RECIPES, f"burnish run {rest[0]}"


def test_readme_example_runs(nano: Path, tmp_path: Path) -> None:
    """The example as it is printed, with a smaller model and less of it."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- example -->\n```python\n(.*?)```", readme, re.DOTALL)
    assert block is not None
    smaller = {
        '"smollm2-135m"': repr(str(nano)),
        '"runs/mine"': repr(str(tmp_path / "run")),
        "steps=20": "steps=1",
        "n=100": "n=2",
    }
    source = block[1]
    for printed, used in smaller.items():
        assert source.count(printed) == 1, printed
        source = source.replace(printed, used)
    names: dict[str, object] = {}
    exec(source, names)
    assert (tmp_path / "run" / "0-rl" / "model" / "model.safetensors").is_file()


# --- words and links -----------------------------------------------------------------------------

DENIED = (
    "TODO", "FIXME", "TBD", "lorem", "blazing", "seamless", "effortless", "state-of-the-art", "cutting-edge",
    "revolutionary", "world-class", "game-chang", "leverag", "utiliz", "delve", "simply ",
)  # fmt: skip


@every_page
def test_no_denied_words(page: Path) -> None:
    text = page.read_text(encoding="utf-8").lower()
    assert not [word for word in DENIED if word.lower() in text]


@every_page
def test_relative_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("https://"):
            assert (page.parent / target.split("#")[0]).exists(), target


# --- preferences ---------------------------------------------------------------------------------

PREFERENCE = ROOT / "docs" / "preference.md"


def test_the_table_of_preference_losses_says_what_each_needs() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| [^|]* \| [^|]* \| ([A-Z ]*)\| [^|]* \|$", PREFERENCE.read_text("utf-8"), re.MULTILINE
    )
    stated = {name: set(letters.split()) for name, letters in rows}
    assert stated.keys() == preference.table().keys()
    for name, loss in preference.table().items():
        needs = loss.needs
        letters = {
            "R": needs.reference,
            "B": needs.statistics,
            "X": needs.mismatched,
            "L": isinstance(loss.link, OfLabels),
        }
        letters["G"] = bool(scores_missing(loss))
        assert stated[name] == {letter for letter, needed in letters.items() if needed}, name


def scores_missing(loss: preference.Preference) -> str:
    """What a pair without scores lacks for this loss."""
    row = Row((1,), (2,), (True,))
    try:
        loss.link.weigh(collate([(replace(row, rank=0), replace(row, rank=1))]))
    except InputError as error:
        return str(error)
    return ""


def test_the_examples_of_preferences_run(nano: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data as the page makes them, the commands as they are printed, with fewer steps."""
    from burnish.cli import main

    page = PREFERENCE.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    block = re.search(r"<!-- example -->\n```python\n(.*?)```", page, re.DOTALL)
    printed = re.search(r"<!-- commands -->\n```\n(.*?)```", page, re.DOTALL)
    assert block is not None and printed is not None
    exec(block[1], {})
    for line in printed[1].splitlines():
        _, command, *rest = shlex.split(line)
        if command == "run":
            rest += [f"model={nano}", "rl.steps=1" if rest[0] == "online-dpo" else "fit.steps=1", "--quiet"]
        assert main([command, *rest]) == 0, line
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"dpo", "orpo", "kto", "online"}

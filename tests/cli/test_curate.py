"""`burnish curate`: what is typed reaches the function, the file says where it came from, and mistakes cost one line."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from burnish.cli import curate, main
from burnish.engines.table import END
from burnish.errors import InputError
from burnish.loops.curate import catalog
from burnish.stage import Stage
from words import write

Captured = pytest.CaptureFixture[str]
PAGE = Path(__file__).parents[2] / "docs" / "curation.md"
DATA_PAGE = PAGE.with_name("curation-data.md")  # its commands are run by the tests of its functions
TABLE = {
    "ask": {"hm ": 0.5, "yes": 0.4, "no": 0.1},
    "tell": {"hm ": 0.5, "yes": 0.2, "no": 0.3},
    "hm ": {"hm ": 0.4, "yes": 0.4, "no": 0.2},
    "yes": {END: 1.0},
    "no": {END: 1.0},
}
CLOSED = "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %}" + END + "{% endif %}{% endfor %}"
HOW = ["--max-tokens", "6", "engine.dtype=float32"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a model "table" and prompts whose answer is yes."""
    write(tmp_path / "table", TABLE)
    (tmp_path / "table" / "chat_template.jinja").write_text(CLOSED)
    rows = [{"prompt": word, "answer": "yes", "level": 1} for word in ("ask", "tell")]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_file_and_beside_it_where_it_came_from(here: Path, capsys: Captured) -> None:
    typed = ["curate", "reject", "table", "--data", "asked.jsonl", "--samples", "16", "--out", "new/kept.jsonl", *HOW]
    assert main([*typed, "per_prompt=2", "keep=[{kind: AtMost, tokens: 4}]"]) == 0
    found = rows(here / "new" / "kept.jsonl")
    assert [row["prompt"] for row in found] == ["ask", "ask", "tell", "tell"], "text stays text"
    assert all(row["completion"][0]["content"].endswith("yes") and row["level"] == 1 for row in found)
    said = capsys.readouterr().out
    assert "at most 2 to a prompt" in said and "new/kept.jsonl: 4 rows" in said
    record = json.loads((here / "new" / "kept.run" / "1-reject" / "data.provenance.json").read_text())
    assert record["source"]["settings"] | {"samples": 16, "per_prompt": 2, "n": 100} == record["source"]["settings"]
    assert record["source"]["settings"]["sampling"]["max_tokens"] == 6
    run = json.loads((here / "new" / "kept.run" / "run.json").read_text())
    assert run["config"]["function"] == "reject" and run["config"]["data"] == "asked.jsonl"
    (here / "new" / "kept.jsonl").rename(here / "first.jsonl")
    assert main([*typed, "per_prompt=2", "keep=[{kind: AtMost, tokens: 4}]"]) == 0, "what is there is not made again"
    assert (here / "new" / "kept.jsonl").read_bytes() == (here / "first.jsonl").read_bytes()
    (here / "new" / "kept.jsonl").unlink()
    assert main([*typed, "threshold=2"]) == 2 and not (here / "new" / "kept.jsonl").exists()
    assert rows(here / "new" / "kept.run" / "1-reject.old-1" / "data.jsonl") == found, "a mistake takes nothing away"


def test_options_reach_the_function(here: Path, capsys: Captured) -> None:
    typed = ["curate", "reject", "table", "--data", "asked.jsonl", "--samples", "16", *HOW, "threshold=0"]
    for name, more in (("one", []), ("two", ["--seed", "3"])):
        assert main([*typed, *more, "--out", f"{name}.jsonl"]) == 0
    assert rows(here / "one.jsonl") != rows(here / "two.jsonl"), "another seed, other replies"
    assert main([*typed, "--temperature", "0", "--out", "cold.jsonl"]) == 2
    assert "0 that end" in capsys.readouterr().err, "without chance it hums for ever"
    assert json.loads((here / "two.run" / "run.json").read_text())["seed"] == 3


def test_a_reward_of_ones_own_judges(here: Path, capsys: Captured) -> None:
    (here / "open.jsonl").write_text('{"prompt": "ask"}\n{"prompt": "tell"}\n')
    (here / "r.py").write_text(
        "def no(completion):\n    return float(completion == 'no')\n\n\n"
        "def yes(completion):\n    return float(completion == 'yes')\n\n\n"
        "def by(completion, rule):\n    return 1.0\n"
    )
    typed = ["table", "--data", "open.jsonl", "--samples", "16", *HOW, "--out"]
    assert main(["curate", "best", *typed, "best.jsonl", "--reward", "r.py:no", "--gold", "r.py:yes"]) == 0
    assert {row["completion"][0]["content"] for row in rows(here / "best.jsonl")} == {"no"}
    record = json.loads((here / "best.run" / "1-best" / "data.provenance.json").read_text())
    last = record["source"]["best_of_n"][-1]
    assert "r.py" in record["source"]["gold"] and last["gold"] == 0 < last["reward"], "what it chooses is never yes"
    capsys.readouterr()
    for more, why in (
        ([], "open.jsonl: 2 of 2 rows have no column 'answer'"),
        (["--reward", "r.py:by"], "open.jsonl, row 1: reward function r.py:by asks for 'rule'"),
    ):
        assert main(["curate", "reject", *typed, "a.jsonl", *more]) == 2
        assert why in capsys.readouterr().err and not (here / "a.run").exists()


def test_settings_of_the_task(here: Path, nano: Path) -> None:
    typed = ["curate", "reject", str(nano), "--task", "countdown", "-n", "2", "--samples", "4", "--max-tokens", "32"]
    assert main([*typed, "threshold=0", "task.most=2", "--out", "kept.jsonl"]) == 0
    assert all(row["difficulty"] == 2 for row in rows(here / "kept.jsonl"))
    record = json.loads((here / "kept.run" / "1-reject" / "data.provenance.json").read_text())
    assert "most=2" in json.dumps(record["source"]) and record["source"]["settings"]["n"] == 2


def test_the_commands_of_the_page_run(here: Path) -> None:
    """As they are printed, but for the model, the prompts and the length."""
    lines = [
        line
        for block in re.findall(r"```\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
        for line in block.splitlines()
    ]
    mine = [shlex.split(line)[1:] for line in lines if line.startswith("burnish curate ")]
    others = re.findall(r"^burnish curate (\w+)", DATA_PAGE.read_text("utf-8"), re.MULTILINE)
    assert {*(words[1] for words in mine), *others} == set(catalog.FUNCTIONS)
    swapped = {"smollm2-135m": "table", "--task": "--data", "largest": "asked.jsonl"}
    for words in mine:
        assert main([*(swapped.get(word, word).replace("de}", "en}") for word in words), *HOW]) == 0, words
        assert rows(here / words[words.index("--out") + 1])


def test_the_example_of_the_page_runs(here: Path) -> None:
    block = re.search(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert block is not None
    source = block[1]
    swapped = {
        '"smollm2-135m"': '"table"',
        "Arithmetic(kinds=": "UserTask(Dataset('asked.jsonl'))",
        '("largest",))\n': "\n",
        "import Dataset,": "import UserTask, Dataset,",
        "n=200, samples=8": "n=2, samples=8, sampling=Sampling(max_tokens=6)",
        "FitConfig, Run,": "FitConfig, Run, Sampling,",
        "FitConfig()": "FitConfig(steps=1)",
    }
    for printed, used in swapped.items():
        assert source.count(printed) == 1, printed
        source = source.replace(printed, used)
    exec(source, {})
    assert (here / "runs" / "traces" / "2-sft" / "model" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("rejct table --data asked.jsonl --out a.jsonl", "unknown function 'rejct'. Did you mean 'reject'?"),
        ("reject --data asked.jsonl --out a.jsonl", "curate reject needs a model: add MODEL"),
        ("reject table --out a.jsonl", "curate reject has no prompts: add either --task NAME or --data FILE"),
        ("reject table --task sum --data asked.jsonl --out a.jsonl", "curate reject has both --task and --data"),
        ("reject table more --data asked.jsonl --out a.jsonl", "'more' is neither the model nor a setting"),
        ("reject table --data asked.jsonl --out a.csv", "a.csv does not end in .jsonl"),
        ("reject table --data asked.jsonl --out asked.jsonl", "asked.jsonl exists: choose another file"),
        ("reject table --data asked.jsonl --out a.jsonl treshold=1", "Did you mean 'threshold'?"),
        ("reject table --data asked.jsonl --out a.jsonl keep=[NoCod]", "Did you mean 'NoCode'?"),
        (
            "reject table --data asked.jsonl --out a.jsonl --gold accuracy",
            "curate reject takes no --gold: leave it out",
        ),
        ("majority table --data asked.jsonl --out a.jsonl --reward accuracy", "curate majority takes no --reward"),
        ("reject table --task sun --out a.jsonl", "unknown task 'sun'. Did you mean 'sum'?"),
        ("reject table --data asked.jsonl --out a.jsonl --samples 0", "give n >= 0 and samples >= 1"),
        ("reject table --data asked.jsonl --out a.jsonl --reward acuracy", "Did you mean 'accuracy'?"),
        (
            "reject table --data asked.jsonl --out a.jsonl threshold=2 --max-tokens 4",
            "nothing is left to write (16 drawn",
        ),
        (
            "reject table --data asked.jsonl --out a.jsonl --max-tokens 1",
            "0 different): raise sampling.max_tokens, draw",
        ),
        ("reject table --data asked.jsonl --out a.jsonl threshold=nan", "threshold is not a number"),
        (
            "reject table --task sum --out a.jsonl task.numbrs=3",
            "unknown key 'task.numbrs'. Did you mean 'task.numbers'?",
        ),
        ("reject table --data asked.jsonl --out a.jsonl task.numbers=3", "task.numbers cannot be set: task is None"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(typed: str, why: str, here: Path, capsys: Captured) -> None:
    before = sorted(path.name for path in here.iterdir())
    assert main(["curate", *typed.split()]) == 2
    said = capsys.readouterr().err
    assert why in said and said.startswith("error: ") and said.count("\n") == 1
    assert sorted(path.name for path in here.iterdir()) == before


def test_help_names_every_function(capsys: Captured) -> None:
    assert main(["curate", "--help"]) == 0
    said = capsys.readouterr().out
    for name, title in catalog.titles().items():
        assert re.search(rf"^ *{name} +{re.escape(title)}$", said, re.MULTILINE)


# --- functions with other parameters -------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    size: int = 1


def plain(stage: Stage, data: Path, *, by: str, most: int = 0, cfg: Settings | None = None) -> Path:
    """Writes what it was given."""
    path = stage.directory / "data.jsonl"
    path.write_text(json.dumps({"text": f"{data.name} {by} {most} {cfg}"}) + "\n")
    return path


def test_parameters_by_name_are_settings_too() -> None:
    order = curate._Order("plain", plain)
    assert order.settings(["by=level", "size=3"]) == {"by": "level", "most": 0, "cfg": Settings(3)}
    assert order.inputs({"data": "asked.jsonl", "reward": ""}) == {"data": Path("asked.jsonl")}
    with pytest.raises(InputError, match="curate plain needs by: add by=VALUE"):
        order.settings(["most=2"])
    with pytest.raises(InputError, match="curate plain takes no --reward"):
        order.inputs({"data": "asked.jsonl", "reward": "format"})

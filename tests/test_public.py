"""``import burnish``: quick, complete, and enough for a run in ten lines."""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import burnish
from burnish import rewards
from burnish.loops import curate

EXAMPLE = """
from burnish import Accuracy, Arithmetic, EvalConfig, RLConfig, Run, Sampling, evaluate, resolve, rl
from burnish.core.algorithms import GRPO

task = Arithmetic(kinds=("largest",), numbers=3)
short = Sampling(max_tokens=16)
with Run.open("runs/largest") as run:
    base = resolve("smollm2-135m")
    tuned = run.stage(rl, "1-rl", base, task, reward=Accuracy(), algo=GRPO, cfg=RLConfig(steps=30, sampling=short))
    after = run.stage(evaluate, "2-after", tuned, task.with_split("test"), cfg=EvalConfig(n=200, sampling=short))
print(after["summary"]["accuracy"])
"""


def test_ten_lines_are_a_run(nano: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    smaller = {'"smollm2-135m"': repr(str(nano)), '"runs/largest"': repr(str(tmp_path / "run"))}
    source = EXAMPLE
    for printed, used in (smaller | {"steps=30": "steps=1", "n=200": "n=4"}).items():
        assert source.count(printed) == 1
        source = source.replace(printed, used)
    exec(source, {})
    assert capsys.readouterr().out.splitlines()[-1].startswith("{'mean': ")
    assert (tmp_path / "run" / "1-rl" / "model" / "model.safetensors").is_file()


@pytest.mark.parametrize("package", [burnish, curate, rewards], ids=["burnish", "curate", "rewards"])
def test_every_public_name_is_there_and_lives_where_it_is_said_to(package: Any) -> None:
    homes = {name: home for home, names in package._NAMES.items() for name in names}
    assert sorted({*package.__all__} - {"__version__"}) == sorted(homes)
    for name, home in homes.items():
        assert getattr(package, name) is getattr(importlib.import_module(f"{package.__name__}.{home}"), name)
    assert set(package.__all__) <= set(dir(package))


@pytest.mark.parametrize("package", [burnish, curate, rewards], ids=["burnish", "curate", "rewards"])
def test_other_names_are_attribute_errors(package: Any) -> None:
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'Trainer'"):
        _ = package.Trainer


def test_rewards_read_like_arithmetic() -> None:
    rule = (rewards.Math() | rewards.Code()) + 0.2 * rewards.Format()
    assert rule == rewards.parse("(math | code) + 0.2*format")


def test_the_version_is_that_of_the_package() -> None:
    assert burnish.__version__ == importlib.metadata.version("burnish")


def test_importing_and_listing_do_not_load_torch() -> None:
    source = (
        "import sys, burnish\nfrom burnish.cli import main\n"
        "assert main(['list']) == main(['--help']) == main(['run', '--help']) == 0\n"
        "heavy = {'torch', 'transformers', 'numpy', 'pyarrow'} & set(sys.modules)\nassert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", source], check=True, capture_output=True)

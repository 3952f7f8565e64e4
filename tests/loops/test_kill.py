"""Killed with SIGKILL at any moment and resumed, a run leaves what the undisturbed run leaves, to the bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).with_name("kill_harness.py")


def outcome(run: Path) -> dict[str, bytes | list[dict[str, object]]]:
    """Every file that must repeat, by name: weights, optimizer, state, rollouts and metrics without ``perf/``."""
    found: dict[str, bytes | list[dict[str, object]]] = {}
    for path in sorted(p for p in run.rglob("*") if p.is_file()):
        name = path.relative_to(run).as_posix()
        if path.name == "metrics.jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = [{k: v for k, v in line.items() if not k.startswith("perf/")} for line in lines]
        elif path.suffix in (".safetensors", ".parquet") or path.name in (
            "state.json",
            "manifest.json",
            "latest",
            "done.json",
            "failures.jsonl",
        ):
            found[name] = path.read_bytes()
    return found


LAST = {
    "full": ("1-rl", 5),
    "pooled": ("1-rl", 5),
    "lora": ("1-rl", 5),
    "drawing": ("1-rl", 5),
    "turns": ("1-rl", 5),
    "feedback": ("1-rl", 5),
    "ppo": ("1-rl", 5),
    "preference": ("1-reward-model", 5),
}
"""The last stage of every variant and its number of steps."""
ROLES = {"ppo": ("critic", "reference"), "feedback": ("critic",)}
"""Who else is saved with the policy."""
KILLS = {"pooled": 1, "drawing": 2, "turns": 2, "feedback": 2}
"""How often each variant is killed in each of three ways: 4 times, less where every attempt starts processes, or where only
what is drawn differs."""


@pytest.mark.parametrize("variant", list(LAST))
def test_killed_and_resumed_is_bitwise_the_undisturbed_run(variant: str, nano: Path, tmp_path: Path) -> None:
    kills, (stage, steps) = KILLS.get(variant, 4), LAST[variant]
    command = [sys.executable, str(HARNESS), str(nano), str(tmp_path), variant, str(kills)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["killed"] >= kills, "the kills must have happened"
    expected = outcome(tmp_path / "undisturbed")
    assert f"{stage}/checkpoints/step-00000{steps}/policy/optimizer.safetensors" in expected
    assert ("1-rl/failures.jsonl" in expected) == (variant == "turns")
    assert ("1-reward-model/model/heads.safetensors" in expected) == (variant == "preference")
    roles = {name.split("/")[3] for name in expected if f"step-00000{steps}/" in name and name.endswith(".safetensors")}
    assert roles == {"policy", *ROLES.get(variant, ())}
    assert len(expected[f"{stage}/metrics.jsonl"]) == steps
    for number in range(kills):
        got = outcome(tmp_path / f"killed-{number}")
        assert got.keys() == expected.keys()
        assert [name for name in expected if got[name] != expected[name]] == []

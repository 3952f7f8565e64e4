"""Experiments: which cells run, what they leave, and that tables say what the files say."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree

import pytest

from burnish.core import algorithms
from evidence import base, pages, plot, tables
from evidence.__main__ import get, main, missing, names
from evidence.base import Cell, Experiment, Results, code_hash, load, path_of, perform

TOY = '''
"""A toy experiment."""
from pathlib import Path
from evidence.base import Experiment
from evidence.toy_parts import SCALE


class Toy(Experiment):
    name, question, expected, seeds = "toy_experiment", "How much?", "More.", (0, 1, 2)
    variants = ("a", "b")

    def run(self, variant, seed, folder, *, smoke=False):
        (Path(folder) / "left-behind").write_text("x")
        return {"score": SCALE * (seed + (variant == "b")), "folder": str(folder)}

    def report(self, results):
        return "mean " + str([results.values(v, "score") for v in results])


EXPERIMENT = Toy()
'''


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with one experiment, which imports another module and a part of the library."""
    (tmp_path / "evidence").mkdir()
    (tmp_path / "src" / "burnish").mkdir(parents=True)
    (tmp_path / "evidence" / "toy_experiment.py").write_text(TOY)
    (tmp_path / "evidence" / "toy_parts.py").write_text("from burnish import deep\nSCALE = 2.0\n")
    (tmp_path / "src" / "burnish" / "deep.py").write_text('X = 1\n"""About X."""\n\n\ndef report():\n    return X\n')
    (tmp_path / "src" / "burnish" / "apart.py").write_text("Y = 1\n")
    return tmp_path


@pytest.fixture
def toy(root: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    import evidence

    monkeypatch.setattr(evidence, "__path__", [*evidence.__path__, str(root / "evidence")])
    for name in ("evidence.toy_experiment", "evidence.toy_parts"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (root / "evidence" / "toy_parts.py").write_text("SCALE = 2.0\n")
    found = importlib.import_module("evidence.toy_experiment").EXPERIMENT
    assert isinstance(found, Experiment)
    return found


# --- code ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("evidence/toy_experiment.py", "SCALE * (", "2 * SCALE * ("),
        ("evidence/toy_experiment.py", '"More."', '"Less."'),
        ("evidence/toy_parts.py", "2.0", "3.0"),
        ("src/burnish/deep.py", "X = 1", "X = 2"),
    ],
    ids=["the run", "the expectation", "an import", "an import of an import"],
)
def test_code_that_may_change_a_number_changes_the_hash(root: Path, file: str, before: str, after: str) -> None:
    assert _hashes(root, file, before, after) == "another"


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("evidence/toy_experiment.py", "A toy experiment", "Another text"),
        ("evidence/toy_experiment.py", "mean ", "means "),
        ("src/burnish/deep.py", "About X.", "More\nabout X."),
        ("src/burnish/deep.py", "X = 1\n", "X = 1\n\n# A comment.\n"),
        ("src/burnish/apart.py", "Y = 1", "Y = 2"),
    ],
    ids=["a docstring", "the report", "a string that stands alone", "a comment", "a module nobody imports"],
)
def test_what_cannot_change_a_number_keeps_the_hash(root: Path, file: str, before: str, after: str) -> None:
    assert _hashes(root, file, before, after) == "the same"


def _hashes(root: Path, file: str, before: str, after: str) -> str:
    module, path = root / "evidence" / "toy_experiment.py", root / file
    first = code_hash(module)
    assert path.read_text().count(before) == 1
    path.write_text(path.read_text().replace(before, after))
    base.substance.cache_clear()
    base._imports.cache_clear()
    return "the same" if code_hash(module) == first else "another"


# --- cells ---------------------------------------------------------------------------------------


def test_a_finished_cell_is_not_run_again_and_one_of_other_code_is(toy: Experiment, tmp_path: Path) -> None:
    results = tmp_path / "results"
    assert missing(toy, results) == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    done = perform(toy, "b", 1, results)
    assert missing(toy, results) == [("a", 0), ("b", 0), ("a", 1), ("a", 2), ("b", 2)]
    assert missing(toy, results, seeds=[1, 7]) == [("a", 1), ("a", 7), ("b", 7)]
    path = path_of("toy_experiment", "b", 1, results)
    path.write_text(json.dumps({**asdict(done), "code": "0123456789abcdef"}))
    assert ("b", 1) in missing(toy, results)
    assert ("b", 1) not in missing(toy, results, stale_ok=True)
    assert not load(toy, results, code=done.code)
    assert load(toy, results).codes == ["0123456789abcdef"]


def test_a_cell_tells_how_it_came_about_and_leaves_nothing_else(toy: Experiment, tmp_path: Path) -> None:
    cell = perform(toy, "b", 2, tmp_path / "results")
    assert cell.numbers["score"] == 6.0
    assert cell.command == "python -m evidence --cell toy_experiment b 2"
    assert cell.hardware["threads"] >= 1 and cell.versions["torch"] and len(cell.code) == 16
    assert not Path(cell.numbers["folder"]).exists()
    found = [p.relative_to(tmp_path / "results").as_posix() for p in (tmp_path / "results").rglob("*") if p.is_file()]
    assert found == ["toy_experiment/b-2.json"]


def test_an_unknown_variant_or_experiment_is_refused(toy: Experiment, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no variant 'c': a, b"):
        perform(toy, "c", 0, tmp_path)
    with pytest.raises(SystemExit, match="choose among"):
        get("nothing")


def test_a_cell_runs_as_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way for a cell that fails: the exit status and no file; the others would go on."""
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "no-directory"))
    (tmp_path / "no-directory").write_text("a file where the cache should be")
    arguments = ["ingredients", "--smoke", "--variants", "full", "--results", str(tmp_path / "results")]
    assert main(arguments) == 1
    assert not (tmp_path / "results").exists()


# --- tables --------------------------------------------------------------------------------------


def cells(experiment: str, variant: str, numbers: Sequence[dict[str, object]]) -> list[Cell]:
    hardware, versions = {"cpu": "A processor", "cores": 2, "threads": 1}, {"torch": "2.11"}
    return [
        Cell(experiment, variant, seed, dict(n), "command", "c0de", 60.0, 0.5, versions, hardware, "2026-01-01")
        for seed, n in enumerate(numbers)
    ]


def test_mean_and_t_interval() -> None:
    """Five values with mean 3 and variance 2.5: 3 +- 2.776 sqrt(.5)."""
    assert tables.interval([1, 2, 3, 4, 5], 3) == "3.000 [1.037, 4.963]"
    assert tables.interval([0.5], 2) == ".50"
    assert tables.number(-0.25, 2, sign=True) == "-.25" and tables.number(0.25, 2, sign=True) == "+.25"


def test_verdicts() -> None:
    up, flat = [0.10, 0.12, 0.14], [-0.1, 0.0, 0.1]
    assert tables.verdict(up, 1) == "as expected" and tables.verdict(up, -1) == "contrary"
    assert tables.verdict(flat, 0) == "as expected" and tables.verdict(flat, 1) == "undecided"
    assert tables.verdict(up, 0) == "a difference"
    assert tables.verdict([0.0], 0) == "one seed"


def test_pairs_are_of_the_same_seed() -> None:
    one, two = cells("e", "one", [{"x": 1.0}, {"x": 2.0}, {"x": 3.0}]), cells("e", "two", [{"x": 0.5}, {"x": 0.5}])
    assert Results({"one": one[1:], "two": two}).pairs("one", "two", "x") == [1.5]


RUN = {
    "before": 0.4, "accuracy": 0.8, "length": 20.0, "curve": [[0, 0.4], [15, 0.6], [30, 0.8]], "tokens_sampled": 1000,
    "tokens_trained": 900, "seconds_training": 9.0, "reward": 1.0, "clip_frac": 0.0, "kl_max": 0.02, "kl_last": 0.01,
}  # fmt: skip


def test_every_algorithm_of_the_table_has_its_cells_and_its_row() -> None:
    experiment = get("algorithms")
    assert set(experiment.variants) == set(algorithms.table())
    assert len(experiment.cells()) == 5 * len(algorithms.table())
    numbers = {**RUN, "models": 1, "critic": False, "reference": True}
    results = Results({v: cells("algorithms", v, [numbers, numbers]) for v in experiment.variants})
    text = pages.body(experiment, results, "figures/algorithms.svg")
    for variant in experiment.variants:
        name = variant.replace("_", "-")
        row = f"| [{name}](algorithms/{name}.md) | .800 [.800, .800] | .700 [.700, .700] | 2 |"
        assert row in text
    assert f"{2 * len(experiment.variants)} cells, seeds 0, 1, code `c0de`" in text
    drawn = experiment.plot(results)
    assert drawn is not None and ElementTree.fromstring(drawn).tag.endswith("svg")


def test_ingredients_are_compared_seed_by_seed_with_what_was_expected() -> None:
    experiment = get("ingredients")
    full = [{**RUN, "half": 0.6, "half_step": 15, "accuracy": a} for a in (0.7, 0.8, 0.9)]
    worse = [{**n, "accuracy": n["accuracy"] - 0.1 - 0.001 * i, "kl_max": 0.03 + 0.001 * i} for i, n in enumerate(full)]
    results = Results({"full": cells("ingredients", "full", full), "no-baseline": cells("e", "no-baseline", worse)})
    text = experiment.report(results)
    assert "| baseline | - | -.101 [-.103, -.099] | as expected | + | +.011 [+.009, +.013] | as expected |" in text
    assert text.count("as expected") == 2, "without its cells an ingredient has no line"


@pytest.mark.parametrize("name", names())
def test_every_experiment_says_what_it_expects(name: str) -> None:
    experiment = get(name)
    assert experiment.question.strip() and experiment.expected.strip()
    assert "No results yet" in pages.body(experiment, Results({}), "")
    assert len(set(experiment.variants)) == len(experiment.variants) > 0 and len(experiment.seeds) > 0


def test_the_report_goes_between_its_markers(toy: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    monkeypatch.setattr(pages, "FIGURES", tmp_path / "docs" / "figures")
    page = tmp_path / "docs" / "deep" / "page.md"
    page.parent.mkdir(parents=True)
    around = ("before\n<!-- evidence:toy_experiment -->\n", "<!-- /evidence:toy_experiment -->\nafter\n")
    page.write_text("old\n".join(around))
    monkeypatch.setattr(toy, "plot", lambda _: plot.lines({"a": [(0, 1), (1, 2)]}, title="t", x="x", y="y"))
    for seed in (0, 1):
        perform(toy, "a", seed, tmp_path / "results")
        assert pages.write(toy, load(toy, tmp_path / "results")) == [page]
    text = page.read_text()
    assert text.startswith(around[0]) and text.endswith(around[1]) and "old" not in text
    assert "mean [[0.0, 2.0]]" in text and text.count("mean [") == 1
    assert "![toy_experiment](../figures/toy_experiment.svg)" in text
    assert (tmp_path / "docs" / "figures" / "toy_experiment.svg").is_file()

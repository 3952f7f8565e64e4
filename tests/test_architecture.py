"""The shape of the package, read from its sources: who imports whom, who writes to disk, what may not occur anywhere."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "burnish"
LONGEST = 450

BELOW: dict[str, tuple[str, ...]] = {
    "lazy": (),
    "errors": (),
    "sampling": ("errors",),
    "types": ("errors", "sampling"),
    "signals": (),
    "view": (),
    "files": ("errors",),
    "names": ("errors",),
    "config": ("errors", "names"),
    "sinks": ("errors",),
    "core": ("types", "errors"),
    "tabular": ("types", "errors", "core"),
    "data": ("types", "errors", "core"),
    "rewards": ("types", "lazy", "errors", "files", "core", "data"),
    "tasks": ("types", "errors", "core", "tabular", "data", "rewards"),
    "engines": ("types", "errors", "sampling", "files", "core", "tabular", "data"),
    "stage": ("errors", "files", "signals", "config", "sinks", "view"),
    "run": ("errors", "files", "signals", "config", "sinks", "view", "core", "stage"),
}
"""What each part may import besides itself. The parts above know all of these, and in their own order only downward."""
ABOVE = ("loops", "recipes", "__init__", "cli", "__main__")

ELSEWHERE = {
    # Records and errors have no behaviour of their own; what they do is tested where they are used.
    "types": "core/test_losses.py",
    "errors": "test_config.py",
    "core/method": "core/test_online.py",
    "lazy": "test_public.py",
    "names": "test_config.py",
    # The command line by another door.
    "__main__": "cli/test_training.py",
    # Signals need processes to be sent to.
    "signals": "faults/test_processes.py",
    # A sink is seen at work where a view is.
    "sinks": "test_view.py",
    # Their own names are taken by the tests of other modules: basenames are unique.
    "cli/plan": "cli/test_plan_command.py",
    "cli/evaluate": "cli/test_evaluate_command.py",
    "core/units": "core/test_units_pairs.py",
    "loops/episodes": "loops/test_turns.py",
    # What they are kept for is an environment that fails.
    "loops/failures": "loops/test_failing_env.py",
    # What becomes of begun answers is seen where somebody rates them.
    "loops/continuations": "loops/test_step_labels.py",
    # What these build or check is tested as a whole, by those who ask for it.
    "engines/gguf": "engines/test_pretrained.py",
    "engines/nano": "engines/test_pretrained.py",
    "tasks/checks": "tasks/test_arithmetic.py",
    # A protocol; what it describes is tested where there is one.
    "tasks/environments": "tasks/test_verifier_feedback.py",
    # Their names are those of tests of data and of core.
    "tasks/feedback": "tasks/test_verifier_feedback.py",
    "loops/curate/selection": "loops/curate/test_small_data.py",
    # What adapters share is seen in those that use it.
    "tasks/adapters/games": "tasks/adapters/test_gymnasium.py",
    "tasks/adapters/options": "tasks/adapters/test_reasoning_gym.py",
    "loops/curate/base": "loops/curate/test_rejection.py",
    # The name test_catalog is that of the tasks' tests; names are what the command line has.
    "loops/curate/catalog": "cli/test_curate.py",
    # Sentences are seen where they are asked, tables where they are printed.
    "loops/evaluation/questions": "loops/evaluation/test_retention.py",
    "loops/evaluation/tables": "cli/test_evaluate_command.py",
    # A list of sentences, and the cases that an audit of these rewards asks about.
    "rewards/principles": "rewards/test_constitution.py",
    "rewards/corpora/judge": "rewards/test_generative.py",
    "rewards/corpora/pairwise": "rewards/test_pairwise.py",
    "rewards/corpora/rubric": "rewards/test_rubric.py",
    # Words and one-line functions, tried by those who ask about them.
    "tasks/phrasebook": "tasks/test_languages.py",
    "tasks/snippets": "tasks/test_coding.py",
    # The name test_maze is that of the recipe's tests.
    "tasks/maze": "tasks/test_maze_task.py",
    # What replies look like is seen where clients get them.
    "loops/serving/replies": "loops/serving/test_app.py",
    "recipes/catalog": "recipes/test_grpo.py",
    # Processes are seen at work by those who make them fail, compositions by those who take them apart.
    "rewards/workers": "faults/test_reward_pool.py",
    "rewards/nursery": "faults/test_reward_pool.py",
    "rewards/tree": "rewards/test_pool.py",
    # The name test_merge is that of the loop's tests.
    "recipes/merge": "recipes/test_merge_recipe.py",
    # The name test_reward_model is that of the loop's tests.
    "recipes/reward_model": "recipes/test_reward_model_recipe.py",
    # The name says that it is the reward; a corpus is tested with the reward that it is for.
    "rewards/math": "rewards/test_math_reward.py",
    "rewards/corpora/math": "rewards/test_math_reward.py",
    "rewards/corpora/accuracy": "rewards/test_accuracy.py",
    "rewards/corpora/format": "rewards/test_format.py",
    "rewards/corpora/overlong": "rewards/test_length.py",
    # The name test_commentate is that of the loop's tests.
    "cli/commentate": "cli/test_commentate_command.py",
    # The names are those of tests of data and of tasks.
    "cli/chat": "cli/test_chat_command.py",
    "rewards/units": "rewards/test_units_of_answers.py",
    "rewards/catalog": "rewards/test_reward_catalog.py",
    # Tables and cases are exercised by those who read them.
    "rewards/languages": "rewards/test_language.py",
    "rewards/corpora/language": "rewards/test_language.py",
    "rewards/corpora/kimi_length": "rewards/test_length.py",
    "rewards/corpora/cosine_length": "rewards/test_length.py",
    "rewards/corpora/repetition": "rewards/test_repetition.py",
    "rewards/corpora/schema": "rewards/test_schema.py",
    "rewards/corpora/pattern": "rewards/test_pattern.py",
    "rewards/corpora/sets": "rewards/test_sets.py",
    "rewards/corpora/ranked": "rewards/test_ranked.py",
    "rewards/corpora/states": "rewards/test_states.py",
    "rewards/corpora/instructions": "rewards/test_instructions.py",
    "rewards/corpora/tools": "rewards/test_tools.py",
    # A corpus is known by the reward that it judges.
    "rewards/corpora/code": "rewards/test_code.py",
    # Sandboxes are tried against hostile programs and all do the same with others. The name test_process is taken.
    "rewards/sandbox/base": "rewards/sandbox/test_session.py",
    "rewards/sandbox/bubblewrap": "rewards/sandbox/test_hostile.py",
    "rewards/sandbox/enter": "rewards/sandbox/test_hostile.py",
    "rewards/sandbox/escape": "rewards/sandbox/test_choice.py",
    "rewards/sandbox/exchange": "rewards/sandbox/test_verdicts.py",
    "rewards/sandbox/filter": "rewards/sandbox/test_session.py",
    "rewards/sandbox/inside": "rewards/sandbox/test_session.py",
    "rewards/sandbox/locked": "rewards/sandbox/test_hostile.py",
    "rewards/sandbox/namespaces": "rewards/sandbox/test_hostile.py",
    "rewards/sandbox/process": "rewards/sandbox/test_session.py",
    "rewards/sandbox/rlimits": "rewards/sandbox/test_choice.py",
    "rewards/sandbox/sandlock": "rewards/sandbox/test_hostile.py",
    # The name test_audit is that of the rewards' tests.
    "cli/audit": "cli/test_audit_command.py",
    # The name test_generic is that of the recipes' tests.
    "rewards/corpora/generic": "rewards/test_generic_corpus.py",
}
"""Modules without a test module of their own name, and the test module that exercises them."""


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def sources(*folders: str) -> list[Path]:
    found = [path for folder in folders or ("",) for path in sorted((SOURCE / folder).rglob("*.py"))]
    assert found
    return found


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").as_posix()


def part_of(path: Path) -> str:
    return name_of(path).split("/")[0]


def at(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


def nodes(paths: list[Path]) -> Iterator[tuple[Path, ast.AST]]:
    for path in paths:
        for node in ast.walk(tree(path)):
            yield path, node


def imported(node: ast.AST) -> list[str]:
    """The dotted names that an import statement may load: modules, and members that may be modules."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0 and node.module, "imports are absolute"
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def dotted(node: ast.AST) -> str:
    """``a.b.c`` of a chain of attributes; what does not begin with a name is left out."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def constant(node: ast.AST | None) -> object:
    return node.value if isinstance(node, ast.Constant) else None


# --- layers --------------------------------------------------------------------------------------


def parts_imported(node: ast.AST) -> set[str]:
    """The parts of the package that an import statement needs; "__init__" for the package's own public names."""
    own = [name.split(".") for name in imported(node) if name.split(".")[0] == "burnish"]
    members = {name[1] for name in own if len(name) > 1} or {"__init__" for _ in own}
    return {name if part_exists(name) else "__init__" for name in members}


def part_exists(name: str) -> bool:
    return (SOURCE / name).is_dir() or (SOURCE / f"{name}.py").is_file()


def allowed(part: str) -> set[str]:
    if part in BELOW:
        return {part, *BELOW[part]}
    return {*BELOW, *ABOVE[: ABOVE.index(part) + 1]}


def test_every_part_has_a_place() -> None:
    assert {part_of(path) for path in sources()} <= {*BELOW, *ABOVE}


def test_the_table_is_without_cycles() -> None:
    placed: set[str] = set()
    while len(placed) < len(BELOW):
        ready = {part for part, below in BELOW.items() if placed.issuperset(below)} - placed
        assert ready, f"a cycle among {sorted(set(BELOW) - placed)}"
        placed |= ready


def test_imports_go_downward() -> None:
    wrong = [
        f"{at(path, node)}: {part_of(path)} may not import {', '.join(sorted(above))}"
        for path, node in nodes(sources())
        if (above := parts_imported(node) - allowed(part_of(path)))
    ]
    assert not wrong, "\n".join(wrong)


def test_only_engines_know_clusters_and_servers() -> None:
    banned = ("ray", "vllm", "torch.distributed")
    wrong = [
        at(path, node)
        for path, node in nodes([path for path in sources() if part_of(path) != "engines"])
        for name in [*imported(node), dotted(node)]
        if any(name == b or name.startswith(f"{b}.") for b in banned)
    ]
    assert not wrong, "\n".join(wrong)


# --- core ----------------------------------------------------------------------------------------


def is_text(node: ast.AST) -> bool:
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return any(is_text(item) for item in node.elts)
    return isinstance(constant(node), str)


def test_core_never_branches_on_a_string() -> None:
    wrong = [
        at(path, node)
        for path, node in nodes(sources("core"))
        if (isinstance(node, ast.Compare) and any(is_text(side) for side in (node.left, *node.comparators)))
        or (isinstance(node, ast.MatchValue) and is_text(node.value))
    ]
    assert not wrong, "an algorithm is a value, not a name:\n" + "\n".join(wrong)


def test_core_reads_no_clock_no_random_state_and_no_environment() -> None:
    banned = ("time", "random", "os", "logging", "transformers", "torch.manual_seed", "torch.rand", "torch.randn")
    wrong = [
        f"{at(path, node)}: {name}"
        for path, node in nodes(sources("core"))
        for name in [*imported(node), dotted(node)]
        if any(name == b or name.startswith(f"{b}.") for b in banned)
    ]
    assert not wrong, "\n".join(wrong)


def test_only_logprobs_shifts_by_one() -> None:
    """``x[:, 1:]``, ``x[..., :-1]`` and ``roll`` move per-token tensors against each other."""

    def shifts(node: ast.AST) -> bool:
        if isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] == "roll":
            return True
        if not isinstance(node, ast.Subscript) or not isinstance(node.slice, ast.Tuple):
            return False
        last = node.slice.elts[-1]
        return isinstance(last, ast.Slice) and (
            constant(last.lower) == 1 or (isinstance(last.upper, ast.UnaryOp) and constant(last.upper.operand) == 1)
        )

    others = [path for path in sources() if name_of(path) != "core/logprobs"]
    wrong = [at(path, node) for path, node in nodes(others) if shifts(node)]
    assert not wrong, "use burnish.core.logprobs:\n" + "\n".join(wrong)


# --- disk ----------------------------------------------------------------------------------------

WRITERS = ("write_text", "write_bytes", "to_parquet", "write_table", "save_file", "savez", "tofile", "SummaryWriter")


def writes(path: Path, node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    owner, _, name = dotted(node.func).rpartition(".")
    if name == "save_pretrained":
        return part_of(path) != "engines"  # the formats of Hugging Face are written by their own library
    if name == "SummaryWriter":
        return part_of(path) != "sinks"  # a sink's copy, never read back
    if name == "open" and owner != "Run":
        position = 1 if isinstance(node.func, ast.Name) else 0
        given = [k.value for k in node.keywords if k.arg == "mode"] or node.args[position : position + 1]
        return bool(given) and bool(set(str(constant(given[0]))) & set("wax+"))
    return (name in WRITERS and owner != "files") or dotted(node.func) in ("torch.save", "json.dump", "np.save")


def test_only_files_writes_to_disk() -> None:
    others = [path for path in sources() if part_of(path) != "files"]
    wrong = [at(path, node) for path, node in nodes(others) if writes(path, node)]
    assert not wrong, "write through burnish.files:\n" + "\n".join(wrong)


def test_nothing_is_pickled_and_no_code_is_loaded_from_models() -> None:
    modules = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    wrong = []
    for path, node in nodes(sources()):
        if modules & {name.split(".")[0] for name in imported(node)} or dotted(node) in ("torch.load", "torch.save"):
            wrong.append(at(path, node))
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code" and constant(node.value) is not False:
            wrong.append(at(path, node.value))
    assert not wrong, "\n".join(wrong)


# --- files ---------------------------------------------------------------------------------------


def test_no_file_is_long() -> None:
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    long = {name: count for name, count in lengths.items() if count > LONGEST}
    assert not long, f"more than {LONGEST} lines: {long}"


@pytest.mark.parametrize("module", [name_of(p) for p in sources() if p.name != "__init__.py"])
def test_every_module_has_its_tests(module: str) -> None:
    folder, _, name = module.rpartition("/")
    own = ROOT / "tests" / folder / f"test_{name}.py"
    if module not in ELSEWHERE:
        assert own.is_file(), f"write {own.relative_to(ROOT)}, or say in ELSEWHERE which tests exercise the module"
        return
    assert not own.exists(), f"{own.relative_to(ROOT)} exists: take {module} out of ELSEWHERE"
    assert (ROOT / "tests" / ELSEWHERE[module]).is_file()


def test_the_table_of_modules_tested_elsewhere_is_current() -> None:
    assert set(ELSEWHERE) <= {name_of(path) for path in sources()}

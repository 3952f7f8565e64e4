"""The user's own classes: found, imported once, told apart by content, and refused in one clear sentence."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from burnish.errors import InputError
from burnish.tasks import userfile

SOURCE = """
from dataclasses import dataclass, field

@dataclass(frozen=True)
class Pairs:
    size: int = 3

@dataclass(frozen=True)
class Filled:
    sizes: list = field(default_factory=list)
    made: int = field(init=False)

@dataclass
class Loose:
    size: int = 3

class Plain:
    size = 3

@dataclass(frozen=True)
class Open:
    size: int

@dataclass(frozen=True)
class Angry:
    def __post_init__(self):
        raise RuntimeError("no way")

@dataclass(frozen=True)
class Leaving:
    def __post_init__(self):
        raise SystemExit(0)

@dataclass(frozen=True)
class Picky:
    def __post_init__(self):
        from burnish.errors import InputError
        raise InputError("size is missing")

READY = Pairs(7)
_HIDDEN = 1
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return path


def test_a_class_is_the_same_class_until_the_file_changes(file: Path) -> None:
    first, again = userfile.make(f"{file}:Pairs", "task"), userfile.make(f"{file}:Pairs", "task")
    assert first == again and first.size == 3 and userfile.make(f"{file}:READY", "task") == type(first)(7)
    file.write_text(SOURCE.replace("int = 3", "int = 4"))
    other = userfile.make(f"{file}:Pairs", "task")
    assert other.size == 4 and type(other).__module__ != type(first).__module__


def test_fields_that_need_no_argument_are_no_hindrance(file: Path) -> None:
    assert userfile.make(f"{file}:Filled", "task").sizes == []


def test_neighbours_come_first_and_the_path_is_as_it_was(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, size in ((tmp_path / "elsewhere", 8), (tmp_path, 9)):
        folder.mkdir(exist_ok=True)
        (folder / "beside_the_users_file.py").write_text(f"SIZE = {size}\n")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    path = [*sys.path]
    file.write_text("from beside_the_users_file import SIZE\n")
    try:
        assert userfile.load(f"{file}:SIZE") == 9
    finally:
        sys.modules.pop("beside_the_users_file", None)
    assert sys.path == path


def test_a_copy_is_another_module(file: Path, tmp_path: Path) -> None:
    file.write_text("from pathlib import Path\nHERE = str(Path(__file__).parent)\n")
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "mine.py").write_text(file.read_text())
    assert [userfile.load(f"{path}:HERE") for path in (file, copy / "mine.py")] == [str(tmp_path), str(copy)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Pair", "unknown name 'Pair'. Did you mean 'Pairs'"),
        ("_HIDDEN", "has no '_HIDDEN'"),
        ("Loose", r"frozen dataclass: write @dataclass\(frozen=True\) above class Loose"),
        ("Plain", r"frozen dataclass: write @dataclass\(frozen=True\) above class Plain"),
        ("Open", "^reward .*mine.py:Open: give size of class Open a default"),
        ("Leaving", "(?s)^reward .* cannot be made; mend it and run again.*SystemExit"),
        ("Angry", "(?s)mend it and run again.*RuntimeError: no way"),
        ("Picky", "^size is missing$"),
    ],
)
def test_what_cannot_be_used_is_said(file: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        userfile.make(f"{file}:{name}", "reward")
    assert "userfile.py" not in str(caught.value), "the traceback begins in the user's file"


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"my_file\.py:Name"):
        userfile.load("mine.py")
    for missing in ("none.py", "."):
        with pytest.raises(InputError, match="does not exist"):
            userfile.load(f"{tmp_path}/{missing}:Name")
    (tmp_path / "broken.py").write_text("import no_such_module_anywhere\n")
    for _ in range(2):  # nothing is left of the first time
        with pytest.raises(InputError, match=r"(?s)cannot be imported.*no_such_module_anywhere"):
            userfile.load(f"{tmp_path}/broken.py:Name")
    assert str(tmp_path) not in sys.path


def test_a_folder_may_have_a_colon_in_its_name(file: Path) -> None:
    folder = file.parent / "a:b"
    folder.mkdir()
    assert userfile.make(f"{file.rename(folder / 'mine.py')}:Pairs", "task").size == 3


def test_names_of_files_are_told_from_names_of_ours() -> None:
    assert all(map(userfile.names_file, ("mine.py:Pairs", "mine.py", "mine:Pairs")))
    assert not userfile.names_file("countdown")

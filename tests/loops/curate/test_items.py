"""Rows of every kind give what is asked and what is answered in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish.errors import InputError
from burnish.loops.curate.items import items
from curating import write


@pytest.mark.parametrize(
    ("row", "prompt", "replies"),
    [
        ({"prompt": "Hi", "answer": "4"}, "Hi", ()),
        ({"prompt": "Hi", "completion": "Yo"}, "Hi", ("Yo",)),
        ({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]}, "Hi", ("Yo",)),
        ({"prompt": "Hi", "chosen": "Yo", "rejected": "No"}, "Hi", ("Yo", "No")),
        ({"text": "Hi"}, "Hi", ()),
    ],
)
def test_kinds(tmp_path: Path, row: dict[str, object], prompt: str, replies: tuple[str, ...]) -> None:
    (item,) = items(write(tmp_path / "a.jsonl", [row]))
    assert item.row == row and item.number == 1
    assert [message["content"] for message in item.prompt] == [prompt]
    assert tuple(reply.strip() for reply in item.replies) == replies
    assert item.characters == len(prompt) + sum(map(len, item.replies))


def test_bad_rows_and_columns_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"prompt": "Hi"}, {"prompt": 3}])
    with pytest.raises(InputError, match=r"a\.jsonl: row 2: "):
        items(path)
    (_, second) = items(write(path, [{"prompt": "Hi"}, {"prompt": "Ho", "level": 1}]))
    assert second.value("level") == 1
    with pytest.raises(InputError, match="row 2 has no column 'domain', only prompt, level: add it"):
        second.value("domain")

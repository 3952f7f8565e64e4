"""What the tests of agreement share: a policy, and another model that does not agree with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.agreement.peers import Models


@pytest.fixture(scope="session")
def models(nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Models:
    from tests.agreement.peers import Models, moved  # without TRL the import skips, which a conftest must not

    return Models(moved(nano, tmp_path_factory.mktemp("policy"), 0.1, 1), nano)

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nbd.peers import Servers


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    started = Servers(tmp_path)
    yield started
    started.stop_all()

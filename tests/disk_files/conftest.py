from __future__ import annotations

from pathlib import Path

import pytest

from tests.disk_files import images


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return images.make_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="session")
def ext4_image(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return images.ext(tmp_path_factory.mktemp("ext4") / "disk", tree)

"""Sizes as people write them, and the setting that takes one."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.settings import InvalidSize, SettingsError, format_size, load, parse_size

HOST = '[hosts.here]\nuri = "qemu:///system"\n'


@pytest.mark.parametrize(
    ("text", "size_bytes"), [("512MiB", 512 << 20), ("2 GB", 2 * 10**9), ("1.5GiB", 3 << 29), ("0B", 0)]
)
def test_a_size_is_read_with_its_unit(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes
    assert parse_size(format_size(size_bytes)) == size_bytes


@pytest.mark.parametrize("text", ["", "12", "-1GiB", "1 parsec", "GiB"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidSize) as failure:
        parse_size(text)

    assert "2GiB" in failure.value.next_step


def test_the_floor_of_a_scratch_folder_is_a_setting(tmp_path: Path) -> None:
    file = tmp_path / "newhope.toml"
    file.write_text(HOST)
    usual = load(file).hosts[0].scratch_floor_bytes
    file.write_text(f'{HOST}scratch_floor = "256MiB"\n')
    own = load(file).hosts[0].scratch_floor_bytes
    file.write_text(f'{HOST}scratch_floor = "lots"\n')
    with pytest.raises(SettingsError) as failure:
        load(file)

    assert (usual, own) == (1 << 30, 256 << 20)
    assert "scratch_floor" in str(failure.value)

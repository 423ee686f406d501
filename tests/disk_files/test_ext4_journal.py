"""What only the journal of an ext3 or ext4 file system has, written there by debugfs as a kernel would."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.disk_files import open_disks
from tests.disk_files import images
from tests.disk_files.images import disk, run

OLD, NEW, NEWEST = (f"127.0.0.{number} localhost\n".encode() for number in (1, 2, 3))
KINDS = {
    "ext3": ("ext3", "jo"),
    "ext4 with checksums": ("ext4", "jo -c"),
    "ext4 of 32 bits": ("ext4", "jo"),
}
OPTIONS = {"ext4 of 32 bits": ("-O", "^64bit,^metadata_csum")}


@pytest.fixture(params=KINDS)
def image(request: pytest.FixtureRequest, tree: Path, tmp_path: Path) -> tuple[Path, str]:
    kind, opened = KINDS[request.param]
    made = images.ext(tmp_path / "disk", tree, kind, "-b", "4096", *OPTIONS.get(request.param, ()), size="64M")
    return made, opened


def write_journal(image: tuple[Path, str], *steps: str) -> None:
    """Steps of debugfs, with BLOCK for the block that has the file's content, and NEW and NEWEST for other contents."""
    file, opened = image
    block = file.read_bytes().index(OLD) // 4096
    for name, content in (("NEW", NEW), ("NEWEST", NEWEST)):
        (file.parent / name).write_bytes(content.ljust(4096, b"\0"))
    lines = [opened, *steps, "jc"]
    script = file.parent / "steps"
    script.write_text(
        "\n".join(
            " ".join(
                str(file.parent / word) if word in ("NEW", "NEWEST") else str(block) if word == "BLOCK" else word
                for word in line.split()
            )
            for line in lines
        )
        + "\n"
    )
    run("debugfs", "-w", "-f", script, file)


def hosts_on(image: tuple[Path, str]) -> tuple[bytes, str]:
    with open_disks([disk("vda", image[0])]) as files:
        [volume] = files.volumes()
        return bytes(files.read("vda", (b"etc", b"hosts"), 0, 100)), volume.note


def test_a_committed_change_is_seen_and_said(image: tuple[Path, str]) -> None:
    write_journal(image, "jw -b BLOCK NEW")

    content, note = hosts_on(image)

    assert content == NEW
    assert "journal" in note
    assert image[0].read_bytes().count(OLD) == 1


def test_the_last_of_several_changes_counts(image: tuple[Path, str]) -> None:
    write_journal(image, "jw -b BLOCK NEW", "jw -b BLOCK NEWEST")

    assert hosts_on(image)[0] == NEWEST


def test_a_change_without_a_commit_never_happened(image: tuple[Path, str]) -> None:
    write_journal(image, "jw -b BLOCK NEW", "jw -b BLOCK -c NEWEST")

    assert hosts_on(image)[0] == NEW


def test_what_was_revoked_later_is_not_used(image: tuple[Path, str]) -> None:
    write_journal(image, "jw -b BLOCK NEW", "jw -r BLOCK")

    assert hosts_on(image)[0] == OLD


def test_a_clean_journal_says_nothing(image: tuple[Path, str]) -> None:
    assert hosts_on(image) == (OLD, "")

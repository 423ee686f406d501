"""Which checkpoints nobody needs: what a committed point names stays, and so does what nobody could look up."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.backup.stray_marks import needless_bitmaps, needless_checkpoints
from engine.backup.vm_notes import VmNotes
from engine.hosts.checkpoints import KnownCheckpoint
from engine.repository import Point
from tests.builders import make_point

OURS = "newhope-20261122T081300Z-a1b2c3-0123abcd"
OLDER = "newhope-20261121T081300Z-d4e5f6-0123abcd"
ELSEWHERE = "newhope-20261122T081300Z-a1b2c3-fedcba98"
OF_NO_CHAIN = "newhope-20261122T081300Z-a1b2c3"
THEIRS = "virtnbdbackup.0"


def known(*names: str) -> list[KnownCheckpoint]:
    return [KnownCheckpoint(name, datetime(2026, 11, 22, tzinfo=UTC), ("vda",)) for name in names]


def point_with(checkpoint: str, **changes: str) -> Point:
    point = make_point("web", **changes)
    return replace(point, manifest=replace(point.manifest, checkpoint=checkpoint))


@pytest.mark.parametrize(
    ("names", "needed", "all_seen", "needless"),
    [
        ((OURS, OLDER), OURS, True, (OLDER,)),
        ((OURS,), OURS, True, ()),
        ((OURS, THEIRS), None, True, (OURS,)),
        # Of a repository that is in no settings, or did not answer: its points may need it.
        ((ELSEWHERE,), None, True, ()),
        ((OF_NO_CHAIN,), None, True, (OF_NO_CHAIN,)),
        ((OF_NO_CHAIN,), None, False, ()),
        ((OURS,), None, False, (OURS,)),
    ],
)
def test_a_checkpoint_is_needless_once_no_point_can_name_it(
    names: tuple[str, ...], needed: str | None, all_seen: bool, needless: tuple[str, ...]
) -> None:
    points = [point_with(needed)] if needed else []

    assert needless_checkpoints(known(*names), points, ["0123abcd"], all_seen=all_seen) == needless


@pytest.mark.parametrize(
    ("name", "all_seen", "needless"),
    [
        (OLDER, True, True),
        # A moved VM brought it along: the next backup makes libvirt know it again.
        (OURS, True, False),
        (ELSEWHERE, True, False),
        (OF_NO_CHAIN, True, True),
        (OF_NO_CHAIN, False, False),
        (THEIRS, True, False),
    ],
)
def test_a_bitmap_without_a_checkpoint_is_needless_unless_the_next_backup_counts_from_it(
    name: str, all_seen: bool, needless: bool
) -> None:
    points = [point_with(OLDER, age="2h"), point_with(OURS, age="1h")]

    assert needless_bitmaps([name], points, ["0123abcd"], all_seen=all_seen) == ((name,) if needless else ())


def test_what_a_dead_process_was_about_to_begin_is_known_until_it_is_gone(tmp_path: Path) -> None:
    notes = VmNotes(tmp_path)
    notes.begin_mark("alderaan", "a-vm", OURS)
    assert notes.marks_left("alderaan", "a-vm") == ()

    dying = os.fork()
    if dying == 0:
        notes.begin_mark("alderaan", "a-vm", OLDER)
        os._exit(0)
    os.waitpid(dying, 0)

    assert notes.marks_left("alderaan", "a-vm") == (OLDER,)
    assert notes.marks_left("yavin", "a-vm") == notes.marks_left("alderaan", "another-vm") == ()
    notes.end_mark("alderaan", "a-vm", OLDER)
    assert notes.marks_left("alderaan", "a-vm") == ()
    assert notes.kept() == ()

"""Which checkpoints nobody needs: what a committed point names stays, and so does what nobody could look up."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from engine.backup.stray_marks import needless_checkpoints
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


def point_with(checkpoint: str) -> Point:
    point = make_point("web")
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

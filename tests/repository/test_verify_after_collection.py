"""Verification and collection know each other's objects: what one leaves is sound to the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.repository import Extent, Repository, VerifyRequest
from tests.repository.building import BLOCK, SMALL, back_up, later, mixed_disk


@pytest.mark.parametrize("extent", [Extent.QUICK, Extent.FULL])
def test_a_repository_is_sound_after_points_were_pinned_dropped_and_collected(tmp_path: Path, extent: Extent):
    repository = Repository.create(tmp_path / "vault", block_bytes=BLOCK)
    old = back_up(repository, mixed_disk(200))
    kept = back_up(repository, mixed_disk(200, 3), moment=later(10))
    back_up(repository, mixed_disk(200, 5), moment=later(20))
    repository.pin(kept, why="before the upgrade", by="a test")
    with repository.collector("a test", limits=SMALL) as collector:
        collector.drop([old])
        collector.collect()

    found = Repository.open(tmp_path / "vault").verifier(VerifyRequest(extent)).run()

    assert found.findings == ()
    assert found.sound
    assert found.points == 2


def test_what_a_verification_found_before_is_no_alarm_once_points_were_dropped(tmp_path: Path):
    repository = Repository.create(tmp_path / "vault", block_bytes=BLOCK)
    old = back_up(repository, mixed_disk(200))
    back_up(repository, mixed_disk(200, 3), moment=later(10))
    repository.verifier(VerifyRequest(Extent.FULL)).run()
    with repository.collector("a test", limits=SMALL) as collector:
        collector.drop([old])
        collector.collect()

    found = Repository.open(tmp_path / "vault").verifier(VerifyRequest(Extent.FULL)).run()

    assert found.losses == ()
    assert found.sound

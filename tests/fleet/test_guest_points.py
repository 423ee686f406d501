"""Files from inside a guest protect no VM: they are kept apart wherever a fleet is put together."""

from __future__ import annotations

from datetime import timedelta

from engine.fleet import newest_point, points_of, with_repository
from engine.requirements import ExposureState, exposures
from tests.builders import NOW, make_fleet, make_guest_point, make_level, make_point, make_repository, make_settings


def test_a_vm_with_guest_files_alone_has_no_recovery_point():
    fleet = make_fleet(points=[make_guest_point("web")])

    (exposure,) = [each for each in exposures(make_settings(levels=[make_level()]), fleet, NOW) if each.vm == "web"]

    assert exposure.state is ExposureState.NEVER
    assert exposure.points == 0
    assert len(fleet.guest_points) == 1


def test_a_repository_seen_anew_brings_points_of_both_kinds_and_takes_its_old_ones_along():
    old = make_point("web", age="2h")
    fleet = make_fleet(points=[old, make_guest_point("web", moment=NOW - timedelta(hours=1))])
    new_vm, new_guest = make_point("web", age="10m"), make_guest_point("web", moment=NOW)

    changed = with_repository(fleet, make_repository(), [new_guest, new_vm])

    assert points_of(changed, old.manifest.vm.uuid) == (new_vm,)
    assert newest_point(changed, old.manifest.vm.uuid) == new_vm
    assert changed.guest_points == (new_guest,)

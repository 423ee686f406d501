"""A second point reads only what was written, and all of it where nobody can tell; a long chain is in `test_chain`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.hosts import power_off, suspend
from engine.hosts.model import Vm
from engine.jobs import JobState
from engine.lab import Lab
from engine.lab.journal import ask_journal, prove
from engine.repository import Point
from tests.e2e.conftest import Operator
from tests.e2e.whole_disks import content_now, content_of, make_it_run, reason, remove_checkpoints
from tests.hosts.live import in_guest, kill_qemu

pytestmark = [pytest.mark.lab, pytest.mark.slow]

VICTIM_BYTES = 60_000_000


@pytest.fixture
def web(operator: Operator) -> Iterator[Vm]:
    vm = operator.vm("web")
    yield vm
    make_it_run(operator, vm)
    remove_checkpoints(operator, vm)


def read_from_disks(point: Point) -> int:
    return point.manifest.read_bytes - sum(file.size_bytes for file in point.manifest.files)


def test_the_second_point_reads_what_was_written_and_is_complete_by_itself(operator: Operator, web: Vm) -> None:
    lane = operator.lanes[web.host]
    first = operator.back_up("web")
    in_guest(lane, web, "head -c 3000000 /dev/urandom > /data/fresh; sync")
    before = ask_journal(lane, web.uuid)

    second = operator.back_up("web")
    after = ask_journal(lane, web.uuid)
    restored = operator.restore(second, "coruscant")

    assert reason(second) == f"what was written since web@{first.id[:8]}"
    assert read_from_disks(second) < second.manifest.disks[0].data_bytes
    elsewhere = operator.lanes["coruscant"]
    assert prove((lane, web.uuid), (elsewhere, restored.uuid), before, after).compared_bytes > 0
    wanted = in_guest(lane, web, "md5sum < /data/fresh")
    assert in_guest(elsewhere, restored, "md5sum < /data/fresh") == wanted


class TestWhatCannotBeBelieved:
    def test_a_killed_qemu_costs_a_full_read_and_the_point_says_why(
        self, operator: Operator, web: Vm, lab: Lab
    ) -> None:
        operator.back_up("web")
        kill_qemu(lab, operator.lanes[web.host], web)
        make_it_run(operator, web)

        after = operator.back_up("web")
        following = operator.back_up("web")

        assert reason(after).startswith("full: the dirty bitmap since newhope-")
        assert reason(following) == f"what was written since web@{after.id[:8]}"

    def test_a_write_behind_the_back_of_qemu_is_found_by_the_sample_and_told(self, operator: Operator, web: Vm) -> None:
        lane = operator.lanes[web.host]
        in_guest(lane, web, f"head -c {VICTIM_BYTES} /dev/zero | tr '\\0' x > /data/victim; sync")
        first = operator.back_up("web")
        power_off(lane, web.uuid)
        scribble_over(Path(web.disks[0].source or ""))
        make_it_run(operator, web)

        known = {point.id for point in operator.points("web")}
        job = operator.finish(operator.start_backup("web"))

        (point,) = [each for each in operator.points("web") if each.id not in known]
        assert job.state is JobState.WARN
        assert "the dirty bitmap was wrong" in reason(point)
        assert point.manifest.disks[0].contradicted == first.id
        suspend(lane, web.uuid)
        last = operator.back_up("web")
        assert reason(last) == f"what was written since web@{point.id[:8]}"
        assert content_of(operator, last) == content_now(operator, web)

    def test_a_vm_that_is_off_is_read_since_its_checkpoint_too(self, operator: Operator, web: Vm) -> None:
        lane = operator.lanes[web.host]
        running = operator.back_up("web")
        in_guest(lane, web, "head -c 1000000 /dev/urandom > /data/last; sync")
        power_off(lane, web.uuid)

        off = operator.back_up("web")
        make_it_run(operator, web)
        again = operator.back_up("web")

        assert reason(off) == f"what was written since web@{running.id[:8]}"
        assert read_from_disks(off) < read_from_disks(running)
        assert reason(again) == f"what was written since web@{running.id[:8]}"


def scribble_over(image: Path) -> None:
    """Change a file in a qcow2 image as a tool does that knows nothing of dirty bitmaps."""
    mapped = subprocess.run(
        ["qemu-img", "map", "--output=json", str(image)], check=True, capture_output=True, text=True
    ).stdout
    changed = 0
    with image.open("r+b") as file:
        for extent in json.loads(mapped):
            for at in range(extent.get("offset", 0), extent.get("offset", 0) + extent["length"] * extent["data"], 4096):
                file.seek(at)
                if file.read(4096) == b"x" * 4096:
                    file.seek(at)
                    file.write(b"behind the back")
                    changed += 1
    assert changed * 4096 > VICTIM_BYTES // 2

"""A verification killed (SIGKILL) before, after and in the middle of every call that changes the repository's disk.

Whatever the instant: nothing that was there is touched, the next verification finds nothing wrong and comes to its
end, and it does not read again what was written down before.
"""

from __future__ import annotations

from pathlib import Path

from engine.repository import Extent, Repository, VerifyLimits, VerifyRequest
from tests.faults.figures import Fault, count
from tests.faults.repository_scenario import Scenario, fast_folder
from tests.faults.test_repository_kill import in_a_child

FULL = VerifyRequest(Extent.FULL)
LIMITS = VerifyLimits(workers=1, batch_packs=4)


class Verifying(Scenario):
    """Verifies instead of making a recovery point."""

    def run(self) -> None:
        assert Repository.open(self.folder).verifier(FULL, limits=LIMITS).run().sound

    def objects(self) -> dict[str, bytes]:
        """Everything that was there before anybody verified."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in files
            if "verify" not in path.parts and not path.name.startswith(".new-")
        }


def test_a_verification_killed_at_any_change_of_the_disk_harms_nothing_and_is_gone_on_with():
    with fast_folder() as folder:
        scenario = Verifying(folder)
        scenario.begin()
        before = scenario.objects()
        packs = len([key for key in before if key.startswith("packs/")])
        calls = in_a_child(scenario, 0, "never")
        assert calls is not None
        assert len(calls) > 20
        killed = spared = 0
        for kill_at, name in enumerate(calls, 1):
            for when in ("before", "after", *(("in the middle",) if name == "writev" else ())):
                scenario.begin()
                if in_a_child(scenario, kill_at, when) is None:
                    killed += 1
                    spared += packs - _verify_after(scenario.folder)
                    assert scenario.objects() == before
                    count(Fault.KILL, "verification")

    assert killed > 40
    assert spared > killed


def _verify_after(folder: Path) -> int:
    """The next verification; how many packs it had to read."""
    found = Repository.open(folder).verifier(FULL, limits=LIMITS).run()
    assert found.findings == ()
    return found.packs_read

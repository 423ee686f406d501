"""What a fitness is made of: checks, each with its evidence and remedy, and a verdict."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class CheckState(StrEnum):
    """What came of a check."""

    PASS = "pass"  # noqa: S105  # no password
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"
    """It could not be made; the evidence says why."""


class Verdict(StrEnum):
    """Whether a VM can run on a host."""

    FITS = "fits"
    FITS_WITH_CHANGES = "fits with changes"
    """It can, slower or differently connected, or once something small on the host or in the choice is changed."""
    DOES_NOT_FIT = "does not fit"


WOULD_NOT_START = "it would be written and defined, and would not start"
"""What it means to go on with what a host finds out only at the start."""


class FitnessCheck(Struct, frozen=True):
    """One thing that a VM needs of a host."""

    name: str
    state: CheckState
    evidence: str
    """What is needed and what is there, with names and figures."""
    remedy: str = ""
    """What to do about it; empty for a check that passed."""
    changeable: bool = False
    """For a failure: another choice in the restore (pool, network) lifts it, so the host itself is not unfit."""
    meaning: str = ""
    """What it means to go on as things are; empty for a check that passed."""
    by_name: bool = False
    """For a warning: going on can hurt what is not restored at all (a VM that runs, a pool that others write to), or
    leave wrong data unseen. It is accepted by its key, never by a general yes."""

    @property
    def key(self) -> str:
        """Its name as it is written on a command line: `mac-addresses`."""
        return self.name.lower().replace(" ", "-")

    @property
    def flawed(self) -> bool:
        """Whether it speaks against the host or the restore."""
        return self.state in (CheckState.FAIL, CheckState.WARN)


class HostFitness(Struct, frozen=True):
    """Whether one VM can run on one host, and all that speaks for and against it."""

    host: str
    verdict: Verdict
    checks: tuple[FitnessCheck, ...]

    @property
    def reason(self) -> str:
        """The evidence of the worst check in one line; empty if all passed."""
        for state in (CheckState.FAIL, CheckState.WARN):
            hard_first = sorted(self.checks, key=lambda check: check.changeable)
            for check in hard_first:
                if check.state is state:
                    return check.evidence
        return ""

"""The words and shapes of every state that tables show."""

from __future__ import annotations

from engine.cli.table import State, bad, doubtful, good, idle, unknown, working
from engine.hosts.model import HostStatus, VmState
from engine.jobs import Job, JobState, StepState
from engine.repository import GuestCheckState
from engine.requirements import ExposureState

JOB = {
    JobState.QUEUED: idle("QUEUED"),
    JobState.RUN: working("RUN"),
    JobState.DONE: good("DONE"),
    JobState.WARN: doubtful("WARN"),
    JobState.FAIL: bad("FAIL"),
    JobState.CANCELLED: idle("CANCELLED"),
    JobState.LOST: bad("LOST"),
}

PAUSED = doubtful("PAUSED")
"""A job that somebody lets stand still."""

STEP = {
    StepState.WAIT: idle("WAIT"),
    StepState.RUN: working("RUN"),
    StepState.DONE: good("DONE"),
    StepState.FAIL: bad("FAIL"),
    StepState.SKIP: idle("SKIP"),
}

HOST = {
    HostStatus.ONLINE: good("OK"),
    HostStatus.STALE: doubtful("STALE"),
    HostStatus.OFFLINE: bad("OFFLINE"),
}

VM = {
    VmState.RUNNING: working("RUN"),
    VmState.PAUSED: doubtful("PAUSED"),
    VmState.OFF: idle("OFF"),
    VmState.CRASHED: bad("CRASHED"),
    VmState.OTHER: unknown("OTHER"),
}

CHECK = {
    "pass": good("PASS"),
    "ok": good("OK"),
    "warn": doubtful("WARN"),
    "fail": bad("FAIL"),
    "skip": idle("SKIP"),
    "unknown": unknown("UNKN"),
}

PROTECTION = {
    ExposureState.OK: good("OK"),
    ExposureState.LATE: doubtful("LATE"),
    ExposureState.NEVER: bad("NEVER"),
    ExposureState.UNPROTECTED: idle("NO LEVEL"),
    ExposureState.UNKNOWN: unknown("UNKN"),
    ExposureState.EXCLUDED: idle("EXCLUDED"),
    ExposureState.GONE: idle("GONE"),
}

STALE = unknown("STALE")
"""A VM whose host is silent now: what it did when it was last seen is no longer known."""

UNSEEN = unknown("UNSEEN")
"""A VM that only recovery points know."""


GUEST_CHECK = {
    GuestCheckState.PASSED: good("PASSED"),
    GuestCheckState.FAILED: bad("FAILED"),
    GuestCheckState.UNABLE: unknown("NOT RUN"),
}


def of_job(job: Job) -> State:
    """Where a job stands."""
    return PAUSED if job.paused else JOB[job.state]


def of_check(word: str) -> State:
    """The state of a check or finding; one that a newer engine invents is shown, not hidden."""
    return CHECK.get(word, unknown(word.upper()))

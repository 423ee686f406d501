"""Ask a guest that was booted for a proof what its level asks: a command, a port, a file; all through its agent.

A guest that has just booted is still starting its services. So a check that fails is tried again until its time is
over, and only then has failed. What could not be asked at all (an agent that may not run commands, a Windows guest that
is asked for a port) is neither a success nor a failure, and says so.

A port is looked for in the kernel's tables of sockets (proc(5), `/proc/net/tcp`), so that the guest needs no network.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime
from stat import S_ISREG

from msgspec import Struct

from engine.fleet import format_bytes
from engine.hosts import GuestDidNotAnswer, HostLane, agent, power
from engine.hosts.guest_shell import Kept, bounded
from engine.hosts.guest_system import GuestSystem, system_of
from engine.hosts.model import VmState
from engine.repository import GuestCheckResult, GuestCheckState
from engine.settings import CommandCheck, FileCheck, GuestCheck, PortCheck, format_duration

_PAUSE_FIRST_S = 0.5
_PAUSE_LONGEST_S = 5.0
_SHOWN_LINES = 5
_SHOWN_CHARACTERS = 400
_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_LISTENS = "0A"
_NOT_FOUND = 127
_FORBIDDEN = re.compile(r"guest-[\w-]+ has (not been found|been disabled)")


class Answer(Struct, frozen=True):
    """What one attempt came to."""

    state: GuestCheckState
    evidence: str
    final: bool = False
    """Whether the same question would get the same answer however often it was asked."""


def ask_guest(
    lane: HostLane, uuid: str, check: GuestCheck, moment: datetime, going_on: Callable[[], None]
) -> GuestCheckResult:
    """Run one check in the guest; `moment` is the recovery point's, and `going_on` raises if it is to stop.

    Raises what `going_on` raises, HostUnreachable, and MissingOnHost for a VM that is not there.
    """
    began = time.monotonic()
    deadline = began + check.time_limit_s
    pause_s = _PAUSE_FIRST_S
    while True:
        going_on()
        answer = _attempt(lane, uuid, check, moment, max(1.0, deadline - time.monotonic()))
        left_s = deadline - time.monotonic()
        if answer.state is GuestCheckState.PASSED or left_s <= 0 or answer.final:
            break
        time.sleep(min(pause_s, left_s))
        pause_s = min(2 * pause_s, _PAUSE_LONGEST_S)
    if answer.state is GuestCheckState.UNABLE and power.vm_state(lane, uuid) is not VmState.RUNNING:
        answer = Answer(GuestCheckState.FAILED, "the guest does not run any more")
    return GuestCheckResult(check.name, check.what, answer.state, answer.evidence, round(time.monotonic() - began, 1))


def never_asked(check: GuestCheck, why: str) -> GuestCheckResult:
    """The result of a check that nobody could put to the guest."""
    return GuestCheckResult(check.name, check.what, GuestCheckState.UNABLE, why, 0.0)


def listening_ports(tables: str) -> frozenset[int]:
    """TCP ports on which something listens, from the lines of `/proc/net/tcp` and `/proc/net/tcp6` (proc(5))."""
    rows = (line.split() for line in tables.splitlines())
    return frozenset(int(row[1].rpartition(":")[2], 16) for row in rows if len(row) > 3 and row[3] == _LISTENS)


def judge_file(told: str, check: FileCheck, moment: datetime) -> Answer:
    """Whether a file is as its check asks; `told` is its mode (hex), size and time: `stat -c "%f %s %Y"`."""
    words = told.split()
    if len(words) != 3:
        return Answer(GuestCheckState.UNABLE, f"stat answered {told.strip()!r}")
    mode, size_bytes, changed = int(words[0], 16), int(words[1]), float(words[2])
    age_s = moment.timestamp() - changed
    written = datetime.fromtimestamp(changed, moment.tzinfo)
    when = f"written {written:%Y-%m-%d %H:%M:%S} UTC"
    when += f", {format_duration(age_s)} before the point" if age_s >= 0 else ", since it was booted"
    seen = f"{format_bytes(size_bytes)}, {when}"
    if check.min_size_bytes is not None and not S_ISREG(mode):
        return Answer(GuestCheckState.FAILED, f"it is no regular file ({when})")
    if check.min_size_bytes is not None and size_bytes < check.min_size_bytes:
        return Answer(GuestCheckState.FAILED, f"it is smaller than {format_bytes(check.min_size_bytes)}: {seen}")
    if check.max_age_s is not None and age_s > check.max_age_s:
        return Answer(GuestCheckState.FAILED, f"it is older than {format_duration(check.max_age_s)}: {seen}")
    return Answer(GuestCheckState.PASSED, seen)


def first_lines(output: bytes) -> str:
    """What a command wrote, as a sentence has it: its first lines in one."""
    lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
    text = "; ".join(lines[:_SHOWN_LINES])
    plain = "".join(character if character.isprintable() else "?" for character in text)
    return plain if len(plain) <= _SHOWN_CHARACTERS else f"{plain[:_SHOWN_CHARACTERS]}..."


def _attempt(lane: HostLane, uuid: str, check: GuestCheck, moment: datetime, timeout_s: float) -> Answer:
    began = time.monotonic()
    try:
        system = system_of(lane, uuid)
        match check:
            case CommandCheck():
                return _command(lane, uuid, system, check, timeout_s)
            case PortCheck() | FileCheck() if system is GuestSystem.WINDOWS:
                return Answer(GuestCheckState.UNABLE, "the guest runs Windows: write the check as a command", True)
            case PortCheck():
                return _port(lane, uuid, check)
            case FileCheck():
                return _file(lane, uuid, check, moment, timeout_s)
    except GuestDidNotAnswer as silence:
        if time.monotonic() - began >= timeout_s:
            return Answer(GuestCheckState.FAILED, f"it did not end within {format_duration(check.time_limit_s)}")
        return Answer(GuestCheckState.UNABLE, silence.what)
    except agent.AgentRefused as refusal:
        forbidden = _FORBIDDEN.search(refusal.reason) is not None
        state = GuestCheckState.UNABLE if forbidden else GuestCheckState.FAILED
        return Answer(state, f"the agent refused it: {refusal.reason}", forbidden)


def _command(lane: HostLane, uuid: str, system: GuestSystem, check: CommandCheck, timeout_s: float) -> Answer:
    if system is GuestSystem.WINDOWS:
        argv = list(check.words) or ["cmd.exe", "/c", check.line]
    else:
        argv = bounded(check.words or ["sh", "-c", check.line], Kept.START)
    result = agent.run(lane, uuid, argv, timeout_s=timeout_s)
    said = first_lines(result.stdout + result.stderr)
    if not result.exit_code:
        return Answer(GuestCheckState.PASSED, said or "exit status 0")
    return Answer(GuestCheckState.FAILED, f"exit status {result.exit_code}{f': {said}' if said else ''}")


def _port(lane: HostLane, uuid: str, check: PortCheck) -> Answer:
    found: set[int] = set()
    refusals: list[agent.AgentRefused] = []
    for table in _TABLES:
        try:
            found |= listening_ports(agent.read_file(lane, uuid, table).decode(errors="replace"))
        except agent.AgentRefused as refusal:
            # A kernel without IPv6 has no second table.
            refusals.append(refusal)
    if len(refusals) == len(_TABLES):
        raise refusals[0]
    if check.port in found:
        return Answer(GuestCheckState.PASSED, f"port {check.port} is listened on")
    others = ", ".join(str(port) for port in sorted(found)[:12]) or "none"
    return Answer(GuestCheckState.FAILED, f"nothing listens on port {check.port}; listened on: {others}")


def _file(lane: HostLane, uuid: str, check: FileCheck, moment: datetime, timeout_s: float) -> Answer:
    argv = bounded(["stat", "-L", "-c", "%f %s %Y", "--", check.path], Kept.START)
    result = agent.run(lane, uuid, argv, timeout_s=timeout_s)
    if result.exit_code == _NOT_FOUND:
        return Answer(GuestCheckState.UNABLE, "the guest has no program `stat`")
    if result.exit_code:
        return Answer(GuestCheckState.FAILED, first_lines(result.stdout + result.stderr))
    return judge_file(result.stdout.decode(errors="replace"), check, moment)

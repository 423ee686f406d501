"""Commands that the settings ask for before and after a guest's files are read: a dump, a flush, its clearing away."""

from __future__ import annotations

import time
from collections.abc import Sequence

from engine.errors import ExitCode, NewhopeError
from engine.hosts import GuestDidNotAnswer, HostLane, agent
from engine.hosts.guest_shell import KEPT_OUTPUT_BYTES, Kept, bounded
from engine.hosts.guest_system import GuestSystem
from engine.hosts.model import Vm
from engine.jobs import JobContext
from engine.repository import GuestCommand


class GuestCommandFailed(NewhopeError):
    """A command in the guest did not succeed."""

    exit_code = ExitCode.GUEST


def run_before(
    lane: HostLane, vm: Vm, system: GuestSystem, commands: Sequence[str], time_limit_s: float, context: JobContext
) -> tuple[GuestCommand, ...]:
    """Run the commands in their order. Raises GuestCommandFailed at the first that fails, and what the agent raises."""
    done: list[GuestCommand] = []
    for command in commands:
        context.raise_if_cancelled()
        result = _run(lane, vm, system, command, time_limit_s)
        done.append(result)
        if result.exit_code:
            raise GuestCommandFailed(
                f"`{command}` failed in {vm.name} with exit status {result.exit_code}: {_end_of(result.output)}",
                untouched="No file was read, and every earlier recovery point is as it was.",
                next_step="Run it in the guest, as root, and see what it needs; it is a `before` of the settings.",
            )
        context.log(f"`{command}` was run in {vm.name}, {result.seconds:.1f} s")
    return tuple(done)


def run_after(
    lane: HostLane, vm: Vm, system: GuestSystem, commands: Sequence[str], time_limit_s: float, context: JobContext
) -> tuple[GuestCommand, ...]:
    """Run all the commands, whatever came before; one that fails is logged. Raises nothing of the guest's."""
    done: list[GuestCommand] = []
    for command in commands:
        try:
            result = _run(lane, vm, system, command, time_limit_s)
        except NewhopeError as error:
            result = GuestCommand(command, 255, 0.0, error.what)
        done.append(result)
        if result.exit_code:
            context.log(f"`{command}` failed in {vm.name} afterwards: {_end_of(result.output)}", level="warn")
    return tuple(done)


def _run(lane: HostLane, vm: Vm, system: GuestSystem, command: str, time_limit_s: float) -> GuestCommand:
    unix = system is GuestSystem.UNIX
    argv = bounded(["sh", "-c", command], Kept.END) if unix else ["cmd.exe", "/c", command]
    began = time.monotonic()
    try:
        result = agent.run(lane, vm.uuid, argv, timeout_s=time_limit_s)
    except GuestDidNotAnswer as silence:
        if time.monotonic() - began < time_limit_s:
            raise
        raise GuestCommandFailed(
            f"`{command}` did not end within {time_limit_s:.0f} s in {vm.name}.",
            untouched=silence.untouched,
            next_step="Look in the guest what it waits for, or give it more: time_limit in the settings.",
        ) from None
    output = (result.stdout + result.stderr)[-KEPT_OUTPUT_BYTES:].decode(errors="replace") if result.exit_code else ""
    return GuestCommand(command, result.exit_code, round(time.monotonic() - began, 2), output)


def _end_of(output: str) -> str:
    """The last lines of an output, in one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return "; ".join(lines[-3:])[-400:].rstrip(".") + "." if lines else "it wrote nothing."

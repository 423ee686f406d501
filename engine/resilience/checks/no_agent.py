"""A VM whose guest cannot be asked: its file systems are not frozen for a backup, and a restore cannot be proved."""

from __future__ import annotations

from collections.abc import Iterator

from engine.hosts.model import AgentState, VmState
from engine.resilience.finding import Finding, Severity
from engine.resilience.scene import Scene, SceneVm
from engine.resilience.wording import command

CHECK = "no-agent"
_WHY = "Its backups are as after a power cut, and a restore of it cannot be asked whether it is well."


def check(scene: Scene) -> Iterator[Finding]:
    """One finding for each VM on a host that answers and of which it can be told.

    A guest that is off or paused cannot answer by nature, so it is judged only by whether it has the channel.
    """
    for vm in scene.vms:
        if vm.seen is None or not vm.answers:
            continue
        if vm.seen.agent is AgentState.ABSENT:
            yield _absent(vm)
        elif vm.seen.agent is AgentState.CONNECTED:
            yield Finding(CHECK, Severity.OK, vm.label, f"The agent of {vm.label} is connected.", vms=(vm.uuid,))
        elif vm.seen.state is VmState.RUNNING:
            yield Finding(
                check=CHECK,
                severity=Severity.WARN,
                subject=vm.label,
                what=f"{vm.label} has a channel for the guest agent, and no agent answers in the guest.",
                why=_WHY,
                evidence=(f"{vm.label} is running on {vm.host}; its channel org.qemu.guest_agent.0 is disconnected",),
                fix=_install(vm),
                vms=(vm.uuid,),
            )


def _absent(vm: SceneVm) -> Finding:
    uri = vm.snapshot.uri if vm.snapshot else ""
    channel = "type=unix,target.type=virtio,target.name=org.qemu.guest_agent.0"
    add = command("virt-xml", "-c", uri, vm.name, "--add-device", "--channel", channel)
    restart = "then shut it down and start it again, so that the channel appears"
    running = vm.seen is not None and vm.seen.state is not VmState.OFF
    return Finding(
        check=CHECK,
        severity=Severity.WARN,
        subject=vm.label,
        what=f"{vm.label} has no channel for a guest agent.",
        why=_WHY,
        evidence=(f"the definition of {vm.label} on {vm.host} has no channel org.qemu.guest_agent.0",),
        fix=(add, *((restart,) if running else ()), *_install(vm)),
        vms=(vm.uuid,),
    )


def _install(vm: SceneVm) -> tuple[str, ...]:
    return (
        f"in the guest {vm.label}: `apt install qemu-guest-agent` (Debian, Ubuntu) or "
        "`dnf install qemu-guest-agent` (Fedora); on Windows the virtio-win guest tools",
        "then in the guest: `systemctl enable --now qemu-guest-agent`",
    )

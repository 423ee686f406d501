"""What a host that answers does not give us, and what that costs. Pure."""

from __future__ import annotations

from msgspec import Struct

from engine.hosts.model import HostFacts, Way

_WITHOUT_FILES = {
    Way.SSH_WITHOUT_SHELL: "its SSH login has no shell",
    Way.TLS: "it is reached over TLS, which brings no files",
}
_SSH = "Reach it with qemu+ssh://USER@HOST and a login that has a shell; see the README, Hosts over the network."


class Lack(Struct, frozen=True):
    """One thing that is missing."""

    what: str
    next_step: str


def lacks(host: str, facts: HostFacts) -> tuple[Lack, ...]:
    """What is missing on a host for everything that newhope could do there."""
    if not facts.way.has_disks:
        what = "its uri brings libvirt's words and nothing else: its VMs cannot be backed up"
        return (Lack(what, _SSH),)
    if not facts.way.has_files:
        cost = "VMs that are off cannot be backed up, and restored disks become raw volumes"
        return (Lack(f"{_WITHOUT_FILES[facts.way]}: {cost}", _SSH),)
    if not facts.missing_programs:
        return ()
    programs = " and ".join(facts.missing_programs)
    verb = "is" if len(facts.missing_programs) == 1 else "are"
    return (
        Lack(
            f"{programs} {verb} not installed there: VMs that are off cannot be backed up",
            f"Install qemu-utils (Debian, Ubuntu) or qemu-img (Fedora) on {host}.",
        ),
    )

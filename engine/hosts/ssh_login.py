"""How a host's URI and settings are said to `ssh`. Pure.

The operator's own configuration, keys, agent and jump hosts are simply used: host aliases, `ProxyJump`, `IdentityFile`,
`Port` and everything else of ssh_config(5). The URI's parameters are those that libvirt users know
(https://libvirt.org/uri.html#transport-configuration); `ssh_config` of the host's settings names another
configuration.

Not honoured, because nothing needs them here: `netcat` and `proxy` (no program of the host carries libvirt's bytes: the
socket itself is forwarded), `no_tty` (a password is never asked for), `sshauth` (of libssh alone).
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from msgspec import Struct

from engine.settings.model import Host

CONNECT_TIMEOUT_S = 15
ALIVE_INTERVAL_S = 5
ALIVE_COUNT = 3

_ALWAYS = (
    # A job has nobody to ask.
    "BatchMode=yes",
    f"ConnectTimeout={CONNECT_TIMEOUT_S}",
    # A network that swallows everything is noticed in a quarter of a minute.
    f"ServerAliveInterval={ALIVE_INTERVAL_S}",
    f"ServerAliveCountMax={ALIVE_COUNT}",
    # What the operator's configuration says for logging in is not for us: other forwards, commands, terminals.
    "ClearAllForwardings=yes",
    "ControlPersist=no",
    "RemoteCommand=none",
    "RequestTTY=no",
    "PermitLocalCommand=no",
    "ForwardAgent=no",
    "ForwardX11=no",
    # Sockets are for this user alone; one that a dead process left does not stand in the way.
    "StreamLocalBindMask=0177",
    "StreamLocalBindUnlink=yes",
    # Why a forward is refused is told at this level, and only there.
    "LogLevel=INFO",
)


class SshLogin(Struct, frozen=True):
    """A login on a host, and which libvirt daemon is asked for there."""

    program: str
    destination: str
    options: tuple[str, ...]
    """Everything between the program and the destination that does not depend on what the connection is for."""
    session: bool
    """Whether the daemon is the login's own (`/session`) rather than the system's."""
    sockets: tuple[str, ...]
    """Names that the daemon's socket may have, the best first: absolute, or below libvirt's runtime folder."""


def ssh_login(host: Host) -> SshLogin:
    """What the host's URI (`qemu+ssh://user@machine:port/system?keyfile=...`) and settings say."""
    parts = urlsplit(host.uri)
    given = dict(parse_qsl(parts.query))
    options: list[str] = []
    if host.ssh_config is not None:
        options += ["-F", str(host.ssh_config)]
    if parts.username:
        options += ["-l", unquote(parts.username)]
    if parts.port is not None:
        options += ["-p", str(parts.port)]
    if "keyfile" in given:
        options += ["-i", given["keyfile"]]
    if given.get("no_verify", "0") != "0" or given.get("known_hosts_verify") == "ignore":
        options += ["-o", "StrictHostKeyChecking=no"]
    if "known_hosts" in given:
        options += ["-o", f"UserKnownHostsFile={_quoted(given['known_hosts'])}"]
    for option in _ALWAYS:
        options += ["-o", option]
    return SshLogin(
        program=given.get("command", "ssh"),
        destination=_machine(parts),
        options=tuple(options),
        session=parts.path.rstrip("/") == "/session",
        sockets=_sockets(given),
    )


def forward_argument(listening: Path, answering: Path) -> str:
    """What `ssh -L` and `-R` want for two sockets, whatever their names hold."""
    return ":".join(str(path).replace("\\", "\\\\").replace(":", "\\:") for path in (listening, answering))


def _machine(parts: SplitResult) -> str:
    # As it was written: an alias of ssh_config is a pattern to be matched, and `hostname` would be in small letters.
    machine = parts.netloc.rpartition("@")[2]
    if machine.startswith("["):
        return machine[1:].partition("]")[0]
    return unquote(machine.partition(":")[0])


def _sockets(given: dict[str, str]) -> tuple[str, ...]:
    if "socket" in given:
        return (given["socket"],)
    by_mode = {"legacy": ("libvirt-sock",), "direct": ("virtqemud-sock",)}
    return by_mode.get(given.get("mode", "auto"), ("virtqemud-sock", "libvirt-sock"))


def _quoted(path: str) -> str:
    return f'"{path}"' if " " in path else path

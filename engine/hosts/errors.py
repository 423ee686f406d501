"""How hosts fail: not answering (`HostUnreachable`), saying no (`HostRefused`), or a guest that does not follow.

libvirt's numbers are from `libvirt/virterror.h`. Number 1 (internal error) and 38 (system error) stand for many things,
so their text is read too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from engine.errors import Conflict, ExitCode, NewhopeError, NoSpace, NotFound

if TYPE_CHECKING:
    import libvirt

NO_SUPPORT = 3
NO_DOMAIN = 42
NO_NETWORK = 43
NO_STORAGE_POOL = 49
NO_STORAGE_VOLUME = 50
NO_NODE_DEVICE = 53
OPERATION_INVALID = 55
NO_INTERFACE = 57
NO_SECRET = 66
CONFIG_UNSUPPORTED = 67
OPERATION_TIMEOUT = 68
AGENT_UNRESPONSIVE = 86
STORAGE_VOLUME_EXISTS = 90
NO_DOMAIN_CHECKPOINT = 103
CHECKPOINT_INCONSISTENT = 109

_MISSING = frozenset(
    {
        NO_DOMAIN,
        NO_NETWORK,
        NO_STORAGE_POOL,
        NO_STORAGE_VOLUME,
        NO_NODE_DEVICE,
        NO_INTERFACE,
        NO_SECRET,
        NO_DOMAIN_CHECKPOINT,
    }
)


class HostUnreachable(NewhopeError):
    """A host does not answer. `reason` is the part of the sentence after its name, for a table's cell."""

    exit_code = ExitCode.HOST_UNREACHABLE

    def __init__(self, host: str, reason: str, *, next_step: str, untouched: str = "Nothing was changed.") -> None:
        super().__init__(f"Host {host} does not answer: {reason}.", next_step=next_step, untouched=untouched)
        self.host = host
        self.reason = reason


class HostRefused(NewhopeError):
    """A host answered, and said no. `code` and `text` are libvirt's own."""

    def __init__(self, host: str, code: int, text: str, *, next_step: str = "") -> None:
        super().__init__(
            f"Host {host} refused: {text.rstrip('.')}.",
            next_step=next_step or f"Look at the log of the libvirt daemon on {host}.",
            untouched="What was asked for did not happen.",
        )
        self.host = host
        self.code = code
        self.text = text


class MissingOnHost(HostRefused, NotFound):
    """A VM, pool, volume, network or checkpoint that was named is not on the host (any more)."""

    exit_code = ExitCode.NOT_FOUND


class ExistsOnHost(HostRefused, Conflict):
    """The host already has a VM or volume of that name or UUID."""

    exit_code = ExitCode.CONFLICT


class HostBusy(HostRefused, Conflict):
    """Something else is at work on the VM, and the host did not want to wait longer for it."""

    exit_code = ExitCode.CONFLICT


class PoolBusy(HostBusy):
    """A storage pool is at work for somebody else, and cannot be looked into meanwhile."""


class HostFull(HostRefused, NoSpace):
    """A pool or file system of the host is too full."""

    exit_code = ExitCode.NO_SPACE


class GuestDidNotShutDown(NewhopeError):
    """A VM was asked to shut down and still runs after the time it was given."""

    exit_code = ExitCode.GUEST


class GuestDidNotAnswer(NewhopeError):
    """The guest agent of a VM did not answer in time."""

    exit_code = ExitCode.GUEST


def refusal(host: str, error: libvirt.libvirtError) -> HostRefused:
    """What a host's libvirt error means, as the error class that callers can tell apart."""
    code = int(error.get_error_code() or 1)
    text = " ".join(str(error).split())
    if code in _MISSING:
        return MissingOnHost(host, code, text, next_step=f"See what is there: newhope vms --host {host}")
    if code == STORAGE_VOLUME_EXISTS or re.search(r"already (exists|defined|in use)", text):
        return ExistsOnHost(host, code, text, next_step="Choose another name.")
    if code == OPERATION_TIMEOUT:
        return HostBusy(host, code, text, next_step="Wait for the other operation to end, then try again.")
    if "asynchronous jobs running" in text:
        return PoolBusy(host, code, text, next_step="Wait until the volume is made that is being made there.")
    if "No space left" in text or "not enough" in text.lower():
        return HostFull(host, code, text, next_step="Free space on the host, or choose another pool.")
    return HostRefused(host, code, text)


class _Cause(NamedTuple):
    """One way a connection fails: what libvirt's text looks like, and the same for people."""

    pattern: str
    reason: str
    next_step: str


_SEE_URI = "Correct the host's uri in newhope.toml (see https://libvirt.org/uri.html)."

# The first that matches wins; \1 and the host's name are filled in. ssh's sentences come before the socket's, because
# libvirt quotes ssh and then adds "Connection reset by peer" of the pipe.
_CAUSES = (
    _Cause(
        r"Host key verification failed",
        "its SSH host key is not known or has changed",
        "Log in once with ssh to check and accept the key, then try again.",
    ),
    _Cause(
        r"open failed: connect failed: ([^\n]+?) stdio forwarding failed",
        "its jump host cannot reach it: {1}",
        "Check from the jump host that the machine is up and its SSH server runs: ssh JUMPHOST, then ssh to it.",
    ),
    _Cause(
        r"Permission denied \(([^)]*)\)",
        "SSH did not let us in",
        "Give the host this user's public key (ssh-copy-id), or load the key into ssh-agent: no password is asked for.",
    ),
    _Cause(
        r"(?:resolve hostname|resolve address|lookup for host) '?([^\s':]+)",
        "the name {1} is not known to any name server",
        "Check the spelling of the uri in newhope.toml, and the name servers of this machine.",
    ),
    _Cause(
        r"socket to '([^']+)': No such file",
        "there is no socket {1}, so no libvirt daemon runs there",
        "Start the daemon (systemctl start libvirtd; newhope lab heal {host} for a practice host), or correct the uri.",
    ),
    _Cause(
        r"socket to '([^']+)': Permission denied",
        "this user may not use the socket {1}",
        "Add this user to the group libvirt (usermod -aG libvirt USER) and log in again.",
    ),
    _Cause(
        r"socket to '([^']+)': Connection refused",
        "nobody listens on the socket {1}: its daemon has died",
        "Start the daemon (systemctl start libvirtd, or newhope lab heal {host} for a practice host).",
    ),
    _Cause(
        r"(?:server at|connect to host) '?([^\s']+(?: port \d+)?)'?: Connection refused",
        "{1} refuses connections",
        "Check that the machine's SSH server or libvirt daemon runs and listens there.",
    ),
    _Cause(
        r"No route to host|Network is unreachable|Connection timed out|Operation timed out",
        "the network gives no way to it",
        "Check that the machine is up and that the network between here and there works.",
    ),
    _Cause(
        r"authentication failed|no auth callbacks|authentication (?:cancelled|unavailable)|polkit",
        "it wants a login that newhope does not have",
        "Use SSH (qemu+ssh://user@host/system), or add this user to the group libvirt on that host.",
    ),
    _Cause(
        r"CA certificate '([^']+)'",
        "TLS is not set up here: {1} is missing",
        "Install the TLS certificates, or use SSH (qemu+ssh://user@host/system).",
    ),
    _Cause(r"transport in URL not recogni[sz]ed", "its uri names a transport that libvirt does not know", _SEE_URI),
    _Cause(r"no connection driver available", "its uri is not a libvirt uri", _SEE_URI),
    _Cause(r"unexpected QEMU URI path '([^']+)'", "its uri must end in /system or /session, not {1}", _SEE_URI),
    _Cause(
        r"nc: not found|netcat",
        "the host lacks the program nc, which libvirt's SSH transport needs",
        "Install netcat-openbsd on the host.",
    ),
    _Cause(
        r"keepalive timeout",
        "it stopped answering in the middle",
        "Check that the machine is up and its libvirt daemon is not stopped.",
    ),
    _Cause(
        r"End of file|Connection reset|Broken pipe|client socket is closed|connection closed",
        "the connection broke",
        "Check that the machine is up and its libvirt daemon runs, then try again.",
    ),
)


def unreachable(host: str, text: str) -> HostUnreachable:
    """Why a connection could not be opened, from libvirt's text, in words with a next step."""
    text = " ".join(text.split())
    for cause in _CAUSES:
        found = re.search(cause.pattern, text)
        if found:
            named = found.group(1) if found.groups() else ""
            return HostUnreachable(
                host,
                cause.reason.replace("{1}", named),
                next_step=cause.next_step.replace("{host}", host),
            )
    return HostUnreachable(host, text.rstrip("."), next_step=_SEE_URI)

"""What a libvirt connection URI says, before anything is asked (https://libvirt.org/uri.html)."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

from engine.hosts.errors import HostUnreachable

_DRIVERS = ("qemu", "test")
_TRANSPORTS = ("", "unix", "ssh", "libssh", "libssh2", "tls", "tcp", "ext")
_EXAMPLES = "qemu:///system, qemu+ssh://root@host/system or qemu+unix:///session?socket=/path"


def check(host: str, uri: str) -> None:
    """Refuse what libvirt would misread: an unknown driver makes it try a local daemon and complain about that.

    Raises HostUnreachable.
    """
    scheme = urlsplit(uri).scheme
    driver, _, transport = scheme.partition("+")
    if driver not in _DRIVERS:
        named = f"names the driver {driver}, which newhope cannot use" if driver else "is not a libvirt uri"
        raise _wrong(host, f"its uri {uri!r} {named}")
    if transport not in _TRANSPORTS:
        raise _wrong(host, f"its uri {uri!r} names the transport {transport}, which libvirt does not know")
    if driver == "qemu" and urlsplit(uri).path not in ("/system", "/session", "/embed"):
        raise _wrong(host, f"its uri {uri!r} must end in /system or /session")


def _wrong(host: str, reason: str) -> HostUnreachable:
    return HostUnreachable(host, reason, next_step=f"Correct the host's uri in newhope.toml, for example {_EXAMPLES}.")


def to_open(uri: str) -> str:
    """The URI to hand to libvirt: SSH must never ask for a password on the operator's terminal."""
    parts = urlsplit(uri)
    if not parts.scheme.endswith("+ssh"):
        return uri
    if any(key == "no_tty" for key, _ in parse_qsl(parts.query)):
        return uri
    return uri + ("&" if parts.query else "?") + "no_tty=1"


def is_local(uri: str) -> bool:
    """Whether the host's files are this machine's files: no transport that leaves the machine."""
    parts = urlsplit(uri)
    transport = parts.scheme.partition("+")[2]
    return transport in ("", "unix") and not parts.netloc

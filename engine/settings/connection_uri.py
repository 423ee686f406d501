"""What is wrong with a libvirt connection URI, before anything connects.

libvirt itself accepts much of this and fails late or, worse, connects elsewhere: `qemu://system` looks for a machine
called system, and a misspelt `socket=` is ignored, which ends at the default daemon of the wrong user.
Facts from libvirt.org/uri.html.
"""

from __future__ import annotations

from urllib.parse import SplitResult, parse_qsl, urlsplit

from engine.settings.nearest import in_words, nearest

DRIVERS = ("qemu", "test")
TRANSPORTS = ("unix", "ssh", "libssh", "libssh2", "tls", "tcp", "ext")
_OVER_SSH = ("ssh", "libssh", "libssh2")
_PARAMETERS = (
    "name", "mode", "proxy", "command", "socket", "netcat", "keyfile", "no_verify", "no_sanity", "no_tty", "pkipath",
    "known_hosts", "known_hosts_verify", "sshauth", "tls_priority", "auth",
)  # fmt: skip
_EXAMPLES = 'Write for example "qemu:///system" for this machine or "qemu+ssh://root@HOST/system" for another.'


def flaws(uri: str) -> tuple[tuple[str, str], ...]:
    """Return what is wrong and how to mend it, for each flaw of the URI; nothing for a URI worth trying."""
    if any(character.isspace() or ord(character) < 32 for character in uri):
        return (("The URI holds a space or a control character.", "Remove it; a space in a path is written %20."),)
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        return (("The URI cannot be taken apart: its host or port is garbled.", _EXAMPLES),)
    driver, _, transport = parts.scheme.partition("+")
    if not parts.scheme or ":" not in uri:
        return ((f'"{uri}" is not a libvirt URI.', _EXAMPLES),)
    if driver not in DRIVERS:
        alike = nearest(driver, DRIVERS)
        fix = f'Did you mean "{alike[0]}"?' if alike else _EXAMPLES
        return ((f'newhope does not work with "{driver}" hosts; it works with QEMU.', fix),)
    if driver == "test":
        return ()
    return (*_transport_flaws(parts, transport), *_path_flaws(parts), *_parameter_flaws(parts))


def same_place(uri: str) -> str:
    """Return a form of the URI in which two spellings of one place are equal."""
    parts = urlsplit(uri)
    query = sorted(parse_qsl(parts.query))
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}?{query}"


def _transport_flaws(parts: SplitResult, transport: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    remote = transport in (*_OVER_SSH, "tls", "tcp")
    if transport and transport not in TRANSPORTS:
        alike = nearest(transport, TRANSPORTS)
        known = in_words((f"qemu+{name}" for name in TRANSPORTS), last="or")
        fix = f'Did you mean "qemu+{alike[0]}"?' if alike else f'Write "qemu", {known}.'
        found.append((f'libvirt has no transport "{transport}".', fix))
    if "+" in parts.scheme and not transport:
        found.append(('The transport after "qemu+" is missing.', _EXAMPLES))
    if parts.password is not None:
        fix = "Remove it and the colon before it; libvirt does not read it there. Use an SSH key."
        found.append(("The URI holds a password.", fix))
    if remote and not parts.hostname:
        found.append((f'"{parts.scheme}" needs the name of a machine.', f'Write "{parts.scheme}://root@HOST/system".'))
    if transport == "unix" and parts.hostname:
        found.append(
            (
                f'"{parts.scheme}" stays on this machine, but names "{parts.hostname}".',
                f'Write three slashes, "{parts.scheme}:///system", or "qemu+ssh://{parts.hostname}/system".',
            )
        )
    return found


def _path_flaws(parts: SplitResult) -> list[tuple[str, str]]:
    if parts.path.rstrip("/") in ("/system", "/session"):
        return []
    if parts.hostname in ("system", "session") and not parts.path.strip("/"):
        fix = f'Write three slashes: "{parts.scheme}:///{parts.hostname}".'
        return [(f'Here "{parts.hostname}" is the name of a machine.', fix)]
    if not parts.path.strip("/"):
        fix = 'End it with /system (the daemon that runs as root) or /session (that of one user), before any "?".'
        return [("The URI does not say which daemon.", fix)]
    alike = nearest(parts.path.strip("/"), ("system", "session"))
    fix = f'Did you mean "/{alike[0]}"?' if alike else 'It can be "/system" or "/session".'
    return [(f'QEMU hosts have no daemon "{parts.path}".', fix)]


def _parameter_flaws(parts: SplitResult) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in _PARAMETERS:
            alike = nearest(name, _PARAMETERS)
            fix = f'Did you mean "{alike[0]}="?' if alike else "Remove it."
            found.append((f'libvirt knows no parameter "{name}" in a URI and would ignore it.', fix))
        elif name == "socket" and not value.startswith("/"):
            what = (
                "The path after socket= is missing." if not value else f'The socket "{value}" is not an absolute path.'
            )
            found.append((what, 'Write "?socket=/folder/libvirt-sock".'))
    return found

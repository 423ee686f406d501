"""The way to a host whose libvirt daemon is spoken to over TLS (`qemu+tls://`): its libvirt, and its NBD servers.

There are no files and no programs: what needs them goes through libvirt, or cannot be done. The NBD server of a backup
job listens on a port of the host, and TLS is required of it: libvirt's `tls='yes'` alone would let QEMU go on in clear
text where a client does not ask (trap 22 of libvirt's backup API), so we never ask for less.

1. The address is the one at which libvirt's daemon answers from here: the host's own idea of its name may be another.
2. The port is one of `PORTS`, which a firewall must let through; whether it is free shows when the job begins.
3. The certificates are those of libvirt's client, found where libvirt finds them. The server's must be for the URI's
   name; `no_verify` is not heeded here.
"""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from engine.hosts.backup_xml import TlsListener
from engine.hosts.errors import unreachable
from engine.hosts.model import Way
from engine.hosts.reach import LentServer, LibvirtAlone
from engine.nbd import Certificates, TlsAddress
from engine.settings.model import Host

PORTS = range(10900, 11000)
"""Of QEMU's default port for NBD (10809) and libvirt's own for disk copies (49152 on), neither."""

_DAEMON_PORT = 16514
_CONNECT_TIMEOUT_S = 10.0
_SYSTEM = Certificates(
    Path("/etc/pki/CA/cacert.pem"),
    Path("/etc/pki/libvirt/clientcert.pem"),
    Path("/etc/pki/libvirt/private/clientkey.pem"),
)


class TlsReach(LibvirtAlone):
    """See `reach.Reach`."""

    def __init__(self, host: Host) -> None:
        super().__init__(host, "it is reached over TLS, which brings libvirt and disks, but no files")

    def way(self) -> Way:
        """See Reach."""
        return Way.TLS

    def lend(self, listening: Path) -> LentServer:
        """See Reach. Every call names another port."""
        parts = urlsplit(self._host.uri)
        name, port = parts.hostname or "", secrets.choice(PORTS)
        try:
            with socket.create_connection((name, parts.port or _DAEMON_PORT), _CONNECT_TIMEOUT_S) as daemon:
                address = str(daemon.getpeername()[0])
        except OSError as error:
            raise unreachable(self._host.name, f"server at '{name}': {error.strerror or error}") from None
        return LentServer(TlsListener(address, port), TlsAddress(address, port, name, certificates(self._host.uri)))


def certificates(uri: str) -> Certificates:
    """Where libvirt's client keeps its certificates: https://libvirt.org/kbase/tlscerts.html, `pkipath` of its URIs."""
    given = parse_qs(urlsplit(uri).query).get("pkipath")
    own = Path(given[0]) if given else Path.home() / ".pki" / "libvirt"
    in_folder = Certificates(own / "cacert.pem", own / "clientcert.pem", own / "clientkey.pem")
    if given or (os.geteuid() != 0 and in_folder.certificate.exists()):
        return in_folder
    return _SYSTEM

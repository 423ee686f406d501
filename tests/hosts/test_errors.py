from __future__ import annotations

import libvirt
import pytest

from engine.errors import Conflict, NoSpace, NotFound
from engine.hosts import ExistsOnHost, HostBusy, HostFull, HostRefused, MissingOnHost
from engine.hosts.errors import refusal, unreachable
from engine.hosts.uri import is_local


class Said(libvirt.libvirtError):
    """What libvirt raises, with a number and words as they were seen."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.err = (code, 10, text, 2, None, None, None, -1, -1)

    def __str__(self) -> str:
        return str(self.err[2])


@pytest.mark.parametrize(
    ("code", "text", "kind", "also"),
    [
        (42, "Domain not found: no domain with matching name 'web'", MissingOnHost, NotFound),
        (49, "Storage pool not found: no storage pool with matching name 'x'", MissingOnHost, NotFound),
        (103, "Domain checkpoint not found: Checkpoint 'nope' for incremental backup", MissingOnHost, NotFound),
        (90, "storage volume 'a' exists already", ExistsOnHost, Conflict),
        (9, "operation failed: domain 'web' already exists with uuid 1", ExistsOnHost, Conflict),
        (68, "Timed out during operation: cannot acquire state change lock", HostBusy, Conflict),
        (38, "cannot extend file '/pool/x': No space left on device", HostFull, NoSpace),
        (67, "unsupported configuration: Emulator does not support machine type", HostRefused, HostRefused),
    ],
)
def test_what_a_host_refuses_is_told_apart_by_class(code, text, kind, also) -> None:
    error = refusal("alderaan", Said(code, text))

    assert type(error) is kind
    assert isinstance(error, also)
    assert (error.code, error.text) == (code, text)
    assert error.what.startswith("Host alderaan refused: ")
    assert error.next_step


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Failed to connect socket to '/run/x': No such file or directory", "there is no socket /run/x"),
        ("Failed to connect socket to '/run/x': Permission denied", "this user may not use the socket /run/x"),
        ("Failed to connect socket to '/run/x': Connection refused", "nobody listens on the socket /run/x"),
        ("Cannot recv data: root@h: Permission denied (publickey).: Connection reset", "SSH did not let us in"),
        ("Cannot recv data: Host key verification failed.: Connection reset by peer", "its SSH host key is not known"),
        ("Cannot recv data: ssh: Could not resolve hostname h: Name or service not known", "the name h "),
        ("unable to connect to server at 'h:16509': No route to host", "the network gives no way to it"),
        ("authentication failed: no auth callbacks available", "it wants a login"),
        ("Cannot read CA certificate '/etc/pki/CA/cacert.pem': No such file", "TLS is not set up here"),
        ("Cannot recv data: sh: 1: nc: not found: Connection reset by peer", "the host lacks the program nc"),
        ("internal error: connection closed due to keepalive timeout", "it stopped answering"),
        ("End of file while reading data: Input/output error", "the connection broke"),
        ("something that nobody has seen before.", "something that nobody has seen before"),
    ],
)  # fmt: skip
def test_why_a_host_is_unreachable_is_said_in_words_for_people(text: str, reason: str) -> None:
    error = unreachable("alderaan", text)

    assert error.reason.startswith(reason)
    assert "{" not in f"{error}"
    assert error.next_step


@pytest.mark.parametrize(
    ("uri", "local"),
    [
        ("qemu:///system", True),
        ("qemu+unix:///session?socket=/run/x", True),
        ("qemu+ssh://root@h/system", False),
        ("qemu+tcp://127.0.0.1/system", False),
        ("qemu://h/system", False),
    ],
)
def test_a_host_is_local_if_its_uri_does_not_leave_this_machine(uri: str, local: bool) -> None:
    assert is_local(uri) is local

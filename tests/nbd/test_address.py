from __future__ import annotations

from pathlib import Path

import pytest

from engine.nbd import Client, NbdError, ServerUnreachable, TcpAddress, UnixAddress, parse_uri


@pytest.mark.parametrize(
    ("uri", "address", "export"),
    [
        ("nbd+unix:///vda?socket=/run/x.sock", UnixAddress("/run/x.sock"), "vda"),
        ("nbd+unix:///?socket=/run/a%20b.sock", UnixAddress("/run/a b.sock"), ""),
        ("nbd://backup.example:10810/disk%2F1", TcpAddress("backup.example", 10810), "disk/1"),
        ("nbd://backup.example", TcpAddress("backup.example", 10809), ""),
        ("nbd://[::1]:99/x", TcpAddress("::1", 99), "x"),
    ],
)
def test_a_uri_names_an_address_and_an_export(uri: str, address: UnixAddress | TcpAddress, export: str) -> None:
    assert parse_uri(uri) == (address, export)
    assert parse_uri(address.uri(export)) == (address, export)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("http://x/", "begins with neither"),
        ("nbd+unix:///vda", "names no socket"),
        ("nbds://x/", "TLS"),
        ("nbd://x:99999/", "port"),
    ],
)
def test_a_uri_that_cannot_be_used_says_why(uri: str, reason: str) -> None:
    with pytest.raises(NbdError, match=reason):
        parse_uri(uri)


def test_a_socket_that_does_not_exist_says_that_no_server_made_it(tmp_path: Path) -> None:
    with pytest.raises(ServerUnreachable) as caught:
        Client.connect(UnixAddress(str(tmp_path / "none.sock")))

    assert "start the server" in caught.value.next_step
    assert caught.value.untouched == "Nothing was changed."


def test_a_socket_path_that_is_too_long_says_so() -> None:
    with pytest.raises(ServerUnreachable) as caught:
        Client.connect(UnixAddress("/tmp/" + "x" * 200))

    assert "at most 107 bytes" in caught.value.next_step

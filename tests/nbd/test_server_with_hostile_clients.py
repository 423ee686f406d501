"""The server against clients that are broken, old, hostile or gone: it answers or hangs up, and serves the next."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.nbd import Client, Server, protocol
from engine.nbd.protocol import Chunk, Command, Info, Option, OptionReply
from tests.nbd.peers import MIB, MemoryExport, random_bytes


class RawClient:
    """Says exactly what it is told to."""

    def __init__(self, path: str, *, flags: int = 3) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(path)
        self.greeting = self.take(protocol.GREETING.size)
        self.say(protocol.CLIENT_FLAGS.pack(flags))

    def take(self, count: int) -> bytes:
        content = b""
        while len(content) < count:
            piece = self.socket.recv(count - len(content))
            if not piece:
                raise EOFError
            content += piece
        return content

    def say(self, *pieces: bytes) -> None:
        self.socket.sendall(b"".join(pieces))

    def option(self, option: int, content: bytes = b"") -> list[tuple[int, bytes]]:
        self.say(protocol.OPTION.pack(protocol.OPTION_MAGIC, option, len(content)), content)
        replies: list[tuple[int, bytes]] = []
        while True:
            magic, answered, kind, length = protocol.OPTION_REPLY.unpack(self.take(20))
            assert (magic, answered) == (protocol.OPTION_REPLY_MAGIC, option)
            replies.append((kind, self.take(length)))
            if kind == OptionReply.ACK or kind >= protocol.REFUSAL:
                return replies

    def open(self, *, structured: bool = True) -> None:
        if structured:
            self.option(Option.STRUCTURED_REPLY)
        assert self.option(Option.GO, export_question("vda"))[-1][0] == OptionReply.ACK

    def request(self, command: int, cookie: int, offset: int, length: int, *, flags: int = 0) -> None:
        self.say(protocol.REQUEST.pack(protocol.REQUEST_MAGIC, flags, command, cookie, offset, length))

    def chunk(self) -> tuple[int, int, int, bytes]:
        """Flags, type, cookie and content of one chunk."""
        magic, flags, kind, cookie, length = protocol.STRUCTURED_REPLY.unpack(self.take(20))
        assert magic == protocol.STRUCTURED_REPLY_MAGIC
        return flags, kind, cookie, self.take(length)

    def is_hung_up_on(self) -> bool:
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


def export_question(name: str) -> bytes:
    return protocol.WORD.pack(len(name)) + name.encode() + protocol.SHORT.pack(1) + protocol.SHORT.pack(Info.NAME)


@pytest.fixture
def disk() -> MemoryExport:
    return MemoryExport(random_bytes(MIB))


@pytest.fixture
def server(tmp_path: Path, disk: MemoryExport) -> Iterator[Server]:
    with Server(tmp_path / "ours.sock", {"vda": disk}) as server:
        yield server
        # Whatever was done to it, the next client is served.
        with Client.connect(server.address, "vda") as client:
            client.read_into(0, memoryview(bytearray(512)))


@pytest.fixture
def raw(server: Server) -> Iterator[RawClient]:
    client = RawClient(server.address.path)
    with client.socket:
        yield client


@pytest.mark.parametrize(
    ("option", "content", "refusal"),
    [
        (12345, b"whatever", OptionReply.ERR_UNSUPPORTED),
        (Option.STARTTLS, b"", OptionReply.ERR_UNSUPPORTED),
        (Option.LIST, b"surplus", OptionReply.ERR_INVALID),
        (Option.STRUCTURED_REPLY, b"surplus", OptionReply.ERR_INVALID),
        (Option.GO, b"", OptionReply.ERR_INVALID),
        (Option.GO, protocol.WORD.pack(2**32 - 1) + b"vda", OptionReply.ERR_INVALID),
        (Option.GO, protocol.WORD.pack(3) + b"\xff\xfe\xfd" + b"\0\0", OptionReply.ERR_INVALID),
        (Option.GO, export_question("vda") + b"surplus", OptionReply.ERR_INVALID),
        (Option.GO, export_question("vdb"), OptionReply.ERR_UNKNOWN),
        (Option.INFO, export_question("vdb"), OptionReply.ERR_UNKNOWN),
        (Option.SET_META_CONTEXT, b"too early", OptionReply.ERR_INVALID),
        (77, b"x" * 100_000, OptionReply.ERR_TOO_BIG),
    ],
)
def test_an_option_that_cannot_be_is_refused_and_the_handshake_goes_on(
    raw: RawClient, option: int, content: bytes, refusal: OptionReply
) -> None:
    kind, message = raw.option(option, content)[-1]

    assert kind == refusal
    assert message
    raw.open()
    raw.request(Command.READ, 1, 0, 512)
    assert raw.chunk()[1] == Chunk.OFFSET_DATA


def test_info_tells_the_same_as_go_without_opening(raw: RawClient) -> None:
    told = raw.option(Option.INFO, export_question("vda"))

    assert [kind for kind, _ in told] == [OptionReply.INFO, OptionReply.INFO, OptionReply.ACK]
    assert raw.option(Option.GO, export_question("vda")) == told


def test_abort_is_acknowledged_and_ends_the_connection(raw: RawClient) -> None:
    assert raw.option(Option.ABORT) == [(OptionReply.ACK, b"")]
    assert raw.is_hung_up_on()


def test_a_context_selected_for_another_export_does_not_count(tmp_path: Path, disk: MemoryExport) -> None:
    exports = {"vda": disk, "vdb": disk}
    with Server(tmp_path / "two.sock", exports) as server:
        raw = RawClient(server.address.path)
        raw.option(Option.STRUCTURED_REPLY)
        query = b"\0\0\0\1" + b"\0\0\0\x0f" + b"base:allocation"
        assert len(raw.option(Option.SET_META_CONTEXT, protocol.WORD.pack(3) + b"vdb" + query)) == 2
        raw.option(Option.GO, export_question("vda"))

        raw.request(Command.BLOCK_STATUS, 1, 0, 512)

        flags, kind, _, content = raw.chunk()
        raw.socket.close()
    assert (flags, kind) == (1, Chunk.ERROR)
    assert b"no context was selected" in content


def test_an_old_client_opens_by_name_and_gets_simple_replies(server: Server, disk: MemoryExport) -> None:
    raw = RawClient(server.address.path, flags=0)
    raw.say(protocol.OPTION.pack(protocol.OPTION_MAGIC, Option.EXPORT_NAME, 3), b"vda")
    size_bytes, _ = protocol.EXPORT_FACTS.unpack(raw.take(10))
    padding = raw.take(124)
    raw.request(Command.READ, 7, 100, 200)
    reply = protocol.SIMPLE_REPLY.unpack(raw.take(16))
    content = raw.take(200)
    raw.request(Command.READ, 8, MIB, 1)
    refused = protocol.SIMPLE_REPLY.unpack(raw.take(16))
    raw.socket.close()

    assert size_bytes == MIB
    assert not any(padding)
    assert reply == (protocol.SIMPLE_REPLY_MAGIC, 0, 7)
    assert content == disk.content[100:300]
    assert refused == (protocol.SIMPLE_REPLY_MAGIC, 22, 8)


def test_a_client_with_flags_from_the_future_is_hung_up_on(server: Server) -> None:
    raw = RawClient(server.address.path, flags=3 | 1 << 9)

    assert raw.is_hung_up_on()
    raw.socket.close()


def test_an_old_client_that_asks_for_an_unknown_name_is_hung_up_on(raw: RawClient) -> None:
    raw.say(protocol.OPTION.pack(protocol.OPTION_MAGIC, Option.EXPORT_NAME, 3), b"vdb")

    assert raw.is_hung_up_on()


@pytest.mark.parametrize(
    ("command", "offset", "length", "flags", "error"),
    [
        (Command.READ, MIB, 1, 0, 22),
        (Command.READ, 2**64 - 1, 2**32 - 1, 0, 22),
        (Command.READ, 0, 33 * MIB, 0, 22),
        (Command.READ, 0, 512, 1 << 9, 22),
        (Command.BLOCK_STATUS, 0, 512, 0, 22),
        (Command.TRIM, 0, 512, 0, 1),
        (Command.WRITE_ZEROES, 0, 512, 0, 1),
        (99, 0, 512, 0, 22),
    ],
)
def test_a_request_that_cannot_be_is_refused_and_the_next_one_answered(
    raw: RawClient, command: int, offset: int, length: int, flags: int, error: int
) -> None:
    raw.open()

    raw.request(command, 5, offset, length, flags=flags)

    done, kind, cookie, content = raw.chunk()
    assert (done, kind, cookie) == (1, Chunk.ERROR, 5)
    assert protocol.ERROR.unpack_from(content)[0] == error
    raw.request(Command.READ, 6, 0, 10)
    assert raw.chunk()[2] == 6


def test_a_write_to_a_read_only_export_is_swallowed_and_refused(raw: RawClient, disk: MemoryExport) -> None:
    before = bytes(disk.content)
    raw.open()

    raw.request(Command.WRITE, 1, 0, 4096)
    raw.say(b"x" * 4096)
    _, kind, _, content = raw.chunk()
    raw.request(Command.FLUSH, 2, 0, 0)
    flushed = raw.chunk()

    assert (kind, protocol.ERROR.unpack_from(content)[0]) == (Chunk.ERROR, 1)
    assert flushed[1] == Chunk.NONE
    assert disk.content == before


@pytest.mark.parametrize("structured", [True, False])
def test_a_read_that_must_not_be_fragmented_comes_in_one_piece(tmp_path: Path, structured: bool) -> None:
    content = bytes(4 * MIB)
    with Server(tmp_path / "df.sock", {"vda": MemoryExport(bytearray(content))}) as server:
        raw = RawClient(server.address.path)
        raw.open(structured=structured)
        raw.request(Command.READ, 1, 0, len(content), flags=4 if structured else 0)
        if structured:
            flags, kind, _, data = raw.chunk()
            assert (flags, kind, len(data)) == (1, Chunk.OFFSET_DATA, 8 + len(content))
        else:
            assert protocol.SIMPLE_REPLY.unpack(raw.take(16)) == (protocol.SIMPLE_REPLY_MAGIC, 0, 1)
            assert raw.take(len(content)) == content
        raw.socket.close()


def test_a_request_without_its_magic_ends_only_that_connection(raw: RawClient) -> None:
    raw.open()

    raw.say(b"GET / HTTP/1.1\r\nHost: disk\r\n\r\n")

    assert raw.is_hung_up_on()


def test_a_write_beyond_all_limits_ends_only_that_connection(raw: RawClient) -> None:
    raw.open()

    raw.request(Command.WRITE, 1, 0, 2**32 - 1)

    assert raw.is_hung_up_on()


def test_requests_under_way_are_answered_before_a_disconnect_takes_effect(raw: RawClient, disk: MemoryExport) -> None:
    go = threading.Event()
    disk.before_read = lambda offset, length: go.wait(10) and None
    raw.open()

    raw.request(Command.READ, 1, 0, 100)
    raw.request(Command.READ, 2, 100, 100)
    raw.request(Command.DISCONNECT, 0, 0, 0)
    raw.socket.settimeout(0.1)
    with pytest.raises(TimeoutError):
        raw.socket.recv(1)
    raw.socket.settimeout(10)
    go.set()

    assert {raw.chunk()[2], raw.chunk()[2]} == {1, 2}
    assert raw.is_hung_up_on()


def test_a_client_that_never_takes_its_replies_holds_up_nobody_else(server: Server, raw: RawClient) -> None:
    raw.open()
    for cookie in range(50):
        raw.request(Command.READ, cookie, 0, MIB)

    with Client.connect(server.address, "vda", timeout_s=10) as client:
        client.read_into(0, memoryview(bytearray(MIB)))


def test_a_client_that_vanishes_in_the_middle_of_a_write_is_forgotten(server: Server, raw: RawClient) -> None:
    raw.open()
    raw.request(Command.WRITE, 1, 0, MIB)
    raw.say(b"only the beginning")

    raw.socket.shutdown(socket.SHUT_WR)

    assert raw.is_hung_up_on()


def test_clients_beyond_the_limit_are_hung_up_on(tmp_path: Path, disk: MemoryExport) -> None:
    with (
        Server(tmp_path / "few.sock", {"vda": disk}, most_connections=2) as server,
        Client.connect(server.address),
        Client.connect(server.address),
        socket.socket(socket.AF_UNIX) as third,
    ):
        third.connect(server.address.path)

        assert third.recv(1) == b""
        assert server.connections == 2


@given(noise=st.binary(max_size=200))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_noise_in_the_handshake_is_survived(server: Server, noise: bytes) -> None:
    raw = RawClient(server.address.path)
    with raw.socket:
        raw.say(protocol.OPTION.pack(protocol.OPTION_MAGIC, 6, len(noise)), noise, noise)
        raw.socket.shutdown(socket.SHUT_WR)
        while raw.socket.recv(4096):
            pass


@given(
    noise=st.lists(
        st.builds(
            protocol.REQUEST.pack,
            st.just(protocol.REQUEST_MAGIC),
            st.integers(0, 31),
            st.sampled_from([0, 0, 1, 3, 4, 6, 7, 9]),
            st.integers(0, 2**64 - 1),
            st.sampled_from([0, 1, 4096, MIB - 1, MIB, 2**63, 2**64 - 1]),
            st.sampled_from([0, 1, 512, 5000, 2**31, 2**32 - 1]),
        ),
        max_size=20,
    ).map(b"".join)
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_almost_right_requests_are_survived(server: Server, noise: bytes) -> None:
    raw = RawClient(server.address.path)
    with raw.socket:
        raw.open()
        raw.say(noise)
        raw.socket.shutdown(socket.SHUT_WR)
        try:
            while raw.socket.recv(65536):
                pass
        except ConnectionResetError:
            pass

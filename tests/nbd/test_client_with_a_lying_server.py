"""The client against replies that no decent server gives, and against the odd ones that are allowed."""

from __future__ import annotations

import signal
import socket
import struct
import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.nbd import (
    BASE_ALLOCATION,
    Client,
    Extent,
    NbdError,
    ProtocolViolation,
    ReadRequest,
    RequestFailed,
    ServerGone,
    WriteRequest,
    protocol,
)
from engine.nbd.protocol import Chunk, ExportFlag
from tests.nbd.peers import MIB, ScriptedServer, random_bytes, scripted

READ_ONLY = ExportFlag.HAS_FLAGS | ExportFlag.READ_ONLY


def read(client: Client, offset: int, length: int) -> bytes:
    buffer = bytearray(b"?" * length)
    client.read_into(offset, memoryview(buffer))
    return bytes(buffer)


# What is allowed


def test_a_reply_in_pieces_out_of_order_with_a_hole_and_an_empty_end_is_put_together() -> None:
    def script(server: ScriptedServer) -> None:
        _, cookie, _, _ = server.request()
        server.data(cookie, 3000, b"c" * 1000, done=False)
        server.hole(cookie, 1000, 2000, done=False)
        server.data(cookie, 0, b"a" * 1000, done=False)
        server.chunk(cookie, Chunk.NONE)

    with scripted(script) as client:
        assert read(client, 0, 4000) == b"a" * 1000 + bytes(2000) + b"c" * 1000


def test_a_hole_larger_than_a_mebibyte_is_zero_to_its_end() -> None:
    def script(server: ScriptedServer) -> None:
        _, cookie, _, length = server.request()
        server.hole(cookie, 0, length)

    with scripted(script, size_bytes=4 * MIB) as client:
        assert read(client, 0, 3 * MIB + 1) == bytes(3 * MIB + 1)


def test_chunks_of_two_replies_may_alternate() -> None:
    def script(server: ScriptedServer) -> None:
        _, first, _, _ = server.request()
        _, second, _, _ = server.request()
        server.data(second, 4096, b"C" * 100, done=False)
        server.data(first, 0, b"a" * 100, done=False)
        server.data(second, 4196, b"D" * 100)
        server.data(first, 100, b"b" * 100)

    requests = [ReadRequest(0, memoryview(bytearray(200))), ReadRequest(4096, memoryview(bytearray(200)))]
    with scripted(script) as client:
        finished = list(client.read_many(requests))

    assert finished == [requests[1], requests[0]]
    assert requests[0].buffer == b"a" * 100 + b"b" * 100
    assert requests[1].buffer == b"C" * 100 + b"D" * 100


def test_replies_that_arrive_one_byte_at_a_time_are_put_together() -> None:
    def script(server: ScriptedServer) -> None:
        _, cookie, offset, _ = server.request()
        reply = protocol.STRUCTURED_REPLY.pack(protocol.STRUCTURED_REPLY_MAGIC, 1, 1, cookie, 8 + 16)
        for byte in reply + protocol.OFFSET.pack(offset) + b"0123456789abcdef":
            server.say(bytes([byte]))

    with scripted(script) as client:
        assert read(client, 512, 16) == b"0123456789abcdef"


def test_an_error_chunk_fails_its_read_with_the_servers_words_and_the_exact_offset() -> None:
    def script(server: ScriptedServer) -> None:
        _, cookie, _, _ = server.request()
        server.data(cookie, 0, b"a" * 100, done=False)
        server.error(cookie, 5, "medium error", offset=100, done=False)
        server.data(cookie, 200, b"b" * 100, done=False)
        server.chunk(cookie, Chunk.NONE)
        _, cookie, _, _ = server.request()
        server.data(cookie, 0, b"good")

    with scripted(script) as client:
        with pytest.raises(RequestFailed, match="medium error") as caught:
            read(client, 0, 4096)
        assert (caught.value.errno_name, caught.value.offset) == ("EIO", 100)
        assert read(client, 0, 4) == b"good"


def test_an_error_of_a_kind_unknown_to_us_is_an_error_all_the_same() -> None:
    def script(server: ScriptedServer) -> None:
        _, cookie, _, _ = server.request()
        server.chunk(cookie, 2**15 + 77, protocol.ERROR.pack(9999, 3) + b"odd" + b"more")

    with scripted(script) as client, pytest.raises(RequestFailed, match=r"error 9999 \(odd\)"):
        read(client, 0, 100)


def test_simple_replies_are_read_where_structured_ones_were_refused() -> None:
    def script(server: ScriptedServer) -> None:
        _, first, _, _ = server.request()
        _, second, _, _ = server.request()
        server.simple(second, b"b" * 100)
        server.simple(first, error=5)
        _, third, _, _ = server.request()
        server.simple(third, b"c" * 100)

    with scripted(script, structured=False, contexts=()) as client:
        requests = [ReadRequest(at, memoryview(bytearray(100))) for at in (0, 100)]
        reading = client.read_many(requests)
        assert next(reading) is requests[1]
        with pytest.raises(RequestFailed, match="EIO"):
            next(reading)
        assert read(client, 0, 100) == b"c" * 100


def test_a_server_from_before_go_is_opened_by_name() -> None:
    def script(server: ScriptedServer) -> None:
        _, cookie, offset, length = server.request()
        server.data(cookie, offset, b"z" * length)

    with scripted(script, knows_go=False) as client:
        assert client.size_bytes == MIB
        assert client.contexts == (BASE_ALLOCATION,)
        assert read(client, 0, 4) == b"zzzz"


STATUSES: dict[str, tuple[list[tuple[int, int]], list[tuple[int, int, int]]]] = {
    "exact": ([(1000, 0), (1000, 3)], [(0, 1000, 0), (1000, 1000, 3)]),
    "not merged": ([(500, 0), (500, 0), (1000, 3)], [(0, 1000, 0), (1000, 1000, 3)]),
    "too long": ([(1000, 0), (90_000, 3)], [(0, 1000, 0), (1000, 1000, 3)]),
    "too many": ([(1000, 0), (1000, 3), (50, 0), (60, 1)], [(0, 1000, 0), (1000, 1000, 3)]),
}


@pytest.mark.parametrize("shape", STATUSES)
def test_each_shape_of_a_block_status_reply_gives_the_same_extents(shape: str) -> None:
    told, expected = STATUSES[shape]

    def script(server: ScriptedServer) -> None:
        _, cookie, _, _ = server.request()
        server.statuses(cookie, *told)

    with scripted(script) as client:
        assert list(client.extents(BASE_ALLOCATION, 0, 2000)) == [Extent(*extent) for extent in expected]


def test_short_block_status_replies_are_asked_on_from_where_they_ended() -> None:
    asked: list[tuple[int, int]] = []

    def script(server: ScriptedServer) -> None:
        for _ in range(20):
            _, cookie, offset, length = server.request()
            asked.append((offset, length))
            server.statuses(cookie, (100, 0))

    with scripted(script) as client:
        assert list(client.extents(BASE_ALLOCATION, 0, 2000)) == [Extent(0, 2000, 0)]

    assert asked == [(at, 2000 - at) for at in range(0, 2000, 100)]


def test_contexts_may_end_at_different_places() -> None:
    def script(server: ScriptedServer) -> None:
        _, cookie, _, _ = server.request()
        server.statuses(cookie, (300, 1), context=2, done=False)
        server.statuses(cookie, (1000, 0), (5000, 3), context=1)

    with scripted(script, contexts=(BASE_ALLOCATION, "qemu:dirty-bitmap:b")) as client:
        assert client.block_status(0, 2000) == {
            BASE_ALLOCATION: (Extent(0, 1000, 0), Extent(1000, 1000, 3)),
            "qemu:dirty-bitmap:b": (Extent(0, 300, 1),),
        }


# What is not allowed


def reply_to_a_read(answer: Callable[[ScriptedServer, int], None]) -> Callable[[ScriptedServer], None]:
    def script(server: ScriptedServer) -> None:
        _, cookie, _, _ = server.request()
        answer(server, cookie)

    return script


def test_a_signal_in_the_middle_of_a_reply_ends_the_connection_instead_of_losing_its_place() -> None:
    class Interrupted(Exception):
        pass

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    reader = threading.get_ident()

    def script(server: ScriptedServer) -> None:
        _, cookie, _, _ = server.request()
        server.say(protocol.STRUCTURED_REPLY.pack(protocol.STRUCTURED_REPLY_MAGIC, 1, 1, cookie, 8 + 512)[:10])
        signal.pthread_kill(reader, signal.SIGUSR1)
        server.take(1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with scripted(script) as client:
            with pytest.raises(Interrupted):
                read(client, 0, 512)
            with pytest.raises(ServerGone):
                read(client, 0, 512)
    finally:
        signal.signal(signal.SIGUSR1, before)


LIES: dict[str, Callable[[ScriptedServer, int], None]] = {
    "wrong cookie": lambda server, cookie: server.data(cookie + 1, 0, b"x" * 4096),
    "bad magic": lambda server, cookie: server.say(b"GET / HTTP/1.1\r\n" * 10),
    "data before the range": lambda server, cookie: server.data(cookie, 511, b"x" * 4096),
    "data behind the range": lambda server, cookie: server.data(cookie, 512, b"x" * 4097),
    "data elsewhere": lambda server, cookie: server.data(cookie, 2**63, b"x" * 4096),
    "data chunk without data": lambda server, cookie: server.data(cookie, 512, b""),
    "hole behind the range": lambda server, cookie: server.hole(cookie, 512, 2**32 - 1),
    "hole of no length": lambda server, cookie: server.hole(cookie, 512, 0),
    "hole of odd size": lambda server, cookie: server.chunk(cookie, Chunk.OFFSET_HOLE, b"x" * 7),
    "too little": lambda server, cookie: server.data(cookie, 512, b"x" * 4095),
    "nothing at all": lambda server, cookie: server.chunk(cookie, Chunk.NONE),
    "one piece twice, one never": lambda server, cookie: (
        server.data(cookie, 512, b"x" * 2048, done=False),
        server.data(cookie, 512, b"x" * 2048),
    )[0],
    "simple reply": lambda server, cookie: server.simple(cookie, b"x" * 4096),
    "block status": lambda server, cookie: server.statuses(cookie, (4096, 0)),
    "unknown chunk": lambda server, cookie: server.chunk(cookie, 42, b"x"),
    "empty chunk that is not the end": lambda server, cookie: server.chunk(cookie, Chunk.NONE, done=False),
    "error of no number": lambda server, cookie: server.error(cookie, 0, "fine"),
    "error of many megabytes": lambda server, cookie: server.chunk(cookie, Chunk.ERROR, b"x" * MIB),
    "error that is cut off": lambda server, cookie: server.chunk(cookie, Chunk.ERROR, b"x" * 3),
    "error whose message is cut off": lambda server, cookie: server.chunk(
        cookie, Chunk.ERROR, protocol.ERROR.pack(5, 500) + b"short"
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_in_a_reply_ends_the_connection_and_gives_no_data(lie: str) -> None:
    with scripted(reply_to_a_read(LIES[lie])) as client:
        with pytest.raises(ProtocolViolation) as caught:
            read(client, 512, 4096)
        with pytest.raises(ServerGone):
            read(client, 512, 4096)

    assert caught.value.untouched == "Nothing was changed."


STATUS_LIES: dict[str, Callable[[ScriptedServer, int], None]] = {
    "an empty extent": lambda server, cookie: server.statuses(cookie, (0, 0)),
    "no extent": lambda server, cookie: server.statuses(cookie),
    "a context of no name": lambda server, cookie: server.statuses(cookie, (4096, 0), context=9),
    "one context twice": lambda server, cookie: (
        server.statuses(cookie, (4096, 0), done=False),
        server.statuses(cookie, (4096, 0)),
    )[0],
    "half a descriptor": lambda server, cookie: server.chunk(cookie, Chunk.BLOCK_STATUS, b"x" * 9),
    "nothing at all": lambda server, cookie: server.chunk(cookie, Chunk.NONE),
    "data": lambda server, cookie: server.data(cookie, 0, b"x" * 4096),
    "a simple reply": lambda server, cookie: server.simple(cookie),
}


@pytest.mark.parametrize("lie", STATUS_LIES)
def test_a_lie_about_block_status_ends_the_connection(lie: str) -> None:
    with scripted(reply_to_a_read(STATUS_LIES[lie])) as client, pytest.raises(ProtocolViolation):
        client.block_status(0, 4096)


@pytest.mark.parametrize("after", [0, 3, 19, 20, 27, 28, 100])
def test_a_server_that_hangs_up_in_the_middle_of_a_reply_is_gone(after: int) -> None:
    def script(server: ScriptedServer) -> None:
        _, cookie, _, _ = server.request()
        header = protocol.STRUCTURED_REPLY.pack(protocol.STRUCTURED_REPLY_MAGIC, 1, 1, cookie, 8 + 4096)
        server.say((header + protocol.OFFSET.pack(0) + b"x" * 4096)[:after])

    with scripted(script) as client, pytest.raises(ServerGone, match="1 requests unanswered"):
        read(client, 0, 4096)


def test_nothing_of_a_broken_reply_reaches_the_bytes_outside_the_buffer() -> None:
    surrounding = bytearray(b"?" * 3000)

    with scripted(reply_to_a_read(LIES["data behind the range"])) as client, pytest.raises(ProtocolViolation):
        client.read_into(512, memoryview(surrounding)[1000:2000])

    assert surrounding[:1000] == surrounding[2000:] == b"?" * 1000


@pytest.mark.parametrize("blocks", [(0, 4096, MIB), (3, 4096, MIB), (4096, 4096, 512)])
def test_impossible_block_sizes_are_refused(blocks: tuple[int, int, int]) -> None:
    with pytest.raises(ProtocolViolation, match="block sizes"), scripted(lambda server: None, blocks=blocks):
        pass


# Full buffers


def test_a_server_that_stops_receiving_until_its_replies_are_taken_does_not_get_stuck() -> None:
    """Each read's reply fills the way back; the server takes the next request only when it has been sent."""

    def script(server: ScriptedServer) -> None:
        server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        while True:
            command, cookie, offset, length = server.request()
            if command == protocol.Command.READ:
                server.data(cookie, offset, bytes(length))
            else:
                server.chunk(cookie, Chunk.NONE)

    content = random_bytes(8 * MIB)
    with scripted(script, size_bytes=64 * MIB, timeout_s=10) as client:
        reads = (ReadRequest(at, memoryview(bytearray(MIB))) for at in range(0, 24 * MIB, MIB))
        for request in client.read_many(reads, in_flight=16):
            client.write(request.offset, content)


def test_many_writes_with_replies_held_back_do_not_get_stuck() -> None:
    """The server answers a write only after the next one has begun, so both ways are busy all the time."""

    def script(server: ScriptedServer) -> None:
        for _ in range(25):
            cookies = [server.request()[1] for _ in range(8)]
            for cookie in reversed(cookies):
                server.chunk(cookie, Chunk.NONE)

    with scripted(script, size_bytes=64 * MIB, timeout_s=10) as client:
        writes = (WriteRequest(at * 1000, bytes(300_000)) for at in range(200))
        assert len(list(client.write_many(writes, in_flight=8 + 2))) == 200


# Noise


@given(noise=st.binary(max_size=300))
@settings(max_examples=60, deadline=None)
def test_noise_instead_of_replies_is_never_data_and_never_a_defect(noise: bytes) -> None:
    def script(server: ScriptedServer) -> None:
        server.request()
        server.say(noise)
        server.socket.shutdown(socket.SHUT_WR)

    with scripted(script) as client, pytest.raises(NbdError):
        read(client, 0, 512)


@st.composite
def chunk_like(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from([0, 1, 2, 5, 2**15 + 1, 2**15 + 2, 7]))
    content = draw(st.binary(max_size=40))
    length = draw(st.sampled_from([len(content), len(content), 0, 4, 8, 12, 2**32 - 1]))
    header = protocol.STRUCTURED_REPLY.pack(
        protocol.STRUCTURED_REPLY_MAGIC, draw(st.integers(0, 1)), kind, draw(st.integers(1, 2)), length
    )
    return header + content


@given(noise=st.lists(chunk_like(), min_size=1, max_size=6).map(b"".join), asking=st.booleans())
@settings(max_examples=80, deadline=None)
def test_almost_right_chunks_are_an_error_or_a_whole_reply(noise: bytes, asking: bool) -> None:
    def script(server: ScriptedServer) -> None:
        server.request()
        server.say(noise)
        server.socket.shutdown(socket.SHUT_WR)

    with scripted(script) as client:
        try:
            if asking:
                told = client.block_status(0, 8)
                assert all(extents[0].offset == 0 for extents in told.values())
            else:
                assert b"?" not in read(client, 0, 8) or b"?" in noise
        except NbdError:
            pass


OPTIONS_OFTEN_ASKED = st.sampled_from([8, 10, 7, 3])
ANSWERS_OFTEN_GIVEN = st.sampled_from([1, 2, 3, 4, 2**31 + 1, 2**31 + 6])


@given(answers=st.lists(st.tuples(OPTIONS_OFTEN_ASKED, ANSWERS_OFTEN_GIVEN, st.binary(max_size=24)), max_size=8))
@settings(max_examples=80, deadline=None)
def test_a_handshake_of_nonsense_is_an_error_or_an_export(answers: list[tuple[int, int, bytes]]) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(struct.pack(">QQH", protocol.NEWSTYLE_MAGIC, protocol.OPTION_MAGIC, 3))
        for option, kind, content in answers:
            header = protocol.OPTION_REPLY.pack(protocol.OPTION_REPLY_MAGIC, option, kind, len(content))
            theirs.sendall(header + content)
        theirs.shutdown(socket.SHUT_WR)

        try:
            client = Client.adopt(ours, "disk", contexts=[BASE_ALLOCATION], timeout_s=5)
        except NbdError:
            return
        client.close()


def test_a_web_server_is_not_taken_for_a_disk() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        with pytest.raises(ProtocolViolation, match="does not speak NBD"):
            Client.adopt(ours)


def test_closing_twice_and_closing_after_the_server_died_do_no_harm() -> None:
    with scripted(lambda server: None) as client:
        client.close()
        client.close()

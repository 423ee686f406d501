"""The other sides: real NBD servers started for one test, an export in memory, and a server that follows a script."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.nbd import Client, Extent, UnixAddress, cover, protocol
from engine.nbd.protocol import Chunk, Command, ExportFlag, HandshakeFlag, Info, Option, OptionReply

MIB = 1024 * 1024


class Servers:
    """Starts real servers by socket activation: a client can connect before the server has even begun."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str | Path) -> UnixAddress:
        address = UnixAddress(str(self._folder / f"peer-{len(self._processes)}.sock"))
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(address.path)
            listening.listen(16)
            # Socket activation: descriptor 3, and the variables that name it to this very process.
            activate = f'exec 3<&{listening.fileno()}; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'
            with (self._folder / f"peer-{len(self._processes)}.log").open("wb") as log:
                self._processes.append(
                    subprocess.Popen(
                        ["bash", "-c", activate, "bash", *map(str, command)],
                        pass_fds=(listening.fileno(),),
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                    )
                )
        return address

    def qemu_nbd(self, image: Path, *options: str, image_format: str = "raw") -> UnixAddress:
        return self.start("qemu-nbd", "--persistent", "--shared=8", f"--format={image_format}", *options, image)

    def nbdkit(self, *arguments: str) -> UnixAddress:
        return self.start("nbdkit", "--foreground", *arguments)

    def kill_last(self) -> None:
        self._processes[-1].kill()
        self._processes[-1].wait()

    def stop_all(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


class MemoryExport:
    """A disk in memory; it counts how many of its reads run at the same time."""

    def __init__(self, content: bytearray, *, read_only: bool = True) -> None:
        self.content = content
        self.read_only = read_only
        self.flushes = 0
        self.before_read: Callable[[int, int], None] = lambda offset, length: None

    @property
    def size_bytes(self) -> int:
        return len(self.content)

    def read(self, offset: int, length: int) -> bytes:
        self.before_read(offset, length)
        return bytes(self.content[offset : offset + length])

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        first, end = offset - offset % 4096, offset + length
        pieces = range(first, end, 4096)
        zeroes = bytes(4096)
        return cover((Extent(at, 4096, 3) for at in pieces if self.content[at : at + 4096] == zeroes), offset, length)

    def write(self, offset: int, content: memoryview) -> None:
        self.content[offset : offset + len(content)] = content

    def write_zeroes(self, offset: int, length: int, may_trim: bool) -> None:
        self.content[offset : offset + length] = bytes(length)

    def trim(self, offset: int, length: int) -> None:
        self.write_zeroes(offset, length, may_trim=True)

    def flush(self) -> None:
        self.flushes += 1


class ScriptedServer:
    """A server whose handshake is right and whose replies are whatever a test makes it say."""

    def __init__(
        self,
        connected: socket.socket,
        *,
        size_bytes: int = MIB,
        structured: bool = True,
        knows_go: bool = True,
        contexts: tuple[str, ...] = ("base:allocation",),
        blocks: tuple[int, int, int] = (1, 4096, 32 * MIB),
        flags: ExportFlag = ExportFlag.HAS_FLAGS | ExportFlag.SEND_FLUSH | ExportFlag.SEND_WRITE_ZEROES,
    ) -> None:
        self.socket = connected
        self._facts = (size_bytes, flags)
        self._structured = structured
        self._knows_go = knows_go
        self._contexts = contexts
        self._blocks = blocks

    def take(self, count: int) -> bytes:
        content = b""
        while len(content) < count:
            piece = self.socket.recv(count - len(content))
            if not piece:
                raise ConnectionResetError
            content += piece
        return content

    def say(self, *pieces: bytes) -> None:
        self.socket.sendall(b"".join(pieces))

    def shake_hands(self) -> None:
        flags = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES
        self.say(protocol.GREETING.pack(protocol.NEWSTYLE_MAGIC, protocol.OPTION_MAGIC, flags))
        self.take(4)
        while True:
            _, option, length = protocol.OPTION.unpack(self.take(protocol.OPTION.size))
            self.take(length)
            if option == Option.STRUCTURED_REPLY and not self._structured:
                self.reply(option, OptionReply.ERR_UNSUPPORTED)
                continue
            if option == Option.GO and not self._knows_go:
                self.reply(option, OptionReply.ERR_UNSUPPORTED)
                continue
            if option == Option.EXPORT_NAME:
                self.say(protocol.EXPORT_FACTS.pack(*self._facts))
                return
            if option == Option.SET_META_CONTEXT:
                for identity, name in enumerate(self._contexts, start=1):
                    self.reply(option, OptionReply.META_CONTEXT, protocol.WORD.pack(identity) + name.encode())
            if option == Option.GO:
                self.reply(option, OptionReply.INFO, protocol.INFO_EXPORT.pack(Info.EXPORT, *self._facts))
                blocks = protocol.INFO_BLOCK_SIZE.pack(Info.BLOCK_SIZE, *self._blocks)
                self.reply(option, OptionReply.INFO, blocks)
            self.reply(option, OptionReply.ACK)
            if option == Option.GO:
                return

    def reply(self, option: int, kind: int, content: bytes = b"") -> None:
        self.say(protocol.OPTION_REPLY.pack(protocol.OPTION_REPLY_MAGIC, option, kind, len(content)), content)

    def request(self) -> tuple[Command, int, int, int]:
        """Command, cookie, offset and length of the next request; a write's payload is dropped."""
        _, _, command, cookie, offset, length = protocol.REQUEST.unpack(self.take(protocol.REQUEST.size))
        if command == Command.WRITE:
            self.take(length)
        return Command(command), cookie, offset, length

    def chunk(self, cookie: int, kind: int, content: bytes = b"", *, done: bool = True) -> None:
        self.say(
            protocol.STRUCTURED_REPLY.pack(protocol.STRUCTURED_REPLY_MAGIC, int(done), kind, cookie, len(content)),
            content,
        )

    def data(self, cookie: int, offset: int, content: bytes, *, done: bool = True) -> None:
        self.chunk(cookie, Chunk.OFFSET_DATA, protocol.OFFSET.pack(offset) + content, done=done)

    def hole(self, cookie: int, offset: int, length: int, *, done: bool = True) -> None:
        self.chunk(cookie, Chunk.OFFSET_HOLE, protocol.HOLE.pack(offset, length), done=done)

    def statuses(self, cookie: int, *descriptors: tuple[int, int], context: int = 1, done: bool = True) -> None:
        content = b"".join(protocol.DESCRIPTOR.pack(*descriptor) for descriptor in descriptors)
        self.chunk(cookie, Chunk.BLOCK_STATUS, protocol.WORD.pack(context) + content, done=done)

    def error(self, cookie: int, number: int, message: str, *, offset: int | None = None, done: bool = True) -> None:
        content = protocol.ERROR.pack(number, len(message)) + message.encode()
        if offset is None:
            self.chunk(cookie, Chunk.ERROR, content, done=done)
        else:
            self.chunk(cookie, Chunk.ERROR_OFFSET, content + protocol.OFFSET.pack(offset), done=done)

    def simple(self, cookie: int, content: bytes = b"", *, error: int = 0) -> None:
        self.say(protocol.SIMPLE_REPLY.pack(protocol.SIMPLE_REPLY_MAGIC, error, cookie), content)


@contextmanager
def scripted(
    script: Callable[[ScriptedServer], None],
    *,
    contexts: tuple[str, ...] = ("base:allocation",),
    timeout_s: float = 5.0,
    **facts: object,
) -> Iterator[Client]:
    """A client of a server that shakes hands and then runs `script`; when that returns, the server hangs up."""
    ours, theirs = socket.socketpair()
    failures: list[BaseException] = []

    def serve() -> None:
        with theirs:
            try:
                server = ScriptedServer(theirs, contexts=contexts, **facts)  # type: ignore[arg-type]
                server.shake_hands()
                script(server)
            except (ConnectionResetError, BrokenPipeError):
                pass  # The client left first.
            except BaseException as failure:
                failures.append(failure)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with Client.adopt(ours, "disk", contexts=contexts, timeout_s=timeout_s) as client:
            yield client
    finally:
        thread.join()
    assert not failures


def random_bytes(size: int) -> bytearray:
    return bytearray(os.urandom(size))

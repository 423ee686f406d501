"""The server's half of the handshake: options are answered until an export is chosen or the client leaves.

Whatever a client sends, the answer is a refusal of that option, or the end of that connection, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct

from msgspec import Struct as Value

from engine.nbd import protocol
from engine.nbd.export import Export, is_writable
from engine.nbd.extent import BASE_ALLOCATION
from engine.nbd.protocol import ExportFlag, HandshakeFlag, Info, Option, OptionReply
from engine.nbd.wire import Wire

BASE_ALLOCATION_ID = 1
_MOST_OPTION_BYTES = 64 * 1024
_MOST_OPTIONS = 1000
_LEGACY_PADDING = bytes(124)
_PREFERRED_BLOCK_BYTES = 4096
_WORD, _SHORT = protocol.WORD, protocol.SHORT


class Chosen(Value, frozen=True):
    """What a client and we have agreed on."""

    name: str
    export: Export
    structured: bool
    allocation: bool
    """Whether block status tells `base:allocation`."""


class Refused(Exception):  # an answer to the client, not an error of ours
    """The answer to an option is no."""

    def __init__(self, kind: OptionReply, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class Welcome:
    """One handshake. `run()` gives what was chosen, or None if the client left without choosing."""

    def __init__(self, wire: Wire, exports: Mapping[str, Export]) -> None:
        self._wire = wire
        self._exports = exports
        self._structured = False
        self._contexts_of: str | None = None
        """The export that `base:allocation` was selected for; contexts hold only for the export they name."""

    def run(self) -> Chosen | None:
        """Answer options. Raises `OSError` when the connection breaks."""
        ours = int(HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES)
        self._wire.send(protocol.GREETING.pack(protocol.NEWSTYLE_MAGIC, protocol.OPTION_MAGIC, ours))
        theirs = self._wire.unpack(protocol.CLIENT_FLAGS)[0]
        if theirs & ~ours:
            return None
        for _ in range(_MOST_OPTIONS):
            magic, option, length = self._wire.unpack(protocol.OPTION)
            if magic != protocol.OPTION_MAGIC or length > protocol.MAXIMUM_PAYLOAD_BYTES:
                return None
            if length > _MOST_OPTION_BYTES:
                self._wire.skip(length)
                self._reply(option, OptionReply.ERR_TOO_BIG, b"that is more than an option needs")
                continue
            content = bytes(self._wire.receive(length))
            if option == Option.EXPORT_NAME:
                return self._open_by_name(content, padded=not theirs & HandshakeFlag.NO_ZEROES)
            if option == Option.ABORT:
                self._reply(option, OptionReply.ACK)
                return None
            chosen = self._answer(option, content)
            if chosen is not None:
                return chosen
        return None

    def _answer(self, option: int, content: bytes) -> Chosen | None:
        try:
            chosen = self._dispatch(option, _Fields(content))
        except Refused as refusal:
            self._reply(option, refusal.kind, refusal.message.encode())
            return None
        self._reply(option, OptionReply.ACK)
        return chosen

    def _dispatch(self, option: int, fields: _Fields) -> Chosen | None:
        match option:
            case Option.LIST:
                fields.end()
                for name in self._exports:
                    self._reply(option, OptionReply.SERVER, _counted(name))
            case Option.STRUCTURED_REPLY:
                fields.end()
                self._structured = True
            case Option.INFO:
                self._describe(option, fields)
            case Option.GO:
                name = self._describe(option, fields)
                return self._chosen(name)
            case Option.LIST_META_CONTEXT | Option.SET_META_CONTEXT:
                self._tell_contexts(option, fields)
            case _:
                raise Refused(OptionReply.ERR_UNSUPPORTED, "this server does not know that option")
        return None

    def _describe(self, option: int, fields: _Fields) -> str:
        name = fields.text()
        for _ in range(fields.number(_SHORT)):
            fields.number(_SHORT)  # Which facts are asked for does not matter: there are few, and all are told.
        fields.end()
        export = self._find(name)
        facts = protocol.INFO_EXPORT.pack(Info.EXPORT, export.size_bytes, _flags(export))
        blocks = protocol.INFO_BLOCK_SIZE.pack(
            Info.BLOCK_SIZE, 1, _PREFERRED_BLOCK_BYTES, protocol.MAXIMUM_PAYLOAD_BYTES
        )
        self._reply(option, OptionReply.INFO, facts)
        self._reply(option, OptionReply.INFO, blocks)
        return name

    def _tell_contexts(self, option: int, fields: _Fields) -> None:
        if not self._structured:
            raise Refused(OptionReply.ERR_INVALID, "contexts need structured replies; ask for those first")
        setting = option == Option.SET_META_CONTEXT
        if setting:
            self._contexts_of = None
        name = fields.text()
        queries = [fields.text() for _ in range(fields.number(_WORD))]
        fields.end()
        self._find(name)
        listing_all = not setting and (not queries or "base:" in queries)
        if BASE_ALLOCATION in queries or listing_all:
            identity = BASE_ALLOCATION_ID if setting else 0
            content = _WORD.pack(identity) + BASE_ALLOCATION.encode()
            self._reply(option, OptionReply.META_CONTEXT, content)
            if setting:
                self._contexts_of = name

    def _open_by_name(self, content: bytes, *, padded: bool) -> Chosen | None:
        try:
            name = content.decode()
            export = self._find(name)
        except (Refused, UnicodeDecodeError):
            return None  # This option has no way to refuse but hanging up.
        padding = _LEGACY_PADDING if padded else b""
        self._wire.send(protocol.EXPORT_FACTS.pack(export.size_bytes, _flags(export)) + padding)
        return self._chosen(name)

    def _chosen(self, name: str) -> Chosen:
        return Chosen(name, self._find(name), self._structured, self._contexts_of == name)

    def _find(self, name: str) -> Export:
        if name in self._exports:
            return self._exports[name]
        if not name and len(self._exports) == 1:
            return next(iter(self._exports.values()))
        raise Refused(OptionReply.ERR_UNKNOWN, f"there is no export {name!r}")

    def _reply(self, option: int, kind: OptionReply, content: bytes = b"") -> None:
        header = protocol.OPTION_REPLY.pack(protocol.OPTION_REPLY_MAGIC, option, kind, len(content))
        self._wire.send(header, content)


class _Fields:
    """The data of an option, read field by field; what does not fit is `Refused` as invalid."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0

    def number(self, layout: Struct) -> int:
        return int(layout.unpack(self._take(layout.size))[0])

    def text(self) -> str:
        length = self.number(_WORD)
        if length > protocol.MAXIMUM_NAME_BYTES:
            raise Refused(OptionReply.ERR_INVALID, "a name is too long")
        try:
            return self._take(length).decode()
        except UnicodeDecodeError:
            raise Refused(OptionReply.ERR_INVALID, "a name is not UTF-8") from None

    def end(self) -> None:
        if self._position != len(self._content):
            raise Refused(OptionReply.ERR_INVALID, "the option has more data than it says")

    def _take(self, count: int) -> bytes:
        piece = self._content[self._position : self._position + count]
        if len(piece) < count:
            raise Refused(OptionReply.ERR_INVALID, "the option ends too early")
        self._position += count
        return piece


def _flags(export: Export) -> ExportFlag:
    flags = ExportFlag.HAS_FLAGS | ExportFlag.SEND_DF
    if is_writable(export):
        return flags | (
            ExportFlag.SEND_FLUSH | ExportFlag.SEND_FUA | ExportFlag.SEND_TRIM | ExportFlag.SEND_WRITE_ZEROES
        )
    # Nothing can change, so every connection sees the same.
    return flags | ExportFlag.READ_ONLY | ExportFlag.CAN_MULTI_CONN


def _counted(text: str) -> bytes:
    encoded = text.encode()
    return _WORD.pack(len(encoded)) + encoded

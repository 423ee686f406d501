"""The client's half of the handshake: from a fresh socket to an opened export, or to a list of what there is.

    server                                     client
    NBDMAGIC IHAVEOPT flags               ->
                                          <-   flags
                                          <-   STRUCTURED_REPLY
    ACK (or a refusal: simple replies)    ->
                                          <-   SET_META_CONTEXT export, names
    META_CONTEXT id, name  (each it has)  ->
    ACK                                   ->
                                          <-   GO export, "tell the block sizes"
    INFO size, flags; INFO block sizes    ->
    ACK                                   ->   from here on: transmission

A server from before `GO` refuses it; then `EXPORT_NAME` is asked, whose only way to say no is to hang up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from engine.nbd import protocol
from engine.nbd.errors import ExportUnknown, OptionRefused, ProtocolViolation
from engine.nbd.protocol import ExportFlag, HandshakeFlag, Info, Option, OptionReply
from engine.nbd.wire import Wire

_MOST_REPLY_BYTES = 64 * 1024
_MOST_REPLIES = 100_000
_LEGACY_PADDING_BYTES = 124


class ExportListing(Struct, frozen=True):
    """One export that a server offers."""

    name: str
    description: str = ""


class Opened(Struct, frozen=True):
    """An export as the server describes it once it is opened."""

    size_bytes: int
    flags: ExportFlag
    structured: bool
    """Whether replies come in chunks; without them there are no contexts."""
    contexts: dict[int, str]
    """Name of each context that block status is told in, by the id that replies give it."""
    minimum_block_bytes: int = 1
    preferred_block_bytes: int = 4096
    maximum_block_bytes: int = protocol.MAXIMUM_PAYLOAD_BYTES


class Refusal(Exception):  # it is caught in this package and never shown
    """The server's no to one option."""

    def __init__(self, kind: int, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        try:
            name = OptionReply(self.kind).name
        except ValueError:
            name = f"refusal {self.kind - protocol.REFUSAL}"
        return f"{name} ({self.message})" if self.message else name


class Negotiation:
    """A handshake under way on one wire."""

    def __init__(self, wire: Wire, server: str) -> None:
        self._wire = wire
        self._server = server
        magic, word = wire.unpack(protocol.GREETING_MAGIC)
        if magic != protocol.NEWSTYLE_MAGIC:
            raise self._violation("what listens there does not speak NBD")
        if word != protocol.OPTION_MAGIC:
            raise self._violation("it speaks the oldstyle handshake, given up in 2015")
        flags = HandshakeFlag(wire.unpack(protocol.SHORT)[0] & 3)
        self.fixed = HandshakeFlag.FIXED_NEWSTYLE in flags
        self._padded = HandshakeFlag.NO_ZEROES not in flags
        wire.send(protocol.CLIENT_FLAGS.pack(flags))

    def open(self, export: str, contexts: Sequence[str]) -> Opened:
        """Choose an export. Raises `ExportUnknown` with the names that exist, or `OptionRefused`."""
        if not self.fixed:
            return self._open_by_name(export, structured=False)
        structured = self._ask_structured()
        negotiated: dict[int, str] = {}
        if structured and contexts:
            negotiated = self._set_contexts(export, contexts)
        try:
            return self._go(export, structured, negotiated)
        except Refusal as refusal:
            if refusal.kind == OptionReply.ERR_UNSUPPORTED:
                return self._open_by_name(export, structured=structured, contexts=negotiated)
            if refusal.kind == OptionReply.ERR_UNKNOWN:
                raise self._unknown(export) from refusal
            raise self._refused(f"The export {export!r} of {self._server}", refusal) from refusal

    def exports(self) -> tuple[ExportListing, ...]:
        """What the server offers, as far as it tells."""
        try:
            return tuple(
                _listing(payload)
                for kind, payload in self._ask(Option.LIST, b"")
                if kind == OptionReply.SERVER and len(payload) >= protocol.WORD.size
            )
        except Refusal as refusal:
            raise self._refused(f"The list of exports of {self._server}", refusal) from refusal

    def available_contexts(self, export: str, queries: Sequence[str]) -> tuple[str, ...]:
        """Names of the contexts that an export can tell block status in; without queries, all of them."""
        if not self._ask_structured():
            return ()
        try:
            answers = list(self._ask(Option.LIST_META_CONTEXT, _context_query(export, queries)))
        except Refusal as refusal:
            if refusal.kind == OptionReply.ERR_UNSUPPORTED:
                return ()
            if refusal.kind == OptionReply.ERR_UNKNOWN:
                raise self._unknown(export) from refusal
            raise self._refused(f"The list of contexts of {export!r} of {self._server}", refusal) from refusal
        return tuple(_text(payload[4:]) for kind, payload in answers if kind == OptionReply.META_CONTEXT)

    def abort(self) -> None:
        """Leave politely without having opened anything."""
        if self.fixed:
            self._wire.send(protocol.OPTION.pack(protocol.OPTION_MAGIC, Option.ABORT, 0))

    # Options, one by one

    def _ask_structured(self) -> bool:
        try:
            return bool(list(self._ask(Option.STRUCTURED_REPLY, b"")))
        except Refusal:
            return False

    def _set_contexts(self, export: str, contexts: Sequence[str]) -> dict[int, str]:
        negotiated: dict[int, str] = {}
        try:
            for kind, payload in self._ask(Option.SET_META_CONTEXT, _context_query(export, contexts)):
                if kind == OptionReply.META_CONTEXT and len(payload) >= protocol.WORD.size:
                    negotiated[protocol.WORD.unpack_from(payload)[0]] = _text(payload[4:])
        except Refusal:
            # Old servers have none; an export that does not exist is refused again, and reported, by GO.
            return {}
        return negotiated

    def _go(self, export: str, structured: bool, contexts: dict[int, str]) -> Opened:
        name = export.encode()
        question = b"".join(
            (
                protocol.WORD.pack(len(name)),
                name,
                protocol.SHORT.pack(1),
                protocol.SHORT.pack(Info.BLOCK_SIZE),
            )
        )
        facts: tuple[int, int] | None = None
        blocks = (1, 4096, protocol.MAXIMUM_PAYLOAD_BYTES)
        for kind, payload in self._ask(Option.GO, question):
            if kind != OptionReply.INFO or len(payload) < protocol.SHORT.size:
                continue
            subject = protocol.SHORT.unpack_from(payload)[0]
            if subject == Info.EXPORT and len(payload) == protocol.INFO_EXPORT.size:
                facts = protocol.INFO_EXPORT.unpack(payload)[1:]
            elif subject == Info.BLOCK_SIZE and len(payload) == protocol.INFO_BLOCK_SIZE.size:
                blocks = protocol.INFO_BLOCK_SIZE.unpack(payload)[1:]
        if facts is None:
            raise self._violation("it opened the export without telling its size")
        minimum, preferred, maximum = blocks
        if minimum < 1 or minimum & (minimum - 1) or maximum < minimum:
            raise self._violation(f"it told impossible block sizes: {minimum}, {preferred}, {maximum}")
        return Opened(
            size_bytes=facts[0],
            flags=_export_flags(facts[1]),
            structured=structured,
            contexts=contexts,
            minimum_block_bytes=minimum,
            preferred_block_bytes=preferred,
            maximum_block_bytes=maximum,
        )

    def _open_by_name(self, export: str, *, structured: bool, contexts: dict[int, str] | None = None) -> Opened:
        name = export.encode()
        self._wire.send(
            protocol.OPTION.pack(protocol.OPTION_MAGIC, Option.EXPORT_NAME, len(name)),
            name,
        )
        try:
            size_bytes, flags = self._wire.unpack(protocol.EXPORT_FACTS)
        except ConnectionError as hung_up:
            raise ExportUnknown(
                f"The NBD server at {self._server} hung up when asked for the export {export!r}.",
                next_step="check the export's name; this server is too old to say which names it has.",
            ) from hung_up
        if self._padded:
            self._wire.skip(_LEGACY_PADDING_BYTES)
        return Opened(
            size_bytes=size_bytes,
            flags=_export_flags(flags),
            structured=structured,
            contexts=contexts or {},
        )

    def _ask(self, option: Option, content: bytes) -> Iterator[tuple[int, bytes]]:
        """Ask one option; gives each answer up to and including ACK. Raises `Refusal`."""
        self._wire.send(protocol.OPTION.pack(protocol.OPTION_MAGIC, option, len(content)), content)
        for _ in range(_MOST_REPLIES):
            magic, answered, kind, length = self._wire.unpack(protocol.OPTION_REPLY)
            if magic != protocol.OPTION_REPLY_MAGIC or answered != option:
                raise self._violation(f"its answer to {option.name} is not one")
            if length > _MOST_REPLY_BYTES:
                raise self._violation(f"its answer to {option.name} has {length} bytes")
            payload = bytes(self._wire.receive(length))
            if kind >= protocol.REFUSAL:
                raise Refusal(kind, _text(payload))
            yield kind, payload
            if kind == OptionReply.ACK:
                return
        raise self._violation(f"its answer to {option.name} does not end")

    # What goes wrong, in an operator's words

    def _violation(self, what: str) -> ProtocolViolation:
        return ProtocolViolation(
            f"The NBD server at {self._server} cannot be used: {what}.",
            next_step=f"look at what listens at {self._server}.",
        )

    def _unknown(self, export: str) -> ExportUnknown:
        try:
            names = [listing.name for listing in self.exports()]
        except OptionRefused:
            names = []
        known = ", ".join(repr(name) for name in names) or "names that it does not tell"
        return ExportUnknown(
            f"The NBD server at {self._server} has no export {export!r}; it has {known}.",
            next_step="ask for an export that it has, or start it again with this one.",
            exports=names,
        )

    def _refused(self, subject: str, refusal: Refusal) -> OptionRefused:
        if refusal.kind == OptionReply.ERR_TLS_REQUIRED:
            next_step = "offer the export on a Unix socket without TLS; newhope reaches remote hosts through SSH."
        elif refusal.kind == OptionReply.ERR_SHUTDOWN:
            next_step = "start the server again: it is shutting down."
        else:
            next_step = f"look at the log of the server at {self._server}."
        return OptionRefused(f"{subject} was refused: {refusal}.", next_step=next_step)


def _export_flags(flags: int) -> ExportFlag:
    """The flags that we know; before `HAS_FLAGS` there were none to tell."""
    known = ExportFlag(flags & (2 * ExportFlag.CAN_MULTI_CONN - 1))
    return known if ExportFlag.HAS_FLAGS in known else ExportFlag(0)


def _context_query(export: str, queries: Sequence[str]) -> bytes:
    pieces = [_counted(export), protocol.WORD.pack(len(queries))]
    return b"".join(pieces + [_counted(query) for query in queries])


def _counted(text: str) -> bytes:
    encoded = text.encode()
    return protocol.WORD.pack(len(encoded)) + encoded


def _listing(payload: bytes) -> ExportListing:
    name_end = protocol.WORD.size + protocol.WORD.unpack_from(payload)[0]
    return ExportListing(_text(payload[protocol.WORD.size : name_end]), _text(payload[name_end:]))


def _text(payload: bytes) -> str:
    return payload.decode(errors="replace")

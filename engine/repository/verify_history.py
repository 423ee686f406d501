"""What earlier verifications found, kept in the repository itself as records: `records/verify/<time>-<random>`.

1. While packs are read, a record is written for every batch of them: one that is killed loses its last batch.
2. At its end a verification writes one record more, which closes its run and holds its findings.
3. A pack's age is that of its newest verdict. One that was damaged, or was never read, is older than any other.
4. A full run without a closing record was interrupted, and can be gone on with: what it found sound is not read again.
5. Once there are many records, the closing one takes over all that still counts and names the records it replaces.
   Those are then removed, where that is allowed: with credentials that cannot delete they stay, and are ignored.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec import Struct

from engine.errors import NewhopeError
from engine.repository.errors import ObjectMissing, StorageFailed, Unsound
from engine.repository.frame import FrameKind, decode_frame, encode_frame
from engine.repository.keys import Keys
from engine.repository.storage import Storage
from engine.repository.verify_model import Extent, Finding

PREFIX = "records/verify/"
RECORD_VERSION = 1
TOO_MANY_RECORDS = 64


class SoundPacks(Struct, frozen=True):
    """Packs that were found sound at about the same time."""

    at: datetime
    packs: tuple[str, ...]
    """Hex names."""


class DamagedPack(Struct, frozen=True):
    """A pack that was found damaged when the record was written."""

    pack: str
    what: str


class VerifyRecord(Struct, frozen=True):
    """One record of a verification."""

    version: int
    run: str
    extent: Extent
    began: datetime
    """When its run began; an interrupted run that is gone on with keeps its beginning."""
    written: datetime
    sound: tuple[SoundPacks, ...]
    damaged: tuple[DamagedPack, ...]
    closes: bool = False
    """Whether its run is over."""
    findings: tuple[Finding, ...] = ()
    seen: tuple[str, ...] = ()
    """Of a closing record: keys of all points and records that were there."""
    replaces: tuple[str, ...] = ()
    """Names of records that this one takes the place of."""


class Verdict(Struct, frozen=True):
    """What was last found of a pack."""

    at: datetime
    what: str | None
    """What is wrong with it; None for a sound one."""


class OpenRun(Struct, frozen=True):
    """A full verification that was interrupted."""

    run: str
    began: datetime


class History(Struct, frozen=True):
    """All that earlier verifications left."""

    names: tuple[str, ...]
    verdicts: dict[bytes, Verdict]
    open_run: OpenRun | None
    last: VerifyRecord | None
    """The newest closing record."""

    def sound_at(self, pack: bytes) -> datetime | None:
        """When a pack was last found sound, unless something else was found since."""
        verdict = self.verdicts.get(pack)
        return verdict.at if verdict is not None and verdict.what is None else None

    def known_damaged(self) -> set[bytes]:
        """Packs whose newest verdict is a bad one."""
        return {pack for pack, verdict in self.verdicts.items() if verdict.what is not None}


def last_closed(storage: Storage, keys: Keys | None = None) -> VerifyRecord | None:
    """The newest record that closes a run, without reading those before it; None if no verification came to its end."""
    names = [entry.key.removeprefix(PREFIX) for entry in storage.list(PREFIX)]
    found = (_read(storage, name, keys) for name in reversed(names))
    return next((record for record in found if record is not None and record.closes), None)


def read_history(storage: Storage, now: datetime, resume_days: float, keys: Keys | None = None) -> History:
    """Everything that still counts. Damaged records are passed over: packs are then read sooner than they need be."""
    records: dict[str, VerifyRecord] = {}
    replaced: set[str] = set()
    names = [entry.key.removeprefix(PREFIX) for entry in storage.list(PREFIX)]
    for name in reversed(names):
        if name not in replaced and (record := _read(storage, name, keys)) is not None:
            records[name] = record
            replaced.update(record.replaces)
    oldest_first = sorted(records.values(), key=lambda record: record.written)
    verdicts: dict[bytes, Verdict] = {}
    for record in oldest_first:
        _fold(record, verdicts, now)
    closing = [record for record in oldest_first if record.closes]
    open_run = _open_run(oldest_first, now - timedelta(days=resume_days))
    return History(tuple(names), verdicts, open_run, closing[-1] if closing else None)


def _read(storage: Storage, name: str, keys: Keys | None) -> VerifyRecord | None:
    key = PREFIX + name
    try:
        payload = decode_frame(key, FrameKind.RECORD, storage.read(key), keys)
        record = msgspec.json.decode(payload, type=VerifyRecord)
    except (Unsound, ObjectMissing, StorageFailed, msgspec.DecodeError):
        return None
    return record if record.version == RECORD_VERSION else None


def _fold(record: VerifyRecord, verdicts: dict[bytes, Verdict], now: datetime) -> None:
    found = [(pack, Verdict(group.at, None)) for group in record.sound for pack in group.packs]
    found += [(damaged.pack, Verdict(record.written, damaged.what)) for damaged in record.damaged]
    for text, verdict in found:
        pack = bytes.fromhex(text)
        before = verdicts.get(pack)
        # A verdict of the future comes from a clock that was wrong: it would make a pack young for ever.
        if verdict.at <= now and (before is None or before.at <= verdict.at):
            verdicts[pack] = verdict


def _open_run(records: list[VerifyRecord], not_before: datetime) -> OpenRun | None:
    full = [record for record in records if record.extent is Extent.FULL]
    newest = max(full, key=lambda record: record.began, default=None)
    if newest is None or newest.began < not_before:
        return None
    if any(record.closes for record in full if record.run == newest.run):
        return None
    return OpenRun(newest.run, newest.began)


class VerifyLog:
    """Writes the records of one run. For one thread at a time."""

    def __init__(
        self,
        storage: Storage,
        extent: Extent,
        resumed: OpenRun | None,
        batch_packs: int,
        batch_s: float,
        clock: Callable[[], datetime],
        keys: Keys | None = None,
    ) -> None:
        self._storage = storage
        self._keys = keys
        self._extent = extent
        self._clock = clock
        self._run = resumed.run if resumed else secrets.token_hex(8)
        self._began = resumed.began if resumed else clock()
        self._batch_packs = batch_packs
        self._batch = timedelta(seconds=batch_s)
        self._written = clock()
        self._sound: list[str] = []
        self._damaged: list[DamagedPack] = []
        self.unwritten: str | None = None
        """Why a record could not be written: a repository that can only be read is verified all the same."""

    def add(self, pack: bytes, what: str | None) -> None:
        """A pack was read to its end."""
        if what is None:
            self._sound.append(pack.hex())
        else:
            self._damaged.append(DamagedPack(pack.hex(), what))
        count = len(self._sound) + len(self._damaged)
        if count >= self._batch_packs or self._clock() - self._written >= self._batch:
            self.write()

    def write(self) -> None:
        """Write down what was found since the last time, if anything was."""
        if self._sound or self._damaged:
            self._create(self._record())

    def close(self, findings: tuple[Finding, ...], seen: tuple[str, ...], packs: set[bytes], history: History) -> None:
        """The run is over. `history` is read after everything else of the run was written down."""
        record = self._record()
        record = msgspec.structs.replace(record, closes=True, findings=findings, seen=seen)
        replaced: tuple[str, ...] = ()
        if len(history.names) >= TOO_MANY_RECORDS and self._may_replace(history):
            replaced = history.names
            record = _taking_over(record, history, packs)
        if self._create(record):
            # Only now: until the new record is durable, the old ones are all there is.
            with suppress(NewhopeError):
                for name in replaced:
                    self._storage.delete(PREFIX + name)

    def _may_replace(self, history: History) -> bool:
        return history.open_run is None or history.open_run.run == self._run

    def _record(self) -> VerifyRecord:
        now = self._clock()
        sound = (SoundPacks(now, tuple(self._sound)),) if self._sound else ()
        damaged = tuple(self._damaged)
        return VerifyRecord(RECORD_VERSION, self._run, self._extent, self._began, now, sound, damaged)

    def _create(self, record: VerifyRecord) -> bool:
        key = f"{PREFIX}{record.written:%Y%m%dT%H%M%S.%f}Z-{secrets.token_hex(4)}"
        try:
            self._storage.create(key, encode_frame(key, FrameKind.RECORD, msgspec.json.encode(record), self._keys))
        except NewhopeError as error:
            self.unwritten = error.what
            return False
        self._written = record.written
        self._sound, self._damaged = [], []
        return True


def _taking_over(record: VerifyRecord, history: History, packs: set[bytes]) -> VerifyRecord:
    """The record with every verdict that still counts: those of packs that are still there."""
    sound: dict[datetime, list[str]] = {}
    damaged: list[DamagedPack] = []
    newer = {pack for group in record.sound for pack in group.packs} | {one.pack for one in record.damaged}
    for pack, verdict in history.verdicts.items():
        if pack not in packs or pack.hex() in newer:
            continue
        if verdict.what is None:
            sound.setdefault(verdict.at, []).append(pack.hex())
        else:
            damaged.append(DamagedPack(pack.hex(), verdict.what))
    groups = tuple(SoundPacks(at, tuple(names)) for at, names in sorted(sound.items()))
    return msgspec.structs.replace(
        record,
        sound=(*record.sound, *groups),
        damaged=(*record.damaged, *damaged),
        replaces=history.names,
    )


def now_utc() -> datetime:
    """This moment, UTC."""
    return datetime.now(UTC)

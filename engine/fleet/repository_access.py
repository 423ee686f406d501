"""The door to every repository that the settings name: whoever needs one outside of `engine.repository` comes this way.

1. A plain repository just opens; one for which a passphrase is kept must be encrypted, or it was exchanged.
2. An encrypted one is opened with its master key if this process knows it already: finding it from a passphrase costs
   Argon2id, a good part of a second and 64 MiB, and must not be paid every ten seconds by a console that looks again.
3. Otherwise with the passphrase from a source (`passphrase_sources`), or from whoever answers a `prompt`.
4. The master keys of the repositories that a job opens are handed to its process (`keys_to_hand`, `accept_keys`), so
   that a job needs nobody who answers. They never are an argument, in the environment or in a file.

Keys are known by where a repository lies and by its id, so that another repository in its place is asked for anew.
Threads: one lock a repository, taken once its identity was read and held until its key is known, so that several who
open it at once pay, and ask, once. A storage that hangs so keeps only its own openers waiting.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Struct

from engine.errors import NewhopeError
from engine.fleet.passphrase_sources import given, has_source, is_bound_to_be_encrypted
from engine.fleet.side_by_side import ask_all
from engine.repository import MasterKey, Passphrase, Repository, RepositoryLocked, Secret
from engine.settings import Repository as RepositorySettings

Prompt = Callable[[str], Passphrase | None]
"""Puts a question to whoever is there; None if nobody wants to answer."""
TRIES = 3


class _Handed(Struct, frozen=True):
    """A master key on its way to the process of a job."""

    place: str
    id: str
    key: str


class Known:
    """The master keys that a process has found. Safe for any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: dict[str, tuple[str, MasterKey]] = {}
        self._opening: dict[str, threading.Lock] = {}

    def opening(self, kept: RepositorySettings) -> threading.Lock:
        """The lock of those who open this repository."""
        with self._lock:
            return self._opening.setdefault(_place(kept), threading.Lock())

    def key(self, kept: RepositorySettings, repository_id: str) -> MasterKey | None:
        """The key of the repository that lies there, if it has that id."""
        with self._lock:
            known_id, key = self._keys.get(_place(kept), ("", None))
        return key if known_id == repository_id else None

    def has_key(self, kept: RepositorySettings) -> bool:
        """Whether the key of a repository that lay there is known."""
        with self._lock:
            return _place(kept) in self._keys

    def remember(self, kept: RepositorySettings, repository_id: str, key: MasterKey) -> None:
        """Keep the key of a repository for as long as this process lives."""
        with self._lock:
            self._keys[_place(kept)] = (repository_id, key)

    def to_hand(self, repositories: Iterable[RepositorySettings]) -> bytes:
        """The keys of these repositories, as far as they are known."""
        places = dict.fromkeys(_place(kept) for kept in repositories)
        with self._lock:
            found = [(place, *self._keys[place]) for place in places if place in self._keys]
        handed = [_Handed(place, repository_id, key.value.hex()) for place, repository_id, key in found]
        return msgspec.json.encode(handed) if handed else b""

    def accept(self, handed: bytes) -> None:
        """Take what `to_hand` gave in another process."""
        accepted = msgspec.json.decode(handed, type=list[_Handed]) if handed else []
        with self._lock:
            self._keys |= {each.place: (each.id, MasterKey(bytes.fromhex(each.key))) for each in accepted}


known = Known()
"""Those of this process."""


def open_repository(kept: RepositorySettings, *, prompt: Prompt | None = None) -> Repository:
    """Open a repository of the settings. `prompt` is asked, three times at most, where no source gives a passphrase.

    Raises `RepositoryLocked` if nothing opens it, and what `Repository.open` raises.
    """
    question = f"Passphrase of the repository {kept.name}: "
    for attempt in range(TRIES):
        try:
            with _Unlocking(kept, prompt, question) as unlocking:
                return unlocking.open()
        except _WrongAnswer as wrong:
            if attempt == TRIES - 1:
                raise wrong.locked from None
            question = f"That opens none of its keys. Passphrase of the repository {kept.name}: "
    raise AssertionError("unreachable: the last try returns or raises")


def open_with_sheet(kept: RepositorySettings, sheet: str) -> Repository:
    """Open an encrypted repository with its recovery sheet instead of a passphrase."""
    key = MasterKey.from_sheet(sheet)
    return Repository.open(kept.location, name=kept.name, unlock=lambda _id, _name: key, expect_encrypted=True)


def secret_of(kept: RepositorySettings, prompt: Prompt | None) -> Secret:
    """What is kept or said for a repository that cannot be opened in the usual way; raises `RepositoryLocked`."""
    found = given(kept)
    answer = found.passphrase if found is not None else None
    if answer is None and prompt is not None:
        answer = prompt(f"Passphrase of the repository {kept.name}: ")
    if answer is None:
        raise _nobody_knows(kept)
    return answer


def create_repository(kept: RepositorySettings, passphrase: Passphrase | None) -> Repository:
    """Make a repository of the settings, encrypted if there is a passphrase."""
    created = Repository.create(kept.location, name=kept.name, passphrase=passphrase)
    key = created.master_key()
    if key is not None:
        known.remember(kept, created.info().id, key)
    return created


def source_that_fails(kept: RepositorySettings) -> str | None:
    """The source whose passphrase opens the repository no longer, in words; None if it does, or if there is none."""
    found = given(kept)
    if found is None:
        return None
    try:
        Repository.open(kept.location, name=kept.name, unlock=lambda _id, _name: found.passphrase).close()
    except RepositoryLocked:
        return found.source
    return None


def ask_for_passphrases(repositories: Iterable[RepositorySettings], prompt: Prompt, *, timeout_s: float = 3.0) -> None:
    """Ask for what opens those repositories that are locked and have no source of a passphrase.

    For before many are opened at once, where nobody can be asked. A repository that does not answer in time, or that
    nobody opens, is left for those who open it to complain about.
    """
    asked = [kept for kept in repositories if not has_source(kept) and not known.has_key(kept)]
    locked = ask_all({kept.name: partial(_is_locked, kept) for kept in asked}, timeout_s=timeout_s)
    for kept in asked:
        if locked.get(kept.name):
            try:
                open_repository(kept, prompt=prompt).close()
            except NewhopeError:
                continue


def keys_to_hand(repositories: Iterable[RepositorySettings]) -> bytes:
    """The master keys of these repositories, as far as they are known here, for `engine.jobs.launch`. A secret."""
    return known.to_hand(repositories)


def accept_keys(handed: bytes) -> None:
    """Know what `keys_to_hand` gave to whoever started this process."""
    known.accept(handed)


class _WrongAnswer(Exception):
    """Somebody was asked, and the answer opens nothing."""

    def __init__(self, locked: RepositoryLocked) -> None:
        super().__init__()
        self.locked = locked


class _Unlocking:
    """One opening: what it was unlocked with, and the lock that it holds meanwhile."""

    def __init__(self, kept: RepositorySettings, prompt: Prompt | None, question: str) -> None:
        self._kept = kept
        self._prompt = prompt
        self._question = question
        self._held: threading.Lock | None = None
        self._id = ""
        self._source: str | None = None
        self._asked = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._held is not None:
            self._held.release()

    def open(self) -> Repository:
        kept = self._kept
        try:
            opened = Repository.open(
                kept.location,
                name=kept.name,
                unlock=self._secret,
                expect_encrypted=is_bound_to_be_encrypted(kept),
            )
        except RepositoryLocked as locked:
            if self._asked:
                raise _WrongAnswer(locked) from None
            if self._source is not None:
                locked = RepositoryLocked(
                    f"{locked.what} The passphrase came from {self._source}.",
                    untouched=locked.untouched,
                    next_step=locked.next_step,
                )
            raise locked from None
        key = opened.master_key()
        if key is not None:
            known.remember(kept, self._id, key)
        return opened

    def _secret(self, repository_id: str, name: str) -> Secret:
        self._id = repository_id
        self._held = known.opening(self._kept)
        self._held.acquire()
        key = known.key(self._kept, repository_id)
        if key is not None:
            return key
        found = given(self._kept)
        if found is not None:
            self._source = found.source
            return found.passphrase
        answer = None if self._prompt is None else self._prompt(self._question)
        if answer is None:
            raise _nobody_knows(self._kept)
        self._asked = True
        return answer


def _is_locked(kept: RepositorySettings) -> bool:
    try:
        Repository.open(kept.location, name=kept.name).close()
    except RepositoryLocked:
        return True
    except (NewhopeError, OSError):
        return False
    return False


def _nobody_knows(kept: RepositorySettings) -> RepositoryLocked:
    return RepositoryLocked(
        f"The repository {kept.name} at {kept.location} is encrypted, and there is no passphrase for it.",
        next_step="start newhope at a terminal, which asks for it, or say where it is kept: passphrase_file or"
        " passphrase_command in the settings, or a file that $NEWHOPE_PASSPHRASE_FILE names.",
    )


def _place(kept: RepositorySettings) -> str:
    """Stands for a location, however long that is: all keys of a job must fit into one pipe."""
    return hashlib.sha256(kept.location.encode(errors="surrogateescape")).hexdigest()[:32]

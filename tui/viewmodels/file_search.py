"""Names that are looked for in all folders of a point, not only in those that were opened.

1. Folders are read breadth first, from the top of every volume that can be read: what is near the top is found first.
2. Of what is read only names that fit are kept, with the folders on the way to them: a search costs what it finds.
3. It ends when all was read, or at a limit; which of both, and what could not be read, is told.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable

from engine.errors import NewhopeError
from engine.file_entry import FileEntry
from engine.point_files import Children, Place
from tui.viewmodels.file_tree import Folder, Found, Node, fits

MOST_FOLDERS = 20_000
MOST_FOUND = 500


class FileSearch:
    """One search; held by one thread at a time."""

    def __init__(self, tops: Iterable[Node], wanted: str, children: Callable[[Place], Children]) -> None:
        self._wanted = wanted
        self._children = children
        self._waiting = deque(top for top in tops if top.is_folder)
        self._above: dict[str, Node] = {}
        """Of every folder that is known, the one that it is in."""
        self._kept: dict[str, list[FileEntry]] = {}
        self._on_the_way: set[str] = set()
        self._read = self._unread = self._fitting = 0

    def go_on(self, seconds: float) -> Found:
        """Search for that long, or to the end; what is found so far."""
        end = time.monotonic() + seconds
        while self._waiting and not self._at_limit and time.monotonic() < end:
            self._look_into(self._waiting.popleft())
        folders = {key: Folder(Children(tuple(entries))) for key, entries in self._kept.items()}
        return Found(
            folders,
            read=self._read,
            unread=self._unread,
            fitting=self._fitting,
            over=not self._waiting or self._at_limit,
            at_limit=bool(self._waiting) and self._at_limit,
        )

    @property
    def _at_limit(self) -> bool:
        return self._read >= MOST_FOLDERS or self._fitting >= MOST_FOUND

    def _look_into(self, folder: Node) -> None:
        self._read += 1
        try:
            entries = self._children(folder.place).entries
        except NewhopeError:
            self._unread += 1
            return
        for entry in entries:
            child = Node(folder.volume, entry, folder.depth + 1)
            if child.is_folder:
                self._above[child.key] = folder
                self._waiting.append(child)
            if fits(child, self._wanted):
                self._fitting += 1
                self._keep(entry, folder)

    def _keep(self, entry: FileEntry, folder: Node) -> None:
        key = Node(folder.volume, entry).key
        if key in self._on_the_way:
            return
        self._on_the_way.add(key)
        self._kept.setdefault(folder.key, []).append(entry)
        if folder.entry is not None:
            self._keep(folder.entry, self._above[folder.key])

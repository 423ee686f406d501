"""The files in a recovery point as a tree: volumes, folders that were opened, and what is under the cursor."""

from __future__ import annotations

import shlex
import stat
from collections.abc import Iterator
from datetime import UTC, datetime

from msgspec import Struct
from msgspec.structs import replace

from engine.disk_files import Volume
from engine.file_entry import FileEntry, FileKind, shown
from engine.point_files import Children, Place
from engine.repository import Point
from engine.restore import PutBackPlan
from tui.viewmodels.figures import moment, size, stamp
from tui.viewmodels.text import (
    BLANK,
    Block,
    Column,
    Line,
    Row,
    Span,
    Table,
    Tone,
    fitting,
    labelled,
    line,
    quiet,
    strong,
    wrapped,
)

MOST_SHOWN = 2000
"""Names of one folder that are shown; a filter finds the others."""
_SIGNS = {FileKind.FOLDER: "/", FileKind.SYMLINK: "@", FileKind.FILE: "", FileKind.HARD_LINK: ""}
_KINDS = {FileKind.FOLDER: "d", FileKind.SYMLINK: "l", FileKind.FILE: "-", FileKind.HARD_LINK: "-"}


class Folder(Struct, frozen=True):
    """What is known of a folder that was opened; neither of both while it is being read."""

    children: Children | None = None
    refusal: str = ""
    """Why it cannot be listed."""


class Found(Struct, frozen=True):
    """What a search of all folders has found so far: names that fit, and the folders on the way to them."""

    folders: dict[str, Folder]
    read: int
    unread: int
    """How many of those that were read could not be."""
    fitting: int
    over: bool
    at_limit: bool
    """It ended before all was read."""


class FileTree(Struct, frozen=True):
    """All that is known of a point's files. Folders are known by the keys of their nodes."""

    volumes: tuple[Volume, ...]
    folders: dict[str, Folder] = {}
    unfolded: frozenset[str] = frozenset()
    found: Found | None = None
    """Of the search for the filter that is set, if it was asked for."""


class Node(Struct, frozen=True):
    """A row of the tree: a volume, or something on it."""

    volume: Volume
    entry: FileEntry | None = None
    depth: int = 0
    hint: str = ""
    """Instead of a name: a sentence about the folder above."""

    @property
    def place(self) -> Place:
        """Where it is."""
        return Place(self.volume.name, self.entry.path if self.entry else b"")

    @property
    def key(self) -> str:
        """What names its row."""
        path = self.place.path.decode(errors="surrogateescape")
        return f"{self.volume.name}:{path}\0{self.hint}" if self.hint else f"{self.volume.name}:{path}"

    @property
    def is_folder(self) -> bool:
        """Whether it can be opened."""
        if self.hint:
            return False
        return self.volume.readable if self.entry is None else self.entry.kind is FileKind.FOLDER


def folder_of(node: Node) -> Node:
    """The folder that a node is in; of a sentence, the folder that it is about."""
    if node.hint or node.entry is None:
        return replace(node, hint="")
    above = node.entry.path.rpartition(b"/")[0]
    return replace(node, entry=replace(node.entry, path=above) if above else None)


def top_of(tree: FileTree) -> tuple[Node, ...]:
    """The volumes; of a point of guest files, which has none, the one whose folder is the top."""
    return tuple(Node(volume) for volume in tree.volumes)


def nodes_of(tree: FileTree, wanted: str = "") -> list[Node]:
    """The rows from the top, as far as folders are open; with a filter, what fits it in any that was ever opened, and
    what a search has found."""
    nodes: list[Node] = []
    for top in top_of(tree):
        if not top.volume.name:
            nodes += _below(tree, top, wanted)
            continue
        inner = list(_below(tree, top, wanted))
        if not wanted or inner or fits(top, wanted):
            nodes += [top, *inner]
    return nodes


def _below(tree: FileTree, node: Node, wanted: str) -> Iterator[Node]:
    folder = tree.folders.get(node.key)
    if (folder is None or folder.children is None) and tree.found is not None:
        folder = tree.found.folders.get(node.key)
    if folder is None or (node.key not in tree.unfolded and not wanted):
        return
    depth = node.depth + 1 if node.entry or node.volume.name else 0
    if folder.children is None:
        if not wanted:
            yield Node(node.volume, node.entry, depth, folder.refusal or "reading ...")
        return
    entries = sorted(folder.children.entries, key=lambda entry: entry.kind is not FileKind.FOLDER)
    count = 0
    for entry in entries:
        child = Node(node.volume, entry, depth)
        inner = list(_below(tree, child, wanted)) if child.is_folder else []
        if wanted and not inner and not fits(child, wanted):
            continue
        count += 1
        if count > MOST_SHOWN:
            yield Node(node.volume, node.entry, depth, f"{len(entries)} names: / looks for one among all")
            break
        yield child
        yield from inner
    if not wanted:
        yield from (Node(node.volume, node.entry, depth, f"! {remark}") for remark in folder.children.remarks)
        if not entries:
            yield Node(node.volume, node.entry, depth, "nothing in it")


def fits(node: Node, wanted: str) -> bool:
    """Whether a filter fits its name: every word must occur; a word after `!` must not."""
    name = (shown(node.entry.name) if node.entry else node.volume.name).lower()
    return all(
        (word[1:] not in name) if word.startswith("!") and len(word) > 1 else word in name
        for word in wanted.lower().split()
    )


def tree_table(tree: FileTree, nodes: list[Node], now: datetime, width: int, wanted: str = "") -> Table:
    """The rows, as a table."""
    columns = fitting(
        [
            Column("name", "NAME", 24, grows=True),
            Column("size", "SIZE", 9, right=True),
            Column("changed", "CHANGED", 11),
            Column("mode", "MODE", 10),
            Column("owner", "OWNER", 11),
        ],
        width - 1,
        give_up=("owner", "mode"),
    )
    rows = tuple(Row(node.key, tuple(_cell(column.key, node, tree, now) for column in columns)) for node in nodes)
    none = "No name that was read has these words."
    if tree.found is not None:
        none = "No name has these words." if tree.found.over else "Nothing found so far."
        none = "Nothing found in what was read." if tree.found.at_limit else none
    empty = (
        line(none if wanted else "There are no files in it."),
        line(quiet("Esc shows all again." if wanted else "")),
    )
    return Table(columns, rows, empty)


def searched_line(found: Found | None, point: Point) -> Line:
    """How far a filter looks, and what came of a search of all folders."""
    if found is None:
        return line(quiet("Only folders that were opened are looked through; "), strong("Enter"), " searches all.")
    names = f"{found.fitting:,} name{'' if found.fitting == 1 else 's'}"
    unread = f" {found.unread:,} of them could not be read." if found.unread else ""
    if not found.over:
        return line(Span("SEARCHING", Tone.NOTE), f"  {names} so far, in {found.read:,} folders ...")
    if found.at_limit:
        rest = f"more words, or: newhope files {point.manifest.vm.name}@{point.id[:8]} FOLDER -R"
        return line(Span("STOPPED", Tone.WARN), f"  at {names} in {found.read:,} folders;{unread} {rest}")
    return line(strong("SEARCHED"), f"  all {found.read:,} folders: {names}.", Span(unread, Tone.WARN))


def _cell(column: str, node: Node, tree: FileTree, now: datetime) -> Span:
    if node.hint:
        tone = Tone.WARN if node.hint.startswith("!") else Tone.QUIET
        return Span(f"{'  ' * node.depth}  {shown(node.hint)}", tone) if column == "name" else Span("")
    if node.entry is None:
        return _volume_cell(column, node, tree)
    entry = node.entry
    match column:
        case "name":
            name = f"{'  ' * node.depth}{_fold(node, tree)}{shown(entry.name)}{_SIGNS.get(entry.kind, '')}"
            bad = entry.kind is FileKind.UNREADABLE
            return Span(name, Tone.BAD if bad else Tone.STRONG if node.is_folder else Tone.PLAIN)
        case "size":
            return Span(size(entry.size_bytes) if entry.kind is FileKind.FILE else "-")
        case "changed":
            return Span(moment(_changed(entry), now))
        case "mode":
            return Span(_mode(entry), Tone.QUIET)
        case _:
            return Span(_owner(entry), Tone.QUIET)


def _volume_cell(column: str, node: Node, tree: FileTree) -> Span:
    volume = node.volume
    tone = Tone.STRONG if volume.readable else Tone.QUIET
    match column:
        case "name":
            words = [volume.name, volume.content, shown(volume.label), "root" if volume.root else ""]
            return Span(_fold(node, tree) + "  ".join(word for word in words if word), tone)
        case "size":
            return Span(size(volume.size_bytes), tone)
        case "changed":
            return Span("" if volume.readable else "no files", tone)
        case _:
            return Span("")


def _fold(node: Node, tree: FileTree) -> str:
    if not node.is_folder:
        return "  "
    way = tree.found.folders if tree.found is not None else {}
    return "- " if node.key in tree.unfolded or node.key in way else "+ "


def _mode(entry: FileEntry) -> str:
    bits = stat.filemode(stat.S_IFREG | entry.mode)[1:] if entry.mode or entry.uid >= 0 else "-" * 9
    return _KINDS.get(entry.kind, "?") + bits


def _owner(entry: FileEntry) -> str:
    if entry.uid < 0:
        return "-"
    return f"{entry.owner or entry.uid}:{entry.group or entry.gid}"


def _changed(entry: FileEntry) -> datetime | None:
    try:
        return datetime.fromtimestamp(entry.mtime_ns // 10**9, UTC) if entry.mtime_ns else None
    except (ValueError, OverflowError, OSError):
        return None


def node_lines(node: Node | None, width: int) -> Block:
    """What is under the cursor, in full."""
    if node is None:
        return ()
    if node.entry is None or node.hint:
        return _volume_lines(node, width)
    entry, changed = node.entry, _changed(node.entry)
    kind = {FileKind.SPECIAL: "device, FIFO or socket", FileKind.HARD_LINK: "another name of a file"}
    what = kind.get(entry.kind, entry.kind.value)
    about = f"{what}, {size(entry.size_bytes)} ({entry.size_bytes} bytes)" if entry.kind is FileKind.FILE else what
    return (
        *labelled("path", node.place.text, width),
        *labelled("is", f"{about}, {_mode(entry)}, {_owner(entry)}", width),
        *labelled("changed", stamp(changed) if changed else "not known", width),
        *(labelled("leads to", shown(entry.target), width) if entry.target else ()),
        *(labelled("problem", shown(entry.problem), width, tone=Tone.BAD) if entry.problem else ()),
    )


def _volume_lines(node: Node, width: int) -> Block:
    volume = node.volume
    if node.hint:
        return labelled("about", f"{node.place.text}: {shown(node.hint)}", width)
    used = f", {size(volume.used_bytes)} of it used" if volume.used_bytes >= 0 else ""
    root = "; its guest's system starts from it" if volume.root else ""
    note = shown(volume.note)
    return (
        *labelled("volume", f"{volume.name}: {volume.content}, {size(volume.size_bytes)}{used}{root}", width),
        *(labelled("note", note, width, tone=Tone.PLAIN if volume.readable else Tone.WARN) if note else ()),
    )


def get_lines(node: Node, destination: str, free_bytes: int | None, width: int) -> Block:
    """What is about to be written to this machine."""
    entry = node.entry
    one = f", {size(entry.size_bytes)}" if entry and entry.kind is FileKind.FILE else " with all that is in it"
    free = f" {size(free_bytes)} are free there." if free_bytes is not None else ""
    return (
        *labelled("write", f"{node.place.text}{one}", width),
        *labelled("as", destination, width),
        *labelled("where", f"on this machine, where the console runs.{free}", width),
        *labelled("then", "Nothing that is there is replaced; no link of the guest is followed.", width),
        *labelled("", "Programs lose their set-user-ID bits; devices and pipes are left out, and told.", width),
    )


def put_back_lines(node: Node, plan: PutBackPlan, width: int) -> Block:
    """What is about to be sent into the running guest."""
    request = plan.request
    steps = (wrapped(step, width, first=f" {number:>2}  ") for number, step in enumerate(plan.steps, 1))
    return (
        *labelled("put back", f"{node.place.text}, {size(plan.size_bytes)} in all", width),
        *labelled("into", f"the running guest of {request.vm} on {request.host}, as {request.as_path}", width),
        BLANK,
        *(row for step in steps for row in step),
        BLANK,
        *wrapped("Nothing is deleted in the guest: what had one of their names is kept beside it.", width),
    )


def command(point: Point, node: Node | None) -> str:
    """The same from the shell."""
    words = ["newhope", "files", f"{point.manifest.vm.name}@{point.id[:8]}"]
    if node is not None:
        words.append(node.place.text)
    return shlex.join(words)


def summary_of(point: Point, tree: FileTree | None, now: datetime) -> Line:
    """Of which moment the files are."""
    manifest = point.manifest
    readable = sum(volume.readable for volume in tree.volumes) if tree else 0
    volumes = f"{readable} of {len(tree.volumes)} volumes have files" if tree else ""
    if tree and tree.volumes and not tree.volumes[0].name:
        volumes = ", ".join(manifest.guest_files.paths) if manifest.guest_files else ""
    return line(
        strong(f"{manifest.vm.name}@{point.id[:8]}"),
        quiet("  as they were "),
        moment(manifest.moment, now),
        quiet(f"  {volumes}" if volumes else ""),
        quiet(f"  {manifest.consistency_note}"),
    )

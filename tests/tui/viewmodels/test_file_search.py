"""A search of all folders: what it keeps, where it ends, and what it admits."""

from __future__ import annotations

import pytest

from engine.disk_files import Volume
from engine.errors import NotFound
from engine.file_entry import FileEntry, FileKind
from engine.point_files import Children, Place
from tests.builders import make_point
from tui.viewmodels import file_search
from tui.viewmodels.file_search import FileSearch
from tui.viewmodels.file_tree import FileTree, Found, nodes_of, searched_line, top_of
from tui.viewmodels.text import plain_text

VOLUME = Volume("vda1", "ext4", 1 << 30, readable=True, root=True)
FOLDERS = {b"", b"etc", b"etc/nginx", b"etc/nginx/sites", b"srv", b"srv/broken"}
FILES = {b"etc/nginx.conf", b"etc/nginx/nginx.conf", b"etc/nginx/sites/shop", b"srv/notes"}


def children(place: Place) -> Children:
    if place.path == b"srv/broken":
        raise NotFound("It cannot be read.", next_step="look at another")
    inside = [path for path in FOLDERS | FILES if path and path.rpartition(b"/")[0] == place.path]
    kinds = [FileKind.FOLDER if path in FOLDERS else FileKind.FILE for path in sorted(inside)]
    return Children(tuple(FileEntry(path, kind) for path, kind in zip(sorted(inside), kinds, strict=True)))


def searched(wanted: str) -> tuple[list[str], Found]:
    tree = FileTree((VOLUME,))
    search = FileSearch(top_of(tree), wanted, children)
    found = search.go_on(60.0)
    return [node.key for node in nodes_of(FileTree((VOLUME,), found=found), wanted)], found


def test_names_are_found_in_folders_that_nobody_opened_with_the_folders_on_the_way_to_them() -> None:
    keys, found = searched("conf")

    assert keys == ["vda1:", "vda1:etc", "vda1:etc/nginx", "vda1:etc/nginx/nginx.conf", "vda1:etc/nginx.conf"]
    assert (found.read, found.fitting, found.over, found.at_limit) == (6, 2, True, False)


def test_a_folder_that_fits_is_found_once_although_it_is_on_the_way_too() -> None:
    keys, found = searched("nginx")

    assert keys.count("vda1:etc/nginx") == 1
    assert found.fitting == 3


def test_what_could_not_be_read_is_told() -> None:
    _, found = searched("notes")

    assert plain_text(searched_line(found, make_point())) == (
        "SEARCHED  all 6 folders: 1 name. 1 of them could not be read."
    )


def test_a_search_that_ends_at_its_limit_says_so_and_how_to_see_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_search, "MOST_FOLDERS", 2)
    point = make_point("web")

    _, found = searched("conf")

    told = plain_text(searched_line(found, point))
    assert told.startswith("STOPPED  at 1 name in 2 folders;")
    assert told.endswith(f"newhope files web@{point.id[:8]} FOLDER -R")


def test_a_search_goes_on_where_it_stood() -> None:
    search = FileSearch(top_of(FileTree((VOLUME,))), "conf", children)

    first = search.go_on(0.0)

    assert (first.read, first.over) == (0, False)
    assert search.go_on(60.0).fitting == 2

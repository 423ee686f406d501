"""`newhope files`: what an operator sees of the files in a recovery point, and gets."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from engine.errors import ExitCode
from engine.repository import Point, Repository
from tests.cli.conftest import Place, Run
from tests.disk_files import images
from tests.repository.damaging import lose_block


@pytest.fixture(scope="session")
def system_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GPT: a FAT partition and a root file system."""
    folder = tmp_path_factory.mktemp("system")
    tree = images.make_tree(folder / "tree")
    parts = images.fat(folder / "fat", tree), images.ext(folder / "ext4", tree)
    return images.partitioned(folder / "disk", "gpt", *parts)


@pytest.fixture
def point(place: Place, system_disk: Path) -> Point:
    return images.keep(place.vault, {"vda": system_disk.read_bytes()}, uuid="00000000-0000-4000-8000-000000000001")


def test_the_volumes_of_a_point_and_how_to_go_on(newhope: Run, point: Point) -> None:
    answer = newhope("files", "web@latest")

    lines = answer.out.splitlines()
    assert answer.code == ExitCode.OK, answer.err
    assert lines[1].split()[:3] == ["vda1", "fat", "SYSTEM"]
    assert lines[2].split()[:3] == ["vda2", "ext4", "system"] and lines[2].endswith("root")
    assert f"`newhope files {point.id[:8]} vda2:/`" in lines[-1]
    document = newhope("files", "web@latest", "--json").document
    assert [volume["holds"] for volume in document["volumes"]] == ["fat", "ext4"]


def test_a_path_alone_is_looked_for_on_the_root_file_system(newhope: Run, point: Point) -> None:
    listed = newhope("files", "web@latest", "/etc")
    same = newhope("files", point.id[:8], "vda2:/etc", "--json").document

    assert "-rw-r--r--" in listed.out and "hosts" in listed.out and "deep/" in listed.out
    assert "absolute -> /usr/bin" in listed.out
    entries = {entry["path"]: entry for entry in same["files"]}
    assert same["place"] == "vda2:/etc"
    assert entries["/etc/hosts"]["size_bytes"] == 20
    assert entries["/etc/hosts"]["mtime_ns"] == images.MTIME * 10**9


def test_names_that_a_terminal_would_obey_are_shown_as_text(newhope: Run, point: Point) -> None:
    answer = newhope("files", "web@latest", "/")

    assert "\x1b" not in answer.out
    assert r"odd \xff\x1b[31mname" in answer.out


def test_a_file_comes_with_its_bytes_mode_and_time(newhope: Run, point: Point, tmp_path: Path) -> None:
    answer = newhope("files", "web@latest", "/etc/hosts", "--get", tmp_path)
    named = newhope("files", "web@latest", "/usr/bin/big", "--get", tmp_path / "other name")

    assert (answer.code, named.code) == (ExitCode.OK, ExitCode.OK), answer.err + named.err
    assert (tmp_path / "hosts").read_text() == "127.0.0.1 localhost\n"
    assert (tmp_path / "hosts").stat().st_mtime == images.MTIME
    assert (tmp_path / "other name").read_bytes() == images.BIG
    mode = stat.S_IMODE((tmp_path / "other name").stat().st_mode)
    assert mode == 0o755


def test_a_whole_volume_comes_as_it_was_links_and_holes_too(
    newhope: Run, point: Point, system_disk: Path, tmp_path: Path
) -> None:
    destination = tmp_path / "all"

    answer = newhope("files", "web@latest", "vda2:/", "--get", destination, "--json")

    tree = system_disk.parent / "tree"
    assert answer.code == ExitCode.OK
    assert answer.document["written"]["left_out"] == []
    names = {path.relative_to(tree) for path in tree.rglob("*")}
    assert {path.relative_to(destination) for path in destination.rglob("*")} - {Path("lost+found")} == names
    for name in names:
        source, copy = tree / name, destination / name
        if source.is_symlink():
            assert copy.readlink() == source.readlink()
        elif source.is_file():
            assert copy.read_bytes() == source.read_bytes()
    assert (destination / "holes").stat().st_blocks * 512 < images.MIB


def test_nothing_is_overwritten_unasked(newhope: Run, point: Point, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("mine")
    (tmp_path / "etc").symlink_to("/nowhere")

    refused = newhope("files", "web@latest", "/etc/hosts", "--get", tmp_path)
    folder = newhope("files", "web@latest", "/etc", "--get", tmp_path, "--overwrite")
    kept = (tmp_path / "hosts").read_text()
    done = newhope("files", "web@latest", "/etc/hosts", "--get", tmp_path, "--overwrite")

    assert refused.code == ExitCode.CONFLICT and "--overwrite" in refused.err
    assert kept == "mine"
    assert folder.code == ExitCode.CONFLICT
    assert done.code == ExitCode.OK
    assert (tmp_path / "hosts").read_text() == "127.0.0.1 localhost\n"
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".newhope")]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["vda9:/etc"], ExitCode.NOT_FOUND, "vda2"),
        (["/etc/nothing"], ExitCode.NOT_FOUND, "nothing of that name"),
        (["etc"], ExitCode.NOT_FOUND, "VOLUME:/PATH"),
        (["/etc/hosts", "--get", "/no/such/folder"], ExitCode.NOT_FOUND, "mkdir"),
        (["--get", "/tmp"], ExitCode.USAGE, "/etc/hosts"),
        (["/etc", "--overwrite"], ExitCode.USAGE, "--get"),
        (["/etc", "-R", "--get", "/tmp"], ExitCode.USAGE, "list"),
        (["/../etc"], ExitCode.NOT_FOUND, "without .."),
        (["vda1:", "--put-back"], ExitCode.USAGE, "--put-back"),
        (["vda1:/hosts", "--put-back"], ExitCode.NOT_FOUND, "--as"),
        (["/etc/hosts", "--put-back"], ExitCode.HOST_UNREACHABLE, "alderaan"),
    ],
)
def test_what_cannot_be_meant_says_what_could(
    newhope: Run, point: Point, arguments: list[str], code: ExitCode, words: str
) -> None:
    answer = newhope("files", "web@latest", *arguments)

    assert answer.code == code
    assert answer.labels == ["what", "untouched", "next"]
    assert words in answer.err


def test_where_blocks_are_lost_a_salvage_gets_the_rest_and_says_what_is_zero(
    newhope: Run, point: Point, place: Place, tmp_path: Path
) -> None:
    with Repository.open(place.vault) as repository:
        lose_block(place.vault, repository, images.BIG[2_048_000:2_049_000])

    stopped = newhope("files", "web@latest", "/usr/bin/big", "--get", tmp_path)
    salvaged = newhope("files", "web@latest", "/usr/bin/big", "--get", tmp_path, "--salvage", "--json")

    assert stopped.code == ExitCode.REPOSITORY and "--salvage" in stopped.err
    assert salvaged.code == ExitCode.OK, salvaged.out
    got = (tmp_path / "big").read_bytes()
    lost = salvaged.document["written"]["lost"]
    assert lost and sum(each["length"] for each in lost) < len(images.BIG)
    ranges = [range(each["offset"], each["offset"] + each["length"]) for each in lost]
    different = [at for at in range(0, len(got), 512) if got[at : at + 512] != images.BIG[at : at + 512]]
    assert len(got) == len(images.BIG) and different
    assert all(any(at in each for each in ranges) for at in different)

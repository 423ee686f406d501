"""Archives that guests send: what tar programs write is read as they mean it, what they never write is refused."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.file_entry import FileEntry, FileKind
from engine.hosts.tar_stream import END, TarUnsound, archive_bytes, header_of, padded, read_entries


def entries(archive: bytes) -> dict[bytes, tuple[FileEntry, bytes]]:
    found: dict[bytes, tuple[FileEntry, bytes]] = {}
    for entry, content in read_entries(io.BytesIO(archive).read):
        data = b""
        while piece := content(1000):
            data += piece
        found[entry.path] = (entry, data)
    return found


def made_by_tarfile(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return sink.getvalue()


def member(name: str, size: int = 0, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    for field, value in fields.items():
        setattr(info, field, value)
    return info


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "etc" / ("deep" * 50) / ("er" * 60)).mkdir(parents=True)
    (root / "etc" / "hosts").write_bytes(b"127.0.0.1 localhost\n")
    (root / "etc" / ("deep" * 50) / ("er" * 60) / "end").write_bytes(os.urandom(70_000))
    (root / "etc" / "sparse").write_bytes(bytes(1 << 20) + b"end")
    (root / "etc" / os.fsdecode(b"\xff latin")).write_bytes(b"name that is no UTF-8")
    (root / "etc" / "link").symlink_to("/somewhere/" + "far" * 60)
    os.link(root / "etc" / "hosts", root / "etc" / "hosts.too")
    os.mkfifo(root / "etc" / "fifo")
    (root / "etc" / "hosts").chmod(0o4750)
    os.utime(root / "etc" / "hosts", ns=(0, 1_700_000_000_123_456_789))
    return root


@pytest.mark.parametrize(
    "program",
    [
        ["tar", "--format=posix", "-cf", "-"],
        ["tar", "--format=gnu", "-cf", "-"],
        ["busybox", "tar", "-cf", "-"],
    ],
    ids=["GNU, pax", "GNU, gnu", "busybox"],
)
def test_what_real_programs_write_is_read_as_they_mean_it(tree: Path, program: list[str]):
    if shutil.which(program[0]) is None:
        pytest.skip(f"{program[0]} is not installed")
    archive = subprocess.run([*program, "-C", str(tree), "etc"], check=True, capture_output=True).stdout

    found = entries(archive)

    assert {os.fsdecode(path) for path in found} == {
        str(path.relative_to(tree)) for path in [tree / "etc", *(tree / "etc").rglob("*")]
    }
    for path, (entry, content) in found.items():
        there = tree / os.fsdecode(path)
        status = there.lstat()
        assert entry.uid == status.st_uid
        if entry.kind in (FileKind.FILE, FileKind.FOLDER):
            assert entry.mode == status.st_mode & 0o7777
            assert entry.mtime_ns // 10**9 == status.st_mtime_ns // 10**9
        if entry.kind is FileKind.FILE:
            assert content == there.read_bytes()
        if entry.kind is FileKind.SYMLINK:
            assert entry.target == os.fsencode(os.readlink(there))
    kinds = {found[b"etc/hosts"][0].kind, found[b"etc/hosts.too"][0].kind}
    assert kinds == {FileKind.FILE, FileKind.HARD_LINK}
    assert found[b"etc/fifo"][0].kind is FileKind.FIFO


def test_fractions_of_seconds_and_extended_attributes_are_kept():
    info = member("a", pax_headers={"mtime": "1700000000.25", "SCHILY.xattr.user.tag": "gold", "comment": "x"})

    ((entry, _),) = entries(made_by_tarfile((info, b""))).values()

    assert entry.mtime_ns == 1_700_000_000_250_000_000
    assert entry.attributes == {"SCHILY.xattr.user.tag": b"gold"}


@given(
    path=st.lists(st.binary(min_size=1, max_size=120), min_size=1, max_size=4),
    size=st.integers(0, 2000),
    uid=st.integers(0, 2**31),
    mtime_ns=st.integers(0, 2**61),
    attribute=st.binary(max_size=50),
)
def test_what_is_written_here_is_read_back_the_same(
    path: list[bytes], size: int, uid: int, mtime_ns: int, attribute: bytes
):
    parts = [part.replace(b"/", b"_").replace(b"\0", b"_").replace(b".", b"_") for part in path]
    entry = FileEntry(
        b"/".join(parts),
        FileKind.FILE,
        mode=0o6751,
        uid=uid,
        gid=3,
        owner="öwner",
        group="g",
        mtime_ns=mtime_ns,
        size_bytes=size,
        attributes={"SCHILY.xattr.user.x": attribute} if attribute else {},
    )
    content = bytes(range(256)) * 8

    written = header_of(entry) + padded(content[:size])

    assert len(written) == archive_bytes(entry)
    assert list(entries(written + END).values()) == [(entry, content[:size])]


def test_real_tar_unpacks_what_is_written_here(tmp_path: Path):
    content = os.urandom(70_000)
    long_name = b"/".join([b"d" * 90] * 3)
    archive = b"".join(
        [
            header_of(FileEntry(b"etc", FileKind.FOLDER, mode=0o750)),
            header_of(FileEntry(b"etc/a", FileKind.FILE, mode=0o640, size_bytes=len(content), mtime_ns=10**18 + 5)),
            padded(content),
            header_of(FileEntry(b"etc/" + long_name, FileKind.FILE, mode=0o600, size_bytes=3)),
            padded(b"end"),
            header_of(FileEntry(b"etc/s", FileKind.SYMLINK, target=b"t" * 150)),
            header_of(FileEntry(b"etc/h", FileKind.HARD_LINK, target=b"etc/a")),
            END,
        ]
    )

    subprocess.run(["tar", "-xpf", "-", "-C", str(tmp_path)], input=archive, check=True)

    assert (tmp_path / "etc" / "a").read_bytes() == content
    assert (tmp_path / "etc" / "a").stat().st_mtime_ns == 10**18 + 5
    assert (tmp_path / "etc" / os.fsdecode(long_name)).read_bytes() == b"end"
    assert os.readlink(tmp_path / "etc" / "s") == "t" * 150
    assert (tmp_path / "etc" / "h").samefile(tmp_path / "etc" / "a")


HOSTILE = {
    "leads out": made_by_tarfile((member("../../etc/passwd"), b"")),
    "leads out in the middle": made_by_tarfile((member("a/../../b"), b"")),
    "leads out by a hard link": made_by_tarfile((member("a", type=b"1", linkname="../../etc/shadow"), b"")),
    "cut in a header": made_by_tarfile((member("a"), b""))[:300],
    "cut in a file": made_by_tarfile((member("a", 5000), bytes(5000)))[:2000],
    "without an end": made_by_tarfile((member("a"), b""))[:512],
    "nothing": b"",
    "noise": bytes(range(256)) * 20,
    "wrong checksum": b"b" + made_by_tarfile((member("a"), b""))[1:],
    "unknown type": made_by_tarfile((member("a", type=b"V"), b"")),
    "endless pax header": member("a", 1 << 32, type=b"x").tobuf(),
    "huge file": header_of(FileEntry(b"a", FileKind.FILE, size_bytes=1 << 50)) + bytes(512),
    "pax record that is none": header_of(FileEntry(b"n" * 200, FileKind.FILE)).replace(b"path=", b"path:"),
}


@pytest.mark.parametrize("archive", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_no_program_writes_is_refused(archive: bytes):
    with pytest.raises(TarUnsound):
        entries(archive)


@given(st.binary(max_size=3000), st.integers(0, 2500), st.binary(min_size=1, max_size=30))
def test_whatever_comes_is_read_or_refused_and_nothing_else(noise: bytes, place: int, patch: bytes):
    archive = bytearray(made_by_tarfile((member("a" * 150, 700, pax_headers={"x": "y"}), bytes(700))))
    archive[place : place + len(patch)] = patch
    for each in (noise, bytes(archive)):
        try:
            entries(each)
        except TarUnsound:
            continue

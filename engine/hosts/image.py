"""Disk images at rest on a host: served over NBD to be read or written, looked at, compared.

Every format QEMU knows is covered, because QEMU's own tools do it: `qemu-nbd` (qemu-nbd(8)) serves, `qemu-img`
(qemu-img(1)) looks. QEMU's locks refuse an image that a running VM or another process writes, and that is how it
should be: a running VM's disks are read by pull backup.
"""

from __future__ import annotations

import re
import socket
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec
from msgspec import Struct

from engine.errors import Conflict, ExitCode, NewhopeError, NoSpace, NotFound
from engine.hosts.files_of_host import HostFiles
from engine.hosts.reach import HERE, Reach, RunningServer
from engine.nbd import UnixAddress

CONNECTIONS = 16
START_TIMEOUT_S = 20.0

_GREETING = b"NBDMAGIC"


class ImageError(NewhopeError):
    """QEMU's tools cannot work with a disk image; the sentence carries their reason."""


class ImageInUse(ImageError, Conflict):
    """Another process, most likely a running VM, holds the image."""

    exit_code = ExitCode.CONFLICT


class ImageMissing(ImageError, NotFound):
    """There is no image at the path."""

    exit_code = ExitCode.NOT_FOUND


class ImageFull(ImageError, NoSpace):
    """The file system of the image is full."""

    exit_code = ExitCode.NO_SPACE


class ImageBitmap(Struct, frozen=True):
    """A dirty bitmap kept in a qcow2 image."""

    name: str
    granularity_bytes: int
    usable: bool
    """False if QEMU was killed while it held the bitmap: what it says is not complete (qcow2.txt, `in-use`)."""


class ImageInfo(Struct, frozen=True):
    """What QEMU says of an image."""

    format: str
    size_bytes: int
    """As the guest sees it."""
    allocated_bytes: int
    """What the file takes on its file system."""
    compat: str | None = None
    """Version of a qcow2 image, `0.10` or `1.1`; only the latter holds bitmaps."""
    backing: str | None = None
    encrypted: bool = False
    bitmaps: tuple[ImageBitmap, ...] = ()


@contextmanager
def serve(
    path: Path | str,
    format: str,  # noqa: A002
    socket_path: Path | str,
    *,
    writable: bool = False,
    bitmap: str | None = None,
    reach: Reach = HERE,
) -> Generator[UnixAddress]:
    """Serve an image as the NBD export "" on a Unix socket of this user, for the length of the context.

    Image and socket are the host's that `reach` leads to; the address is one of this machine.

    `bitmap` names a dirty bitmap of a qcow2 image that is to be told as a context (`nbd.dirty_bitmap_context`).
    Discarded and zeroed ranges become holes when it is writable. The client must flush: what it has not flushed when
    the context ends may be lost. The server ends with this process, however it ends.
    Raises ImageInUse, ImageMissing, ImageFull, ImageError, MissingPackage, HostUnreachable, FilesOutOfReach.
    """
    image, listening = Path(path), Path(socket_path).absolute()
    if reach.local:
        _free_socket(listening)
    with tempfile.TemporaryFile() as complaints:
        command = _serve_command(reach.files, image, format, listening, writable, bitmap)
        with reach.serve(command, listening, complaints) as server:
            _wait_for_greeting(server, image, complaints)
            yield server.address


def info(path: Path | str, format: str | None = None, *, files: HostFiles = HERE.files) -> ImageInfo:  # noqa: A002
    """Look at an image, also at one in use. Without `format` it is probed: a guest that writes a raw disk can lie so.

    Raises ImageMissing, ImageError, MissingPackage, HostUnreachable, FilesOutOfReach.
    """
    return _described(msgspec.json.decode(_look(files, Path(path), format), type=_Info))


def layers(path: Path | str, format: str, *, files: HostFiles = HERE.files) -> tuple[ImageInfo, ...]:  # noqa: A002
    """Look at an image and at those that it is a layer over, from the top down. Raises as `info` does."""
    seen = msgspec.json.decode(_look(files, Path(path), format, "--backing-chain"), type=list[_Info])
    return tuple(_described(each) for each in seen)


def _look(files: HostFiles, image: Path, format: str | None, *more: str) -> bytes:  # noqa: A002
    command = ["qemu-img", "info", "--output=json", "--force-share", *more]
    command += ["--image-opts", _options(files, image, format)] if format else [str(image)]
    looked = files.run(command)
    if looked.exit_status != 0:
        raise _complaint(image, looked.complaints)
    return looked.output


def _described(seen: _Info) -> ImageInfo:
    specific = seen.specific.data if seen.specific is not None else _Qcow2()
    return ImageInfo(
        format=seen.format,
        size_bytes=seen.virtual_size,
        allocated_bytes=seen.actual_size,
        compat=specific.compat,
        backing=seen.backing_filename,
        encrypted=seen.encrypted,
        bitmaps=tuple(
            ImageBitmap(bitmap.name, bitmap.granularity, usable="in-use" not in bitmap.flags)
            for bitmap in specific.bitmaps
        ),
    )


def remove_bitmap(path: Path | str, format: str, bitmap: str, *, files: HostFiles = HERE.files) -> None:  # noqa: A002
    """Remove a dirty bitmap from a qcow2 image at rest, a broken one too.

    Raises ImageInUse, ImageMissing, ImageError, MissingPackage, HostUnreachable, FilesOutOfReach.
    """
    image = Path(path)
    removed = files.run(["qemu-img", "bitmap", "--remove", "--image-opts", _options(files, image, format), bitmap])
    if removed.exit_status != 0:
        raise _complaint(image, removed.complaints)


def begin_bitmap(path: Path | str, bitmap: str, *, files: HostFiles = HERE.files) -> None:
    """Let a qcow2 image at rest record from now on what is written to it; one that does so already is fine.

    Raises ImageInUse, ImageMissing, ImageError, MissingPackage, HostUnreachable, FilesOutOfReach.
    """
    image = Path(path)
    if any(each.name == bitmap for each in info(image, "qcow2", files=files).bitmaps):
        return
    options = _options(files, image, "qcow2")
    begun = files.run(["qemu-img", "bitmap", "--add", "--enable", "--image-opts", options, bitmap])
    if begun.exit_status != 0:
        raise _complaint(image, begun.complaints)


def put_over(path: Path | str, backing: str, *, files: HostFiles = HERE.files) -> None:
    """Make an empty qcow2 image a layer over something that QEMU reads raw at a URI; what that is, is not looked at.

    Raises ImageInUse, ImageMissing, ImageError, MissingPackage, HostUnreachable, FilesOutOfReach.
    """
    image = Path(path)
    done = files.run(["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", backing, str(image)])
    if done.exit_status != 0:
        raise _complaint(image, done.complaints)


def same_content(one: Path | str, other: Path | str, *, formats: tuple[str, str]) -> bool:
    """Whether a guest would read the same from two images; where one is longer, the rest must be zero.

    Raises ImageInUse, ImageMissing, ImageError, MissingPackage.
    """
    command = ["qemu-img", "compare", "-f", formats[0], "-F", formats[1], str(one), str(other)]
    compared = HERE.files.run(command, timeout_s=3600)
    if compared.exit_status > 1:
        raise _complaint(Path(one), compared.complaints)
    return compared.exit_status == 0


class _Qcow2Bitmap(Struct):
    name: str
    granularity: int
    flags: list[str] = []


class _Qcow2(Struct):
    compat: str | None = None
    bitmaps: list[_Qcow2Bitmap] = []


class _Specific(Struct):
    data: _Qcow2 = msgspec.field(default_factory=_Qcow2)


class _Info(Struct, rename="kebab"):
    """`qemu-img info --output=json`, as far as it matters here (qapi `ImageInfo`)."""

    format: str
    virtual_size: int
    actual_size: int = 0
    backing_filename: str | None = None
    encrypted: bool = False
    specific: _Specific | None = msgspec.field(name="format-specific", default=None)


def _options(files: HostFiles, image: Path, format: str) -> str:  # noqa: A002
    """The image as `--image-opts`: a plain path could be read as a URL (`http:...`) or as JSON."""
    driver = "host_device" if files.is_device(image) else "file"
    escaped = str(image).replace(",", ",,")
    return f"driver={format.replace(',', ',,')},file.driver={driver},file.filename={escaped}"


def _serve_command(
    files: HostFiles,
    image: Path,
    format: str,  # noqa: A002
    listening: Path,
    writable: bool,
    bitmap: str | None,
) -> list[str]:
    access = ["--cache=writeback", "--discard=unmap", "--detect-zeroes=unmap"] if writable else ["--read-only"]
    return [
        "qemu-nbd",
        f"--socket={listening}",
        "--persistent",
        f"--shared={CONNECTIONS}",
        *access,
        *([f"--bitmap={bitmap}"] if bitmap is not None else []),
        "--image-opts",
        _options(files, image, format),
    ]


def _free_socket(listening: Path) -> None:
    """Remove the socket of a server that has died; a second server would silently take the path of a living one."""
    if not listening.exists():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(listening))
        except OSError:
            listening.unlink(missing_ok=True)
            return
    raise Conflict(
        f"Another server already listens on {listening}.",
        next_step="Wait for the job that reads or writes this disk; newhope jobs shows it.",
    )


def _wait_for_greeting(server: RunningServer, image: Path, complaints: IO[bytes]) -> None:
    """Wait until the server speaks: it binds its socket before it opens the image, so connecting proves nothing."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            complaints.seek(0)
            raise _complaint(image, complaints.read().decode(errors="replace"))
        if _greets(server.address):
            return
        time.sleep(server.look_every_s)
    raise ImageError(
        f"qemu-nbd did not open {image} within {START_TIMEOUT_S:.0f} s.",
        next_step=f"Check that the storage under {image} answers, for example with: head -c 1M {image} | wc -c",
    )


def _greets(address: UnixAddress) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(address.path)
            return probe.recv(len(_GREETING), socket.MSG_WAITALL) == _GREETING
        except OSError:
            return False


def _complaint(image: Path, text: str) -> NewhopeError:
    """What QEMU's tools print, as the error class that callers can tell apart."""
    first = text.strip().splitlines()[0] if text.strip() else "no reason given"
    reason = re.sub(r"^qemu-\w+: |Failed to blk_new_open '.*?': |Could not open '.*?': ", "", first).rstrip(".")
    if '"write" lock' in text or "Is another process using the image" in text:
        return ImageInUse(
            f"The disk image {image} is in use by another process, most likely by its running VM.",
            next_step="Back up the running VM (newhope backup), or shut it down first.",
        )
    if "bind socket" in text or "socket path" in text:
        return ImageError(
            f"qemu-nbd cannot make its socket to serve {image}: {reason}.",
            next_step="Check that the state folder of newhope exists, is writable and has a short path.",
        )
    if "Permission denied" in text:
        return ImageError(
            f"This user may not open the disk image {image}.",
            next_step=f"Look at its owner and mode (ls -l {image}); run newhope as a user that may read and write it.",
        )
    if "No such file or directory" in text:
        return ImageMissing(
            f"The disk image {image} does not exist.", next_step=f"Look what is there: ls -l {image.parent}"
        )
    if "No space left" in text:
        return ImageFull(
            f"The file system of {image} is full.", next_step=f"Free space in {image.parent}, or choose another pool."
        )
    return ImageError(
        f"QEMU cannot open the disk image {image}: {reason}.",
        next_step=f"See what it is: qemu-img info {image}",
    )

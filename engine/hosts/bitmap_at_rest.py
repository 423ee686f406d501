"""Whether a dirty bitmap in the image of a VM that is off can be believed.

While a VM runs, QEMU and libvirt answer that; for an image at rest nobody does. A snapshot that was taken while the
bitmap counted has put another layer on top: each of the two has a bitmap of that name then, which counts only what went
to its own layer (libvirt kbase/internals/incremental-backup). They are joined when the VM runs; qemu-nbd would take the
upper one for all there is.
"""

from __future__ import annotations

from pathlib import Path

from engine.hosts import image
from engine.hosts.files_of_host import HostFiles


def why_lost(path: Path | str, format: str, name: str, *, files: HostFiles) -> str:  # noqa: A002
    """Why the bitmap does not tell all that was written since it was begun, in words; "" if it does.

    Raises ImageMissing, ImageError, MissingPackage, HostUnreachable, FilesOutOfReach.
    """
    top, *below = image.layers(path, format, files=files)
    kept = next((each for each in top.bitmaps if each.name == name), None)
    if kept is None:
        return "it is not in the image"
    if not kept.usable:
        return "QEMU was killed before it had written it down"
    if any(each.name == name for layer in below for each in layer.bitmaps):
        return "a snapshot lies on top of the image that it was begun in, and while the VM is off nobody joins the two"
    return ""

"""What the steps of a restore are called: a plan shows these names, and the work ticks them off."""

from __future__ import annotations

CHECK_TARGET = "check the target again"
PUT_BOOT_FILES = "put its boot files"
DEFINE = "define the VM"
START = "start it"
ASK_AGENT = "ask its guest agent"


def write_title(target: str) -> str:
    """The step that writes a disk."""
    return f"write {target}"

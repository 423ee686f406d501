"""Give the operator a text to paste: through the terminal (OSC 52), and always in a file as well.

Nobody tells us whether a terminal took the text, and some (and some multiplexers) never do; the file is there anyway.
"""

from __future__ import annotations

import os
from pathlib import Path

from textual.app import App

_MOST_BYTES = 74_994
"""What fits in the 100,000 bytes of an escape sequence that terminals are known to accept, as base64."""


def offer(app: App[int], text: str, folder: Path) -> str:
    """Copy `text`, and say in one sentence where it can be found."""
    if len(text.encode()) <= _MOST_BYTES:
        app.copy_to_clipboard(text)
    try:
        file = write(text, folder)
    except OSError as error:
        return f"Sent to your terminal's clipboard; no file was written: {error.strerror or error}."
    home = str(Path.home())
    shown = str(file).replace(home, "~", 1) if str(file).startswith(home) else str(file)
    return f"Copied; also in {shown}"


def write(text: str, folder: Path) -> Path:
    """Keep the text in `folder`, readable by its owner only."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = folder / "copied.txt"
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as sink:
        sink.write(text + "\n")
    return file

"""A pseudo terminal with the real `newhope` command at its other end."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyte

ROOT = Path(__file__).parents[2]


class PseudoTerminal:
    """What the operator sees and types, with every byte counted."""

    def __init__(self, master: int, pid: int, columns: int, lines: int) -> None:
        self.master = master
        self.pid = pid
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self.received = bytearray()
        self.exit_status: int | None = None

    @property
    def text(self) -> list[str]:
        """The screen, a string a line."""
        return list(self.screen.display)

    def shows(self, words: str) -> bool:
        """Whether these words are on the screen."""
        return any(words in line for line in self.text)

    def read_for(self, seconds: float) -> int:
        """Take what comes for that long; answers how many bytes."""
        before, end = len(self.received), time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and self._take(left):
            pass
        return len(self.received) - before

    def read_until(self, condition: Callable[[], bool], *, timeout_s: float = 120.0) -> None:
        """Take what comes until the condition holds."""
        begun = time.monotonic()
        while not condition():
            left = timeout_s - (time.monotonic() - begun)
            assert left > 0, "never came; the screen:\n" + "\n".join(self.text)
            self._take(min(0.1, left))

    def read_until_quiet(self, quiet_s: float = 1.0, *, timeout_s: float = 120.0) -> None:
        """Take what comes until nothing has come for a while."""
        end = time.monotonic() + timeout_s
        while self.read_for(quiet_s):
            assert time.monotonic() < end, "never quiet"

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self.master, keys.encode())

    def signal(self, number: int) -> None:
        """Send the process a signal."""
        os.kill(self.pid, number)

    def hang_up(self) -> None:
        """Tear the terminal away, as a lost SSH connection does."""
        os.close(self.master)
        self.master = -1

    def wait_for_end(self, *, timeout_s: float = 60.0) -> None:
        """Wait until the process has ended."""
        begun = time.monotonic()
        while self.exit_status is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.exit_status = os.waitstatus_to_exitcode(status)
                break
            assert time.monotonic() - begun < timeout_s, "it does not end"
            if self.master >= 0:
                self._take(0.02)
            else:
                time.sleep(0.02)

    def _take(self, timeout_s: float) -> bool:
        ready, _, _ = select.select([self.master], [], [], max(0.0, timeout_s))
        if not ready:
            return True
        try:
            data = os.read(self.master, 65536)
        except OSError:
            return False
        self.received += data
        self._stream.feed(data)
        return bool(data)


@contextmanager
def terminal(
    arguments: list[str],
    *,
    columns: int = 80,
    lines: int = 24,
    environ: Mapping[str, str] | None = None,
) -> Iterator[PseudoTerminal]:
    """Run `newhope ARGUMENTS` in a terminal of that size; it is gone afterwards, however the test ends."""
    program = "import sys; sys.argv[0] = 'newhope'; from tui.entry import main; sys.exit(main())"
    # The size of the terminal that the tests were started from would count for more than that of this one.
    others = ("NO_COLOR", "SSH_CONNECTION", "SSH_TTY", "COLUMNS", "LINES")
    wanted = {name: value for name, value in os.environ.items() if name not in others}
    wanted |= {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8", "PYTHONPATH": str(ROOT)}
    wanted |= environ or {}
    size = struct.pack("HHHH", lines, columns, 0, 0)
    pid, master = pty.fork()
    if pid == 0:
        try:
            # The size must be there before the program looks at it.
            fcntl.ioctl(0, termios.TIOCSWINSZ, size)
            os.execve(sys.executable, [sys.executable, "-c", program, *arguments], wanted)
        finally:
            os._exit(127)
    fcntl.ioctl(master, termios.TIOCSWINSZ, size)
    opened = PseudoTerminal(master, pid, columns, lines)
    try:
        yield opened
    finally:
        if opened.exit_status is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        if opened.master >= 0:
            os.close(opened.master)

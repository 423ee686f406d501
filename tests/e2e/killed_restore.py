"""Run a restore in this process, and die: killed_restore.py SETTINGS REQUEST WHEN.

It kills itself right after a note in the restore journal, when what was noted is durable and has not been done: the Nth
note, or, with KEY+N, the Nth from that with which the step KEY begins. With 0 it lives, and prints how many there
were.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import msgspec

from engine import restore
from engine.jobs import Journal, run
from engine.restore import Entry, RestoreJournal
from engine.settings import load


def main() -> None:
    settings = load(Path(sys.argv[1]))
    request = msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=restore.Request)
    key, _, number = sys.argv[3].rpartition("+")
    fatal, seen = int(number), 0
    as_it_is = RestoreJournal.save

    def save(self: RestoreJournal, entry: Entry) -> Entry:
        nonlocal seen
        saved = as_it_is(self, entry)
        if key and not saved.begun(key):
            return saved
        seen += 1
        if seen == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return saved

    RestoreJournal.save = save
    with Journal(settings.state) as journal:
        job = journal.insert(
            kind="restore", subject=request.name, host=request.to_host, spec=b"{}", lock=None, again="", untouched=""
        )
        code = run(journal, job, lambda _, context: restore.run(settings, request, context).sentence)
        failure = journal.job(job).failure
    print(seen)
    if failure is not None:
        print(failure, file=sys.stderr)
    sys.exit(int(code))


if __name__ == "__main__":
    main()

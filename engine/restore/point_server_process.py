"""The program that serves the recovery point of an instant restore: started by `point_server.ensure`, never by hand.

Its arguments are the settings file, the state folder, and the restore's id.
"""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from msgspec import structs

from engine.errors import NewhopeError
from engine.fleet import accept_keys, open_repository
from engine.hosts.reach import Offer
from engine.hosts.reaching import reach_to
from engine.jobs import take_handed
from engine.restore.journal import RestoreJournal
from engine.restore.point_server import write_down
from engine.restore.serving import disks_to_serve, served
from engine.settings import Settings, find_host, find_repository, load

_LOOK_EVERY_S = 5.0


def main() -> None:
    """Serve until it is told to end, or the restore needs it no more."""
    keys = take_handed()
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: told.set())
    try:
        accept_keys(keys)
        settings = structs.replace(load(Path(sys.argv[1])), state=Path(sys.argv[2]))
        _serve(settings, sys.argv[3], told)
    except NewhopeError as error:
        _say(f"{error.what} {error.next_step}")
        sys.exit(int(error.exit_code))


def _serve(settings: Settings, restore_id: str, told: threading.Event) -> None:
    journal = RestoreJournal(settings.state)
    entry = journal.find(restore_id)
    if entry.serving is None:
        return
    request = entry.request
    way = reach_to(find_host(settings, request.to_host))
    with (
        open_repository(find_repository(settings, request.repository)) as repository,
        closing(way.offer(Path(entry.serving.socket), entry.serving.owner)) as offer,
    ):
        point = repository.point(request.vm_uuid, request.point_id)
        owner = f"newhope, for {request.name} that runs on a point of {entry.vm}"
        with (
            repository.hold(point, owner) as unheld,
            served(repository.reader(), disks_to_serve(point, ()), offer.listening, _tell_damage),
        ):
            if unheld:
                _say(f"The point is not kept from being pruned meanwhile: {unheld}")
            offer.renew()
            write_down(journal, restore_id)
            while not told.wait(_LOOK_EVERY_S) and _is_needed(journal, restore_id):
                _keep(offer)


def _keep(offer: Offer) -> None:
    """See to it that the host's end still stands; a link that is gone may come back, and until then the guest waits."""
    try:
        if offer.renew():
            _say("The way to the host had broken, and stands again.")
    except NewhopeError as error:
        _say(f"{error.what} {error.next_step}")


def _is_needed(journal: RestoreJournal, restore_id: str) -> bool:
    entry = journal.get(restore_id)
    return entry is not None and not entry.phase.over


def _tell_damage(target: str, reason: NewhopeError) -> None:
    _say(f"{target}: {reason.what} {reason.next_step}")


def _say(text: str) -> None:
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC {text}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()

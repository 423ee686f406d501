"""Which of several backups may begin while others run: no host and no repository gets more than the settings allow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from engine.backup.plan import Request, lock_of
from engine.settings import Settings


def startable(settings: Settings, waiting: Sequence[Request], running: Sequence[Request]) -> tuple[Request, ...]:
    """Return those of `waiting`, in their order, that may begin beside `running`, which may be anybody's.

    One whose host is at work is passed over, so that it does not keep those of other hosts waiting, and so is one whose
    VM is being backed up. Never empty while something waits and nothing runs.
    """
    of_host = {host.name: host.backups_at_once for host in settings.hosts}
    of_repository = {repository.name: repository.backups_at_once for repository in settings.repositories}
    hosts = Counter(request.host for request in running)
    repositories = Counter(request.repository for request in running)
    at_work = {lock_of(request) for request in running}
    found: list[Request] = []
    for request in waiting:
        if lock_of(request) in at_work:
            continue
        if hosts[request.host] >= of_host.get(request.host, 1):
            continue
        if repositories[request.repository] >= of_repository.get(request.repository, 1):
            continue
        hosts[request.host] += 1
        repositories[request.repository] += 1
        at_work.add(lock_of(request))
        found.append(request)
    return tuple(found)


def serves(done: Request, wanted: Request) -> bool:
    """Whether a backup that somebody else asked for is as good as the one that is wanted."""
    return (
        (lock_of(done), done.repository) == (lock_of(wanted), wanted.repository)
        and (done.full or not wanted.full)
        and done.method is wanted.method
    )

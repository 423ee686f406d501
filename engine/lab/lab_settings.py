"""The lab's `newhope.toml` and its repository: ready for `newhope --config DIR/newhope.toml`."""

from __future__ import annotations

import os
import secrets

from engine.fleet import create_repository
from engine.lab.layout import Layout
from engine.repository import Passphrase
from engine.settings import Host, Level, Repository, Settings, save

MINUTE_S = 60
HOUR_S = 3600

# Some places are shared on purpose: `newhope check` must have single points of failure to find.
_PLACES = {
    "alderaan": {"site": "north", "rack": "r1", "power": "feed-a", "switch": "sw-1", "disk": "nvme-1"},
    "coruscant": {"site": "north", "rack": "r2", "power": "feed-a", "switch": "sw-1", "disk": "nvme-2"},
    "yavin": {"site": "south", "rack": "r7", "power": "feed-b", "switch": "sw-2", "disk": "hdd-1"},
}
REPOSITORY_NAME = "vault-store"
REPOSITORY_HOST = "yavin"

_LEVELS = (
    Level("gold", rpo_s=15 * MINUTE_S, rto_s=5 * MINUTE_S, copies=1, vms=("db*", "vault")),
    Level("silver", rpo_s=4 * HOUR_S, rto_s=30 * MINUTE_S, copies=1, vms=("web*", "legacy")),
    Level("bronze", rpo_s=24 * HOUR_S, rto_s=8 * HOUR_S, copies=1, default=True),
)


def settings_of(layout: Layout, host_names: tuple[str, ...]) -> Settings:
    """What the lab's settings say."""
    hosts = tuple(
        Host(
            name=name,
            uri=layout.host(name).uri,
            places=_PLACES.get(name, {}),
            pool="default",
            scratch=layout.host(name).scratch,
        )
        for name in host_names
    )
    kept = Repository(
        name=REPOSITORY_NAME,
        path=layout.repository,
        places=_PLACES[REPOSITORY_HOST],
        on_host=REPOSITORY_HOST if REPOSITORY_HOST in host_names else None,
        passphrase_file=layout.passphrase_file if layout.passphrase_file.exists() else None,
    )
    return Settings(
        file=layout.settings_file,
        hosts=hosts,
        repositories=(kept,),
        levels=_LEVELS,
        state=layout.state,
    )


def write(layout: Layout, host_names: tuple[str, ...]) -> None:
    """Write the settings and make the repository, encrypted, unless it is there."""
    layout.state.mkdir(exist_ok=True)
    if layout.repository.exists():
        save(settings_of(layout, host_names), layout.settings_file)
        return
    passphrase = secrets.token_urlsafe(24)
    descriptor = os.open(layout.passphrase_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(f"{passphrase}\n")
    settings = settings_of(layout, host_names)
    save(settings, layout.settings_file)
    create_repository(settings.repositories[0], Passphrase(passphrase.encode())).close()

"""Where a volume of a host's pool will lie, from the host as it was last seen."""

from __future__ import annotations

from pathlib import PurePosixPath

from engine.hosts.model import HostSnapshot


def path_in_pool(target: HostSnapshot, pool: str, name: str) -> str:
    """The path of a volume; empty if the pool is not known, or has no folder."""
    folder = next((each.path for each in target.pools if each.name == pool), None)
    return str(PurePosixPath(folder) / name) if folder else ""

"""The lanes of all configured hosts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from types import TracebackType

from engine.hosts.lane import CLOSE_TIMEOUT_S, HostLane
from engine.settings.find import find_host
from engine.settings.model import Settings


class HostLanes(Mapping[str, HostLane]):
    """The lanes of every host of the settings, by name. Used as a context manager, it closes them all at its end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lanes = {host.name: HostLane(host) for host in settings.hosts}

    def __getitem__(self, name: str) -> HostLane:
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[find_host(self._settings, name).name]
        return lane

    def __contains__(self, name: object) -> bool:
        return name in self._lanes

    def __iter__(self) -> Iterator[str]:
        return iter(self._lanes)

    def __len__(self) -> int:
        return len(self._lanes)

    def close(self) -> None:
        """Close every lane, side by side."""
        deadline = time.monotonic() + CLOSE_TIMEOUT_S
        for lane in self._lanes.values():
            lane.begin_close()
        for lane in self._lanes.values():
            lane.finish_close(deadline - time.monotonic())

    def __enter__(self) -> HostLanes:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

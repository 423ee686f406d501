"""A repository that cannot be looked into: nothing can be restored from it or backed up to it."""

from __future__ import annotations

from collections.abc import Iterator

from engine.resilience.finding import Finding, Severity
from engine.resilience.scene import Scene

CHECK = "repository-unreachable"


def check(scene: Scene) -> Iterator[Finding]:
    """One finding for each repository."""
    for view in scene.fleet.repositories:
        if view.reachable:
            yield Finding(CHECK, Severity.OK, view.name, f"{view.name} can be read.")
            continue
        yield Finding(
            check=CHECK,
            severity=Severity.FAIL,
            subject=view.name,
            what=f"The repository {view.name} cannot be looked into.",
            why="Its recovery points cannot be restored while it is away, and no new ones can be kept there.",
            evidence=(f"path: {view.path}", f"reason: {view.reason or 'none was given'}"),
            fix=(view.next_step or f"make {view.path} available again",),
        )

"""A repository in which something failed its checks."""

from __future__ import annotations

from collections.abc import Iterator

from engine.resilience.finding import Finding, Severity
from engine.resilience.scene import Scene
from engine.resilience.wording import counted

CHECK = "repository-damaged"
_MOST_LINES = 5


def check(scene: Scene) -> Iterator[Finding]:
    """One finding for each repository that could be looked into."""
    for view in scene.fleet.repositories:
        if not view.reachable:
            continue
        if not view.damaged:
            yield Finding(CHECK, Severity.OK, view.name, f"Nothing that was read of {view.name} is damaged.")
            continue
        lines = [f"{damaged.key}: {damaged.reason}" for damaged in view.damaged[:_MOST_LINES]]
        if len(view.damaged) > _MOST_LINES:
            lines.append(f"and {len(view.damaged) - _MOST_LINES} more")
        yield Finding(
            check=CHECK,
            severity=Severity.FAIL,
            subject=view.name,
            what=f"{counted(len(view.damaged), 'object')} of the repository {view.name} failed their checks."
            if len(view.damaged) > 1
            else f"An object of the repository {view.name} failed its checks.",
            why="What depends on damaged objects cannot be restored, and damage on a disk tends to spread.",
            evidence=tuple(lines),
            fix=(
                f"look at the server behind {view.path}, and at its log"
                if view.path.startswith("s3://")
                else f"look at the health of the disk below {view.path}: `smartctl -a DEVICE`, `dmesg | tail`",
                "make a new recovery point of each VM, best in another repository",
            ),
        )

"""What a process that has ended left on a host."""

from __future__ import annotations

import subprocess
from pathlib import Path

from engine.hosts import scratch


def scratch_file(folder: Path, vm_uuid: str, ending: str = "vda") -> Path:
    """A scratch file of one of a VM's backup jobs."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    name = scratch.new_files(folder, vm_uuid).scratch(ending).name
    machine, _, _, *rest = name.removeprefix("newhope-").split("-")
    path = folder / "-".join(["newhope", machine, f"{ended.pid:x}", "1f", *rest])
    path.touch()
    return path

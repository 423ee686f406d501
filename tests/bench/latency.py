"""What a guest notices of a hot backup: how long its writes take meanwhile. `./dev bench --table latency`.

A lab guest writes 16 KiB after 16 KiB to its disk, past its cache (O_DIRECT), flushes each (fsync) and notes when it
began and was done. Each program then makes a full backup of it: newhope; virtnbdbackup; and libvirt's pull backup read
by `qemu-img convert`. Two views of the same writes:

- the guest's: one `dd` from its start to its end, so that starting it is in every row; a frozen file system shows here;
- the device's: QEMU's own histogram of what it took to serve a write (`block-latency-histogram-set`), to a tenth of a
  decade; what a backup's copy before write costs shows here.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.hosts import HostLane, agent
from engine.lab import Lab
from tests import command
from tests.bench import peers, virtnbd

GUEST = "web"
BOUNDARIES_NS = tuple(int(10 ** (4 + step / 10)) for step in range(61))
"""From 10 us to 10 s."""
_FILL = "dd if=/dev/urandom of=/data/bulk bs=1M count={mib} 2>/dev/null; sync"
_PROBE = """
dd if=/dev/urandom of=/data/probe bs=1M count=32 2>/dev/null; sync
: > /run/probe; touch /run/probing; at=0
while [ -e /run/probing ]; do
    begun=$EPOCHREALTIME
    dd if=/dev/zero of=/data/probe bs=16k count=1 seek=$at oflag=direct conv=notrunc,fsync 2>/dev/null || exit 1
    echo "$begun $EPOCHREALTIME" >> /run/probe
    at=$(((at + 37) % 2048))
done
"""


@dataclass
class Row:
    """One program, and what the guest saw while it worked."""

    name: str
    work: Callable[[Path], None]
    seconds: list[float] = field(default_factory=list)
    guest_ms: list[float] = field(default_factory=list)
    device: list[int] = field(default_factory=lambda: [0] * (len(BOUNDARIES_NS) + 1))
    failure: str = ""

    def line(self) -> str:
        """As a line of the table."""
        if self.failure or not self.guest_ms:
            return f"| {self.name} | {self.failure or 'no write was seen'} | | | | | | |"
        ordered = sorted(self.guest_ms)
        took = sorted(self.seconds)[len(self.seconds) // 2]
        figures = [ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)], ordered[-1]]
        figures += [self._device_ms(0.5), self._device_ms(0.99)]
        return f"| {self.name} | {took:.1f} | {len(ordered)} | {' | '.join(f'{figure:.2f}' for figure in figures)} |"

    def _device_ms(self, share: float) -> float:
        """The end of the bin in which that share of the writes is done."""
        seen = 0
        for number, writes in enumerate(self.device):
            seen += writes
            if seen >= share * sum(self.device):
                return BOUNDARIES_NS[min(number, len(BOUNDARIES_NS) - 1)] / 1e6
        return float("nan")


def main(words: list[str]) -> None:
    """Bring up a lab with one guest, let it write, run each program in turn, print the table."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--data", type=int, default=256, help="MiB on the guest's disk")
    arguments.add_argument("--rounds", type=int, default=3)
    chosen = arguments.parse_args(words)
    folder = Path(tempfile.mkdtemp(prefix="nh-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        _measure(Lab.up(folder, hosts=("alderaan",), guests=(GUEST,)), chosen.data, chosen.rounds)
    finally:
        Lab.remove(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _measure(lab: Lab, data_mib: int, rounds: int) -> None:
    lane = HostLane(lab.settings.hosts[0])
    guest = _Guest(lab, lane)
    print("filling the guest's disk", file=sys.stderr, flush=True)
    guest.run(_FILL.format(mib=data_mib), timeout_s=600)
    rows = _rows(lab)
    for number in range(rounds):
        for row in rows:
            if row.failure:
                continue
            with tempfile.TemporaryDirectory(dir=lab.folder) as result:
                guest.watch(row, Path(result))
            print(
                f"round {number + 1} of {rounds}: {row.name}: {row.failure or row.line()}", file=sys.stderr, flush=True
            )
    lane.close()
    print(f"**Writes of a guest while it is backed up**, {data_mib} MiB of data ({rounds} rounds)\n")
    print("| | backup s | writes | guest p50 ms | p99 | max | device p50 ms | p99 |\n|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(row.line())


def _rows(lab: Lab) -> list[Row]:
    newhope = command.newhope(lab.settings_file)
    scratch = lab.settings.hosts[0].scratch
    assert scratch is not None
    uri = lab.uri("alderaan")
    # It wants a password for every uri that names a transport, and so does not hear of one.
    virtnbdbackup = [
        "env",
        f"LIBVIRT_DEFAULT_URI={uri}",
        "virtnbdbackup",
        "-U",
        "",
        "-d",
        GUEST,
        "-l",
        "copy",
        "-n",
        "-S",
        str(scratch),
    ]
    virtnbdbackup += ["-f", str(scratch / "virtnbdbackup.sock"), "-o"]
    return [
        Row("nothing", lambda _: time.sleep(10)),
        Row("**newhope**", lambda _: _run([*newhope, "backup", GUEST, "--full", "--yes"])),
        Row(f"virtnbdbackup {virtnbd.version()}", lambda folder: _run([*virtnbdbackup, str(folder / "backup")])),
        Row(
            f"libvirt's pull backup, qemu-img {peers.version_of('qemu-img')} convert -c",
            lambda folder: _pull(uri, scratch, folder),
        ),
    ]


def _pull(uri: str, scratch: Path, folder: Path) -> None:
    virsh = ["virsh", "--quiet", "--connect", uri]
    socket, description = scratch / "bench.sock", folder / "backup.xml"
    description.write_text(
        f"<domainbackup mode='pull'><server transport='unix' socket='{socket}'/><disks><disk name='vda' type='file'>"
        f"<scratch file='{scratch}/bench.vda'/></disk></disks></domainbackup>"
    )
    _run([*virsh, "backup-begin", GUEST, str(description)])
    try:
        source = f"nbd+unix:///vda?socket={socket}"
        _run(["qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", source, str(folder / "vda.qcow2")])
    finally:
        _run([*virsh, "domjobabort", GUEST])


class _Guest:
    """The guest, its writes, and QEMU's count of them."""

    def __init__(self, lab: Lab, lane: HostLane) -> None:
        self._uuid = lab.uuid(GUEST)
        self._lane = lane
        self._device = next(
            each["qdev"] for each in self._ask("query-blockstats") if str(each.get("qdev", "")).find("virtio") >= 0
        )

    def run(self, script: str, *, timeout_s: float = 60) -> str:
        done = agent.run(self._lane, self._uuid, ["/bin/sh", "-c", script], timeout_s=timeout_s)
        return done.stdout.decode()

    def watch(self, row: Row, folder: Path) -> None:
        """Let a program work while the guest writes, and add what was seen to its row."""
        self.run("rm -f /run/probe")
        pid = agent.begin(self._lane, self._uuid, ["/bin/sh", "-c", _PROBE])
        while not self.run("[ -s /run/probe ] && echo yes").strip():
            time.sleep(0.2)
        self.run(": > /run/probe")
        self._ask("block-latency-histogram-set", {"id": self._device, "boundaries-write": BOUNDARIES_NS})
        begun = time.monotonic()
        try:
            row.work(folder)
        except subprocess.CalledProcessError as failure:
            row.failure = " ".join((failure.stderr or "it failed").split())[-300:]
        finally:
            row.seconds.append(time.monotonic() - begun)
            bins = self._histogram()
            lines = self.run("rm /run/probing; cat /run/probe").splitlines()
            while agent.ended(self._lane, self._uuid, pid) is None:
                time.sleep(0.2)
        row.device = [before + new for before, new in zip(row.device, bins, strict=True)]
        pairs = [line.split() for line in lines if line.count(" ") == 1]
        row.guest_ms += [1000 * (float(done) - float(start)) for start, done in pairs]

    def _histogram(self) -> Sequence[int]:
        stats = next(each for each in self._ask("query-blockstats") if each.get("qdev") == self._device)
        return stats["stats"]["wr_latency_histogram"]["bins"]

    def _ask(self, command: str, arguments: Mapping[str, object] | None = None) -> Any:
        """A command of QEMU's own, whose answer libvirt passes on."""
        import libvirt_qemu  # pyright: ignore[reportMissingTypeStubs]

        text = json.dumps({"execute": command} | ({"arguments": arguments} if arguments else {}))
        answer = self._lane.run(
            lambda connection: libvirt_qemu.qemuMonitorCommand(connection.lookupByUUIDString(self._uuid), text, 0)
        )
        return json.loads(answer)["return"]


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=os.environ)

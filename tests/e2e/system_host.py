"""A system-mode libvirt daemon of a test's own: what nearly every real host runs, without touching this machine's.

It lives in a mount namespace in which every folder that libvirt uses is empty and in memory, and in which the accounts
that a distribution's package makes exist. Its socket is where clients expect it, so whatever is run in the namespace
finds it as `qemu:///system`. It takes root.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

FOLDERS = ("/etc/libvirt", "/var/lib/libvirt", "/run/libvirt", "/var/cache/libvirt", "/var/log/libvirt")
POOL = Path("/var/lib/libvirt/images")
QEMU, CLIENTS, OPERATOR = 64055, 64056, 64060
"""Numbers of QEMU's account (Debian's), of the group that may use the daemon, and of an operator in it."""
USERS = {"client": (OPERATOR, CLIENTS), "operator": (OPERATOR, CLIENTS, QEMU)}
"""Those who are not root, with their groups: both may ask libvirt for anything."""

_CHECKOUT = Path(__file__).parents[2]
_UNDER_TEST = Path("/run/libvirt/newhope-under-test")

_SCRIPT = f"""
set -e
mount --make-rprivate /
mkdir -p {" ".join(FOLDERS)}
for folder in {" ".join(FOLDERS)}; do mount -t tmpfs -o mode=755 tmpfs $folder; done
grep -v '^libvirt' /etc/passwd > /run/libvirt/passwd
grep -v '^libvirt' /etc/group > /run/libvirt/group
echo 'libvirt-qemu:x:{QEMU}:{QEMU}::/var/lib/libvirt:/usr/sbin/nologin' >> /run/libvirt/passwd
echo 'operator:x:{OPERATOR}:{OPERATOR}::/run/libvirt/operator:/bin/sh' >> /run/libvirt/passwd
printf 'libvirt-qemu:x:{QEMU}:\\nlibvirt:x:{CLIENTS}:operator\\noperator:x:{OPERATOR}:\\n' >> /run/libvirt/group
mount --bind /run/libvirt/passwd /etc/passwd
mount --bind /run/libvirt/group /etc/group
mkdir -p {POOL} /var/lib/libvirt/boot {_UNDER_TEST} /run/libvirt/root /run/libvirt/client /run/libvirt/operator
chown {OPERATOR} /run/libvirt/client /run/libvirt/operator
mount --bind {shlex.quote(str(_CHECKOUT))} {_UNDER_TEST}
# Root may open KVM and QEMU's account may not: libvirt would then try every QEMU anew at each question.
if [ "$1" = emulated ] && [ -e /dev/kvm ]; then
    touch /run/libvirt/no-kvm
    mount --bind /run/libvirt/no-kvm /dev/kvm
    mount -o remount,bind,ro /dev/kvm
fi
cat > /etc/libvirt/qemu.conf <<'CONF'
stdio_handler = "file"
user = "libvirt-qemu"
group = "libvirt-qemu"
cgroup_controllers = []
namespaces = []
CONF
cat > /etc/libvirt/libvirtd.conf <<'CONF'
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_group = "libvirt"
unix_sock_rw_perms = "0770"
log_level = 3
host_uuid = "11111111-2222-4333-8444-555555555555"
CONF
exec libvirtd --config /etc/libvirt/libvirtd.conf
"""


class SystemHost:
    """The daemon, and what is run beside it."""

    def __init__(self, *, emulated: bool, log: Path) -> None:
        with log.open("ab") as output:
            self._daemon = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", _SCRIPT, "sh", "emulated" if emulated else "kvm"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | {"PATH": f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"},
                start_new_session=True,
            )
        self._wait_until_it_answers(log)

    def run(self, *words: str | Path, check: bool = True) -> str:
        """Run a program as root in the namespace; its output."""
        done = subprocess.run([*self._inside(), *words], capture_output=True, text=True, cwd="/")
        assert not check or done.returncode == 0, (words, done.stderr)
        return done.stdout

    def newhope(self, *words: str, user: str = "root") -> tuple[int, str]:
        """newhope as `root`, or another of `USERS`: exit code and all it says."""
        as_user = [] if user == "root" else _become(USERS[user])
        done = subprocess.run(
            [
                *self._inside(),
                *as_user,
                *("env", "-i", f"HOME=/run/libvirt/{user}", f"PATH={os.environ['PATH']}", "LANG=C.UTF-8"),
                *(f"PYTHONPATH={_UNDER_TEST}", "PYTHONDONTWRITEBYTECODE=1"),
                *(str(_python()), "-m", "engine.cli", *words),
            ],
            capture_output=True,
            text=True,
            cwd="/",
        )
        return done.returncode, done.stdout + done.stderr

    def told(self, *words: str, user: str = "root") -> Any:
        """What newhope answers as JSON."""
        code, text = self.newhope(*words, "--json", user=user)
        assert code == 0, text
        return json.loads(text)

    def virsh(self, *words: str) -> str:
        return self.run("virsh", "-q", "-c", "qemu:///system", *words)

    def take_in(self, source: Path, folder: Path) -> None:
        """Copy a file of this machine into the namespace, as root's."""
        target = folder / source.name
        self.run("cp", "--sparse=always", source, target)
        self.run("chown", "root:root", target)
        self.run("chmod", "0644" if folder != POOL else "0600", target)

    def stop(self) -> None:
        """End everything that lives in the namespace, and with it the namespace."""
        namespace = os.readlink(f"/proc/{self._daemon.pid}/ns/mnt")
        assert namespace != os.readlink("/proc/self/ns/mnt")
        for process in Path("/proc").iterdir():
            try:
                if process.name.isdigit() and os.readlink(process / "ns" / "mnt") == namespace:
                    os.kill(int(process.name), signal.SIGKILL)
            except OSError:
                continue
        self._daemon.wait(30)

    def _inside(self) -> list[str]:
        return ["nsenter", "--target", str(self._daemon.pid), "--mount", "--"]

    def _wait_until_it_answers(self, log: Path) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if self._daemon.poll() is not None:
                raise AssertionError(log.read_text(errors="replace"))
            # Until the script has made it private, the namespace is a copy in which this machine's libvirt is seen.
            if str(_UNDER_TEST) in self._mounts() and self.run("virsh", "-c", "qemu:///system", "uri", check=False):
                return
            time.sleep(0.2)
        raise AssertionError(log.read_text(errors="replace"))

    def _mounts(self) -> str:
        return Path(f"/proc/{self._daemon.pid}/mountinfo").read_text()


def _become(groups: tuple[int, ...]) -> list[str]:
    number = str(OPERATOR)
    return ["setpriv", "--reuid", number, "--regid", number, "--groups", ",".join(map(str, groups)), "--"]


def why_not() -> str | None:
    """Why no such daemon can be had here; None if it can."""
    if os.geteuid() != 0:
        return "a system-mode daemon takes root"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode != 0:
        return "this machine lets nobody make a mount namespace"
    return None


def _python() -> Path:
    """This interpreter, by its name in the namespace, where every user may reach it."""
    python = Path(sys.executable)
    return _UNDER_TEST / python.relative_to(_CHECKOUT) if python.is_relative_to(_CHECKOUT) else python

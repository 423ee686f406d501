"""The one question that is asked on a host right after logging in. Pure, but for the script that the host runs."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from engine.hosts.files_of_host import PROGRAMS

SYSTEM_RUNTIME = "/run/libvirt"
_GREETING = "newhope-login"

SCRIPT = f"""\
LC_ALL=C; export LC_ALL
cache=${{XDG_CACHE_HOME:-$HOME/.cache}}
run=${{XDG_RUNTIME_DIR:-/run/user/$(id -u)}}
[ -d "$run" ] || run=$cache
look() {{ for s in "$@"; do
  case $s in /*) ;; *) s=$below/$s ;; esac
  if [ -S "$s" ]; then if [ -w "$s" ]; then echo "usable $s"; else echo "forbidden $s"; fi; fi
done; }}
echo {_GREETING}
echo "$cache"
echo "$(id -u)"
echo "$(cat /etc/machine-id 2>/dev/null)"
echo "$(for p in {" ".join(PROGRAMS)}; do command -v $p >/dev/null || printf '%s ' $p; done)"
mode=$1; shift
below={SYSTEM_RUNTIME}; [ $mode = system ] || below=$run/libvirt
found=$(look "$@")
if [ -z "$found" ] && [ $mode = session ] && [ "${{1#/}}" = "$1" ] && command -v virt-ssh-helper >/dev/null; then
  virt-ssh-helper qemu:///session </dev/null >/dev/null 2>&1
  found=$(look "$@")
fi
echo "$found"
"""
"""Answers in lines: greeting, cache folder, user's number, machine-id, missing programs, sockets. A session daemon that
does not run is started the way libvirt starts it for its own SSH transport."""


class Login(Struct, frozen=True):
    """What the host said of our login."""

    has_shell: bool
    cache: Path = Path("/")
    user_id: int | None = None
    machine_id: str | None = None
    missing_programs: tuple[str, ...] = ()
    usable_sockets: tuple[Path, ...] = ()
    forbidden_sockets: tuple[Path, ...] = ()


def read_login(said: str) -> Login:
    """The answer to `_HELLO`; without a shell there is another one, or none."""
    _, greeted, answer = said.partition(f"{_GREETING}\n")
    lines = answer.split("\n")
    if not greeted or len(lines) < 5:
        return Login(has_shell=False)
    cache, user_id, machine_id, missing, *sockets = lines
    by_word: dict[str, list[Path]] = {"usable": [], "forbidden": []}
    for line in sockets:
        word, _, path = line.partition(" ")
        if path:
            by_word[word].append(Path(path))
    return Login(
        has_shell=True,
        cache=Path(cache),
        user_id=int(user_id) if user_id.isdecimal() else None,
        machine_id=machine_id or None,
        missing_programs=tuple(missing.split()),
        usable_sockets=tuple(by_word["usable"]),
        forbidden_sockets=tuple(by_word["forbidden"]),
    )

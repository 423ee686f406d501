"""Where everything of a lab lies.

    DIR/newhope.toml            settings for `newhope --config`
    DIR/lab.json                what this lab is made of; its presence says that DIR is a lab
    DIR/repository/             the repository `vault-store`
    DIR/passphrase              what opens it; labs of before it was encrypted have none
    DIR/state/                  newhope's own state
    DIR/hosts/HOST/             one practice host: pool/ boot/ scratch/ and libvirt's XDG folders
    /run/nh-XXXX or /tmp/nh-XXXX -> DIR/hosts

The short link exists because of Unix sockets: their path must stay under 108 bytes, and libvirt appends up to 83 to a
session daemon's configuration folder (`/libvirt/qemu/channel/target/domain-ID-NAME/org.qemu.guest_agent.0`). So daemons
are given their folders by way of the link, and a lab can lie as deep as its owner likes.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from msgspec import Struct

from engine.errors import NewhopeError

SOCKET_PATH_LIMIT_BYTES = 107
_LONGEST_SOCKET = "/libvirt/qemu/channel/target/domain-999-" + "n" * 20 + "/org.qemu.guest_agent.0"
_LINK_TRIES = 16


class LabFolderUnusable(NewhopeError):
    """The folder cannot hold a lab."""


class HostLayout(Struct, frozen=True):
    """Folders of one practice host."""

    name: str
    folder: Path
    short: Path
    """The same folder by its short name, for everything that ends in a socket."""

    @property
    def pool(self) -> Path:
        """Folder of the storage pool `default`."""
        return self.folder / "pool"

    @property
    def boot(self) -> Path:
        """Folder of kernel and initial RAM disk that the host's VMs refer to."""
        return self.folder / "boot"

    @property
    def scratch(self) -> Path:
        """Folder for backup sockets and scratch files, writable by the host's QEMU."""
        return self.short / "scratch"

    @property
    def configuration(self) -> Path:
        """`XDG_CONFIG_HOME`: one letter, because the longest socket paths start with it."""
        return self.short / "c"

    @property
    def runtime(self) -> Path:
        """`XDG_RUNTIME_DIR`: libvirt's own socket is in here."""
        return self.short / "run"

    @property
    def socket(self) -> Path:
        """libvirt's socket."""
        return self.runtime / "libvirt" / "libvirt-sock"

    @property
    def uri(self) -> str:
        """How clients reach this host."""
        return f"qemu+unix:///session?socket={self.socket}"

    @property
    def daemon_mark(self) -> Path:
        """Which process the host's daemon is."""
        return self.folder / "daemon.json"

    @property
    def log(self) -> Path:
        """What the daemon had to say."""
        return self.folder / "daemon.log"


class Layout(Struct, frozen=True):
    """Folders and files of one lab."""

    folder: Path
    link: Path

    @property
    def settings_file(self) -> Path:
        """The lab's `newhope.toml`."""
        return self.folder / "newhope.toml"

    @property
    def record_file(self) -> Path:
        """The lab's own record."""
        return self.folder / "lab.json"

    @property
    def repository(self) -> Path:
        """Folder of the repository."""
        return self.folder / "repository"

    @property
    def passphrase_file(self) -> Path:
        """What opens the repository."""
        return self.folder / "passphrase"

    @property
    def state(self) -> Path:
        """newhope's state folder."""
        return self.folder / "state"

    @property
    def hosts(self) -> Path:
        """Folder of the hosts' folders."""
        return self.folder / "hosts"

    def host(self, name: str) -> HostLayout:
        """Folders of the host of that name."""
        return HostLayout(name=name, folder=self.hosts / name, short=self.link / name)

    def names(self) -> tuple[bytes, ...]:
        """Both ways in which a process of this lab names the lab's files."""
        return (os.fsencode(self.folder) + b"/", os.fsencode(self.link) + b"/")


def default_folder() -> Path:
    """`/var/lib/newhope/lab` for root, `$XDG_STATE_HOME/newhope/lab` for everyone else."""
    if os.geteuid() == 0:
        return Path("/var/lib/newhope/lab")
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "newhope" / "lab"


def layout_of(folder: Path) -> Layout:
    """The layout of the lab in `folder`, which need not exist yet. The link's name follows from the folder's."""
    folder = folder.absolute()
    hosts = folder / "hosts"
    digest = hashlib.sha256(os.fsencode(hosts)).hexdigest()
    above = Path("/run") if os.geteuid() == 0 and os.access("/run", os.W_OK) else Path("/tmp")  # noqa: S108
    for attempt in range(_LINK_TRIES):
        link = above / f"nh-{digest[attempt : attempt + 4]}"
        if not link.is_symlink() and not link.exists():
            return Layout(folder=folder, link=link)
        if link.is_symlink() and link.readlink() == hosts and link.lstat().st_uid == os.geteuid():
            return Layout(folder=folder, link=link)
    raise LabFolderUnusable(
        f"No short name under {above} is free for the lab in {folder}.",
        next_step=f"Remove links {above}/nh-* that are no longer used, or choose another --dir.",
    )


def make_link(layout: Layout) -> None:
    """Make the short link, unless it is there; refuse names that would break sockets."""
    if not layout.link.is_symlink():
        layout.link.symlink_to(layout.hosts)
    for host in layout.hosts.iterdir():
        longest = os.fsencode(f"{layout.host(host.name).configuration}{_LONGEST_SOCKET}")
        if len(longest) > SOCKET_PATH_LIMIT_BYTES:
            raise LabFolderUnusable(
                f"The host name {host.name} makes socket paths of {len(longest)} bytes; {SOCKET_PATH_LIMIT_BYTES} fit.",
                next_step="Use host names of at most 9 characters.",
            )

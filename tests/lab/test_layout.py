from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.lab import record
from engine.lab.guests import HOSTS
from engine.lab.layout import LabFolderUnusable, Layout, default_folder, layout_of, make_link

DEEP = Path("/var/lib") / ("a-folder-with-a-long-name/" * 6) / "lab"


def test_socket_paths_fit_however_deep_the_lab_lies() -> None:
    layout = layout_of(DEEP)

    for name in HOSTS:
        channel = layout.host(name).configuration / "libvirt/qemu/channel/target/domain-99-web-restored-0123456"
        assert len(os.fsencode(channel / "org.qemu.guest_agent.0")) < 108
        assert len(os.fsencode(layout.host(name).socket)) < 108


def test_two_labs_have_different_links(tmp_path: Path) -> None:
    assert layout_of(tmp_path / "a").link != layout_of(tmp_path / "b").link


def test_a_link_of_another_lab_is_not_taken(tmp_path: Path) -> None:
    wanted = layout_of(tmp_path / "lab").link
    wanted.symlink_to(tmp_path / "elsewhere")

    try:
        assert layout_of(tmp_path / "lab").link != wanted
    finally:
        wanted.unlink()


def test_the_link_stays_the_same_once_it_is_made(tmp_path: Path) -> None:
    layout = layout_of(tmp_path / "lab")
    layout.hosts.mkdir(parents=True)

    make_link(layout)

    try:
        assert layout_of(tmp_path / "lab") == layout
        assert layout.link.readlink() == layout.hosts
    finally:
        layout.link.unlink()


def test_a_host_name_that_breaks_sockets_is_refused(tmp_path: Path) -> None:
    layout = Layout(folder=tmp_path, link=tmp_path / "nh-0000")
    (layout.hosts / "a-host-with-a-very-long-name").mkdir(parents=True)

    with pytest.raises(LabFolderUnusable, match="socket paths"):
        make_link(layout)


def test_the_default_folder_follows_the_users_state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    assert default_folder() == tmp_path / "newhope" / "lab"


def test_a_folder_with_other_files_is_never_taken_for_a_lab(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(LabFolderUnusable, match="is not a lab"):
        record.require_usable(layout_of(tmp_path))

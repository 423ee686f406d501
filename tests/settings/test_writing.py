"""What is saved is what is loaded, and a crash never leaves half a file."""

from __future__ import annotations

import os
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from engine.settings import (
    Host,
    Keep,
    Level,
    Method,
    Repository,
    Rules,
    Settings,
    SettingsError,
    default_state,
    load,
    save,
)

_NAMES = st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=8) | st.sampled_from(
    ["kvm01.example.org", "node-1", "a.b-c_d"]
)
_TEXTS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12).filter(lambda text: text.strip())
_PATHS = st.lists(_TEXTS.map(lambda text: text.replace("\0", "0").replace("/", "_")), min_size=1, max_size=3).map(
    lambda parts: Path("/", *parts)
)
_PLACES = st.dictionaries(_TEXTS, _TEXTS, max_size=3)
_DURATIONS = st.integers(min_value=1, max_value=100 * 365 * 86400)

_COMMANDS = st.just(()) | st.lists(_TEXTS.map(lambda text: text.replace("\0", "0")), max_size=2).map(
    lambda words: ("/usr/bin/pass", *words)
)
_KEEPS = st.builds(Keep, *(st.integers(0, 400) for _ in Keep.__struct_fields__)).filter(lambda keep: keep != Keep())


@st.composite
def _settings(draw: st.DrawFn) -> Settings:
    host_names = draw(st.lists(_NAMES, unique=True, min_size=1, max_size=4))
    hosts = tuple(
        Host(
            name=name,
            uri=f"qemu+unix:///session?socket=/run/{number}",
            places=draw(_PLACES),
            pool=draw(st.none() | _TEXTS),
            scratch=draw(st.none() | _PATHS),
            backups_at_once=draw(st.integers(1, 5)),
        )
        for number, name in enumerate(host_names)
    )
    repositories = tuple(
        Repository(
            name=name,
            path=draw(_PATHS) / f"unique-{number}",
            places=draw(_PLACES),
            on_host=draw(st.none() | st.sampled_from(host_names)),
            passphrase_file=(file := draw(st.none() | _PATHS)),
            passphrase_command=() if file else draw(_COMMANDS),
            backups_at_once=draw(st.integers(1, 5)),
            allow_plain=draw(st.booleans()),
        )
        for number, name in enumerate(draw(st.lists(_NAMES, unique=True, max_size=3)))
    )
    level_names = draw(st.lists(_NAMES, unique=True, max_size=4))
    default = draw(st.none() | st.sampled_from(level_names)) if level_names else None
    levels = tuple(
        Level(
            name=name,
            rpo_s=draw(_DURATIONS),
            rto_s=draw(_DURATIONS),
            method=draw(st.sampled_from(Method)),
            copies=draw(st.integers(1, 9)),
            vms=(f"{number}-*", f"{number}_[ab]?"),
            tags=draw(st.just(()) | st.just((f"tag-{number}",))),
            default=name == default,
            keep=draw(st.none() | _KEEPS),
        )
        for number, name in enumerate(level_names)
    )
    exclude = draw(st.just(Rules()) | st.just(Rules(("tmp-*",), (host_names[0],), ("nobackup",))))
    return Settings(Path("/replaced"), hosts, repositories, levels, draw(_PATHS), exclude)


@given(_settings())
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_what_is_saved_reads_back_as_the_same_values(tmp_path: Path, written: Settings) -> None:
    file = tmp_path / "newhope.toml"
    written = Settings(
        file=file,
        hosts=written.hosts,
        repositories=written.repositories,
        levels=written.levels,
        state=written.state,
        exclude=written.exclude,
    )

    save(written, file)

    assert load(file) == written


def simple(**changes: object) -> Settings:
    values: dict[str, object] = {
        "file": Path("/x"),
        "hosts": (Host(name="a", uri="qemu:///system"),),
        "repositories": (),
        "levels": (),
        "state": Path("/var/lib/newhope"),
    }
    return Settings(**(values | changes))  # pyright: ignore[reportArgumentType]


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    save(simple(), tmp_path / "newhope.toml")

    assert (tmp_path / "newhope.toml").stat().st_mode & 0o777 == 0o600


def test_missing_folders_are_made(tmp_path: Path) -> None:
    save(simple(), tmp_path / "config" / "newhope" / "newhope.toml")

    assert load(tmp_path / "config" / "newhope" / "newhope.toml").hosts[0].name == "a"


def test_nothing_but_the_file_is_left_in_the_folder(tmp_path: Path) -> None:
    save(simple(), tmp_path / "newhope.toml")
    save(simple(), tmp_path / "newhope.toml")

    assert [path.name for path in tmp_path.iterdir()] == ["newhope.toml"]


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real.toml").write_text("")
    (tmp_path / "link.toml").symlink_to(tmp_path / "real.toml")

    save(simple(), tmp_path / "link.toml")

    assert (tmp_path / "link.toml").is_symlink()
    assert load(tmp_path / "real.toml").hosts[0].name == "a"


def test_settings_that_could_not_be_read_back_leave_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "newhope.toml"
    save(simple(), file)
    before = file.read_bytes()

    with pytest.raises(SettingsError, match="not a libvirt URI"):
        save(simple(hosts=(Host(name="a", uri="nowhere"),)), file)

    assert file.read_bytes() == before


def test_a_failing_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "newhope.toml"
    save(simple(), file)
    before = file.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SettingsError, match="No space left on device"):
        save(simple(state=Path("/elsewhere")), file)

    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["newhope.toml"]


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SettingsError, match="cannot be written"):
        save(simple(), tmp_path / "file" / "newhope.toml")


def test_what_is_at_its_default_is_not_written(tmp_path: Path) -> None:
    file = tmp_path / "newhope.toml"

    save(simple(state=default_state()), file)

    assert "state" not in file.read_text().replace("newhope", "").splitlines()[-1]
    assert load(file).state == default_state()

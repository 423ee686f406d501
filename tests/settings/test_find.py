"""Hosts and repositories by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import ExitCode, NotFound
from engine.settings import Host, Repository, Settings, find_host, find_repository, repository_at


def settings(*, hosts: tuple[str, ...] = (), repositories: tuple[str, ...] = ()) -> Settings:
    return Settings(
        file=Path("/etc/newhope.toml"),
        hosts=tuple(Host(name=name, uri=f"qemu+ssh://{name}/system") for name in hosts),
        repositories=tuple(Repository(name=name, path=Path("/srv") / name) for name in repositories),
        levels=(),
        state=Path("/var/lib/newhope"),
    )


def test_a_host_is_found_by_its_name() -> None:
    assert find_host(settings(hosts=("a", "b")), "b").name == "b"


def test_a_misspelt_host_is_answered_with_those_that_look_alike() -> None:
    with pytest.raises(NotFound) as caught:
        find_host(settings(hosts=("alderaan", "yavin")), "Alderan")

    assert caught.value.what == 'There is no host "Alderan" in the settings.'
    assert caught.value.next_step == "did you mean alderaan?"
    assert caught.value.exit_code is ExitCode.NOT_FOUND


def test_a_host_like_no_other_is_answered_with_all_hosts() -> None:
    with pytest.raises(NotFound, match=r"alderaan and yavin\.$"):
        find_host(settings(hosts=("alderaan", "yavin")), "tatooine")


def test_without_any_host_the_answer_is_how_to_add_one() -> None:
    with pytest.raises(NotFound, match=r"\[hosts\.tatooine\]"):
        find_host(settings(), "tatooine")


def test_without_a_name_the_first_repository_of_the_file_is_meant() -> None:
    assert find_repository(settings(repositories=("vault", "attic")), None).name == "vault"


def test_a_repository_is_found_by_its_name() -> None:
    assert find_repository(settings(repositories=("vault", "attic")), "attic").name == "attic"


def test_a_misspelt_repository_is_answered_with_those_that_look_alike() -> None:
    with pytest.raises(NotFound, match="did you mean vault"):
        find_repository(settings(repositories=("vault",)), "valt")


def test_without_any_repository_the_answer_is_how_to_make_one() -> None:
    with pytest.raises(NotFound) as caught:
        find_repository(settings(), None)

    assert "newhope repo init" in caught.value.next_step


def test_a_folder_that_no_settings_name_is_a_repository_all_the_same(tmp_path: Path) -> None:
    found = repository_at(str(tmp_path / "vault"))

    assert (found.name, found.location) == ("vault", str(tmp_path / "vault"))


def test_an_address_that_no_settings_name_is_a_repository_all_the_same() -> None:
    location = "s3://bucket/far%20away?endpoint=https://minio:9000&region=eu-1"

    found = repository_at(location)

    assert (found.name, found.location) == ("far away", location)


def test_a_misspelt_part_of_an_address_is_not_passed_over() -> None:
    with pytest.raises(NotFound, match="endpont") as caught:
        repository_at("s3://name:sesame@bucket?endpont=https://minio:9000")

    assert "sesame" not in str(caught.value)

import tomllib

from engine.cli.main import main
from engine.errors import ExitCode
from engine.repository import Passphrase, Repository
from tests.cli.conftest import Place, Run


def test_init_writes_settings_that_can_be_used_and_says_what_comes_next(newhope: Run, place: Place) -> None:
    place.settings_file.unlink()

    answer = newhope("init", "--repository", place.vault)

    assert answer.code == ExitCode.OK
    written = tomllib.loads(place.settings_file.read_text())
    assert written["repositories"]["main"]["path"] == str(place.vault)
    assert f"newhope --config {place.settings_file} repo init" in answer.out
    assert newhope("repo", "init", "--no-encryption").code == ExitCode.OK


def test_init_never_overwrites(newhope: Run, place: Place) -> None:
    before = place.settings_file.read_text()

    answer = newhope("init", "--repository", place.vault)

    assert answer.code == ExitCode.CONFLICT
    assert place.settings_file.read_text() == before


def test_init_does_not_follow_a_dangling_link(newhope: Run, place: Place) -> None:
    place.settings_file.unlink()
    place.settings_file.symlink_to(place.folder / "elsewhere")

    assert newhope("init", "--repository", place.vault).code == ExitCode.CONFLICT
    assert not (place.folder / "elsewhere").exists()


def test_init_without_a_terminal_asks_for_the_option(newhope_process: Run, place: Place) -> None:
    place.settings_file.unlink()

    answer = newhope_process("init")

    assert answer.code == ExitCode.USAGE
    assert "--repository" in answer.err


def test_without_config_it_goes_where_settings_are_looked_for(place: Place) -> None:
    assert main(["init", "--repository", str(place.vault)]) == 0

    assert (place.folder / "xdg-config" / "newhope" / "newhope.toml").exists()
    assert main(["repo", "init", "--no-encryption"]) == 0


def test_a_repository_that_is_there_is_found_and_left_as_it_is(newhope: Run, place: Place) -> None:
    place.settings_file.unlink()
    Repository.create(place.vault, passphrase=Passphrase(b"of the vault")).close()
    before = sorted(place.vault.rglob("*"))

    answer = newhope("init", "--repository", place.vault, "--host", "rescue=qemu:///session")

    assert answer.code == ExitCode.OK
    assert "There is a repository" in answer.out and "encrypted" in answer.out
    assert "restore VM@latest" in answer.out
    assert "repo init" not in answer.out
    assert sorted(place.vault.rglob("*")) == before
    assert tomllib.loads(place.settings_file.read_text())["hosts"] == {"rescue": {"uri": "qemu:///session"}}


def test_a_repository_that_cannot_be_asked_is_told_with_what_helps(newhope: Run, place: Place) -> None:
    place.settings_file.unlink()
    (place.vault / "packs").mkdir(parents=True)
    (place.vault / "newhope-repository").write_bytes(b"no identity")

    answer = newhope("init", "--repository", place.vault)

    assert answer.code == ExitCode.OK
    assert "cannot be opened now" in answer.out and "What helps: " in answer.out
    assert "repo info main" in answer.out


def test_two_hosts_of_one_name_are_refused_before_anything_is_written(newhope: Run, place: Place) -> None:
    place.settings_file.unlink()

    hosts = ["--host", "a=qemu:///system", "--host", "a=qemu:///session"]
    answer = newhope("init", "--repository", place.vault, *hosts)

    assert answer.code == ExitCode.USAGE
    assert not place.settings_file.exists()


def test_a_uri_that_is_none_is_explained_and_nothing_is_written(newhope: Run, place: Place) -> None:
    place.settings_file.unlink()

    answer = newhope("init", "--repository", place.vault, "--host", "qemu://system")

    assert answer.code == ExitCode.SETTINGS
    assert "three slashes" in answer.err
    assert not place.settings_file.exists()

import tomllib

from engine.cli.main import main
from engine.errors import ExitCode
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

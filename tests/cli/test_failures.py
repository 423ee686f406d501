"""Every failure: three labelled lines, the documented exit status, never a traceback."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from engine.cli.main import EXIT_MEANINGS, main
from engine.errors import ExitCode
from tests.cli.conftest import Place, Run


def test_a_missing_settings_file(newhope: Run, place: Place) -> None:
    place.settings_file.unlink()

    answer = newhope("vms")

    assert answer.code == ExitCode.SETTINGS
    assert answer.labels == ["what", "untouched", "next"]
    assert str(place.settings_file) in answer.err
    assert "newhope init" in answer.err


def test_a_wrong_settings_file_tells_every_problem_with_its_line(newhope: Run, place: Place) -> None:
    place.settings_file.write_text('[hosts.alderaan]\nurl = "qemu:///system"\n[levels.gold]\nrpo = "soon"\n')

    answer = newhope("hosts")

    assert answer.code == ExitCode.SETTINGS
    assert "line 2" in answer.err and "line 4" in answer.err
    assert answer.labels == ["what", "untouched", "next"]


def test_a_host_that_does_not_answer(newhope: Run) -> None:
    answer = newhope("hosts")

    assert answer.code == ExitCode.HOST_UNREACHABLE
    assert "alderaan" in answer.out and "x OFFLINE" in answer.out
    assert "next:" in answer.out


def test_a_dead_host_beside_a_live_one_is_a_line_and_no_failure(newhope: Run, place: Place) -> None:
    place.write(hosts=place.dead() + place.live())

    answer = newhope("hosts")

    assert answer.code == ExitCode.OK
    assert "x OFFLINE" in answer.out and "+ OK" in answer.out
    assert newhope("hosts", "alderaan").code == ExitCode.HOST_UNREACHABLE


def test_a_host_that_is_not_in_the_settings_names_the_nearest(newhope: Run) -> None:
    answer = newhope("hosts", "alderan")

    assert answer.code == ExitCode.NOT_FOUND
    assert "alderaan" in answer.err


def test_an_unknown_vm_names_the_nearest(newhope: Run, place: Place) -> None:
    place.write(hosts=place.live())

    answer = newhope("vms", "tset")

    assert answer.code == ExitCode.NOT_FOUND
    assert "did you mean test?" in answer.err


def test_a_missing_repository(newhope: Run, place: Place) -> None:
    for command in (["points"], ["repo", "info"], ["restore", "web@latest", "--to", "alderaan", "--dry-run"]):
        answer = newhope(*command)

        assert answer.code == ExitCode.REPOSITORY, command
        assert answer.labels == ["what", "untouched", "next"]
        assert str(place.vault) in answer.err


def test_a_damaged_repository(newhope: Run, place: Place) -> None:
    newhope("repo", "init", "--no-encryption")
    (place.vault / "newhope-repository").write_bytes(b"\0" * 64)

    assert newhope("points").code == ExitCode.REPOSITORY


def test_an_unknown_recovery_point(newhope: Run, points: object) -> None:
    wrong_vm = newhope("points", "show", "wbe@latest")
    wrong_number = newhope("points", "show", "web@-7")
    wrong_time = newhope("points", "show", "web@1999-01-01")

    assert [answer.code for answer in (wrong_vm, wrong_number, wrong_time)] == [ExitCode.NOT_FOUND] * 3
    assert "did you mean web" in wrong_vm.err
    assert "there are 2" in wrong_number.err
    assert "nearest" in wrong_time.err


def test_an_unknown_job(newhope: Run) -> None:
    answer = newhope("jobs", "show", "7")

    assert answer.code == ExitCode.NOT_FOUND
    assert "There is no job 7" in answer.err


def test_a_full_disk_under_the_journal(newhope_process: Run, place: Place) -> None:
    small = place.folder / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no small file system can be mounted here")
    try:
        place.write()
        place.settings_file.write_text(place.settings_file.read_text().replace(str(place.state), f"{small}/state"))
        with (small / "filler").open("wb", 0) as filler, pytest.raises(OSError, match="No space"):
            while True:
                filler.write(b"\0" * 4096)

        answer = newhope_process("jobs")
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)

    assert answer.code in (ExitCode.NO_SPACE, ExitCode.FAILED)
    assert answer.labels == ["what", "untouched", "next"]
    assert "Traceback" not in answer.err


def test_a_command_that_does_not_exist_names_the_nearest(newhope: Run) -> None:
    answer = newhope("bakcup", "web")

    assert answer.code == ExitCode.USAGE
    assert "newhope backup" in answer.err
    assert answer.labels == ["what", "untouched", "next"]


def test_a_wrong_option_points_to_the_help_of_its_command(newhope: Run) -> None:
    answer = newhope("points", "list", "--tomorrow")

    assert answer.code == ExitCode.USAGE
    assert "newhope points list --help" in answer.err


def test_with_json_a_failure_is_one_object_on_stdout(newhope: Run) -> None:
    answer = newhope("jobs", "show", "7", "--json")

    assert answer.err == ""
    assert answer.document["error"]["exit_code"] == answer.code == ExitCode.NOT_FOUND
    assert answer.document["error"]["name"] == "not_found"
    assert set(answer.document["error"]) == {"what", "untouched", "next_step", "exit_code", "name"}


def test_with_json_a_usage_error_is_an_object_too(newhope: Run) -> None:
    answer = newhope("--json", "hosts", "--tomorrow")

    assert answer.document["error"]["exit_code"] == answer.code == ExitCode.USAGE


def test_a_defect_names_a_file_with_the_traceback_and_shows_none(
    newhope: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("engine.settings.load", broken)

    answer = newhope("hosts")

    assert answer.code == ExitCode.DEFECT
    assert "Traceback" not in answer.err + answer.out
    assert "secret" not in answer.err
    [file] = (tmp_path / "xdg-state" / "newhope" / "defects").iterdir()
    assert str(file) in answer.err
    assert "ZeroDivisionError: secret" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_reader_that_goes_away_is_no_failure(place: Place) -> None:
    process = subprocess.Popen(
        [*place.command, "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    assert process.stdout and process.stderr
    process.stdout.close()

    error = process.stderr.read()
    process.stderr.close()

    assert process.wait() in (ExitCode.OK, ExitCode.MISSING_PACKAGE, ExitCode.FINDINGS)
    assert error == b""


def test_help_lists_every_exit_status(newhope: Run) -> None:
    text = newhope("--help").out

    assert set(EXIT_MEANINGS) == set(ExitCode)
    for code in ExitCode:
        assert f"{code.value:>3}  " in text


def test_every_command_has_help_and_groups_have_examples(newhope: Run) -> None:
    for command in ("init", "doctor", "hosts", "vms", "repo", "backup", "points", "restore", "check", "jobs", "lab"):
        answer = newhope(command, "--help")

        assert answer.code == ExitCode.OK, command
        assert "Usage: newhope" in answer.out
        if command not in ("doctor", "lab"):
            assert "Examples:" in answer.out, command


def test_without_a_command_the_help_is_shown(newhope: Run) -> None:
    assert "newhope restore web@latest --to HOST" in newhope().out


def test_the_version_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capfd.readouterr().out.startswith("newhope ")


def test_the_help_and_the_version_load_neither_libvirt_nor_the_engine() -> None:
    program = """
import sys
from engine.cli.main import main
main([sys.argv[1]])
names = ("libvirt", "textual", "sqlite3", "engine.hosts", "engine.jobs", "zstandard")
heavy = [name for name in names if name in sys.modules]
assert not heavy, heavy
"""
    for option in ("--help", "--version"):
        done = subprocess.run([os.sys.executable, "-c", program, option], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_json_stays_json_for_a_wrong_settings_file(newhope: Run, place: Place) -> None:
    place.settings_file.write_text("[hosts")

    answer = newhope("vms", "--json")

    assert json.loads(answer.out)["error"]["name"] == "settings"

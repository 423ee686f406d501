"""Backup and restore from the command line, as far as they go without guests: plans, questions, refusals."""

from engine.errors import ExitCode
from engine.repository import Point
from tests.cli.conftest import Place, Run


def test_backup_wants_a_vm_or_all(newhope: Run) -> None:
    assert newhope("backup").code == ExitCode.USAGE
    assert newhope("backup", "web", "--all").code == ExitCode.USAGE


def test_backup_of_an_unknown_vm(newhope: Run, place: Place) -> None:
    place.write(hosts=place.live())

    answer = newhope("backup", "tset", "--yes")

    assert answer.code == ExitCode.NOT_FOUND
    assert "did you mean test?" in answer.err


def test_backup_of_a_vm_on_a_dead_host(newhope: Run, points: tuple[Point, ...]) -> None:
    answer = newhope("backup", "web", "--yes")

    assert answer.code == ExitCode.HOST_UNREACHABLE
    assert "alderaan" in answer.err
    assert "its recovery points are as they were" in answer.err


def test_backup_to_an_unknown_repository(newhope: Run, place: Place) -> None:
    place.write(hosts=place.live())

    assert newhope("backup", "test", "--repository", "valut", "--yes").code == ExitCode.NOT_FOUND


def test_backup_to_a_repository_that_is_missing_starts_no_job(newhope: Run, place: Place) -> None:
    place.write(hosts=place.live())

    for what in ("test", "--all"):
        answer = newhope("backup", what, "--yes")

        assert answer.code == ExitCode.REPOSITORY
        assert "newhope repo init" in answer.err
    assert newhope("jobs", "--json").document["jobs"] == []


def test_backup_of_everything_skips_what_cannot_be_backed_up_with_its_reason(newhope: Run, place: Place) -> None:
    newhope("repo", "init", "--no-encryption")
    place.write(hosts=place.dead())

    answer = newhope("backup", "--all", "--yes")

    assert answer.code == ExitCode.FAILED
    assert "host alderaan does not answer" in answer.out
    assert "no VM that can be backed up" in answer.err


def test_backup_of_everything_names_the_vms_of_a_silent_host(
    newhope: Run, place: Place, points: tuple[Point, ...]
) -> None:
    place.write(hosts=place.dead() + place.live())

    answer = newhope("backup", "--all", "--dry-run")

    assert "skipped web on alderaan: Host alderaan does not answer." in answer.out


def test_each_backup_of_several_is_a_job_and_one_that_fails_is_named(newhope: Run, place: Place) -> None:
    newhope("repo", "init", "--no-encryption")
    place.write(hosts=place.dead() + place.live())

    answer = newhope("backup", "--all", "--yes")

    # libvirt's test driver has no disks that could be read: the job itself finds that out.
    assert answer.code == ExitCode.FAILED
    assert "1 of 1 backup failed: test." in answer.err
    jobs = newhope("jobs", "--json").document["jobs"]
    assert [(job["kind"], job["state"]) for job in jobs] == [("backup", "fail"), ("backups", "fail")]
    assert jobs[1]["steps"][0]["state"] == "fail"


def test_without_a_terminal_a_backup_must_be_confirmed_by_an_option(newhope_process: Run, place: Place) -> None:
    newhope_process("repo", "init", "--no-encryption")
    place.write(hosts=place.live())

    answer = newhope_process("backup", "test")

    assert answer.code == ExitCode.USAGE
    assert "guest:" in answer.out
    assert "--yes" in answer.err


def test_a_restore_shows_checks_steps_and_the_same_command_again(
    newhope: Run, place: Place, points: tuple[Point, ...]
) -> None:
    place.write(hosts=place.dead() + place.live())

    answer = newhope("restore", "web@latest", "--to", "coruscant", "--name", "web-2", "--dry-run")

    assert "as web-2 on coruscant" in answer.out
    assert "write vda" in answer.out
    assert f"restore web@{points[0].id} --to coruscant --name web-2" in answer.out
    assert "x FAIL" in answer.out
    assert answer.code == ExitCode.PREFLIGHT
    assert answer.labels == ["what", "untouched", "next"]


def test_a_failed_check_stops_a_restore_even_with_yes(newhope: Run, place: Place, points: tuple[Point, ...]) -> None:
    place.write(hosts=place.dead() + place.live())

    assert newhope("restore", "web@latest", "--to", "coruscant", "--yes").code == ExitCode.PREFLIGHT
    assert newhope("jobs", "--json").document["jobs"] == []


def test_a_restore_to_a_dead_host_is_stopped_by_its_checks(newhope: Run, points: tuple[Point, ...]) -> None:
    answer = newhope("restore", "web@latest", "--to", "alderaan", "--yes")

    assert answer.code in (ExitCode.PREFLIGHT, ExitCode.HOST_UNREACHABLE)
    assert "alderaan" in answer.err


def test_a_restore_to_an_unknown_host(newhope: Run, points: tuple[Point, ...]) -> None:
    assert newhope("restore", "web@latest", "--to", "corusant").code == ExitCode.NOT_FOUND


def test_a_network_that_is_no_mapping_is_a_usage_error(newhope: Run, points: tuple[Point, ...]) -> None:
    for wrong in ("default", "eth0=default", "0="):
        assert newhope("restore", "web", "--to", "alderaan", "--network", wrong).code == ExitCode.USAGE


def test_a_network_card_that_the_vm_does_not_have_is_a_usage_error(newhope: Run, points: tuple[Point, ...]) -> None:
    answer = newhope("restore", "web", "--to", "alderaan", "--network", "1=none")

    assert answer.code == ExitCode.USAGE
    assert "web has no network card 1" in answer.err


def test_the_plan_of_a_restore_as_a_document(newhope: Run, place: Place, points: tuple[Point, ...]) -> None:
    place.write(hosts=place.dead() + place.live())

    answer = newhope("restore", "web@-1", "--to", "coruscant", "--dry-run", "--json")

    plan = answer.document["plan"]
    assert plan["request"]["point_id"] == points[2].id
    assert plan["blocked"] is (answer.code == ExitCode.PREFLIGHT)
    assert {"steps", "checks", "command", "untouched", "size_bytes"} <= set(plan)

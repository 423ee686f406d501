"""Commands that only look: tables for people, documents for programs."""

from datetime import timedelta
from pathlib import Path

import pytest

from engine.errors import ExitCode
from engine.repository import Point, Repository
from tests.cli.conftest import Place, Run, make_point
from tests.left_by_the_dead import scratch_file

TEST_DRIVER = """<node><domain type='test'><name>web</name><memory>8192</memory>
<uuid>6695eb01-f6a4-8304-79aa-97f2502e193f</uuid><os><type arch='x86_64'>hvm</type></os></domain></node>"""


def test_hosts_as_a_document(newhope: Run, place: Place) -> None:
    place.write(hosts=place.dead() + place.live())

    hosts = newhope("hosts", "--json").document["hosts"]

    assert [(host["host"], host["status"]) for host in hosts] == [("alderaan", "offline"), ("coruscant", "online")]
    assert hosts[0]["reason"] and hosts[0]["next_step"]
    assert hosts[1]["vms"][0]["name"] == "test"


def test_vms_show_state_newest_point_and_protection(newhope: Run, place: Place) -> None:
    newhope("repo", "init", "--no-encryption")
    place.write(hosts=place.live())

    answer = newhope("vms")

    assert answer.code == ExitCode.OK
    [line] = [line for line in answer.out.splitlines() if line.startswith("test")]
    assert "> RUN" in line and "never" in line and "silver" in line and "x NEVER" in line


def test_vms_as_a_document(newhope: Run, place: Place) -> None:
    newhope("repo", "init", "--no-encryption")
    place.write(hosts=place.live())

    document = newhope("--json", "vms").document

    [vm] = document["vms"]
    assert (vm["name"], vm["host"], vm["state"]) == ("test", "coruscant", "running")
    assert vm["protection"]["state"] == "never"
    assert document["unseen"] == []


def test_a_vm_whose_host_is_dead_is_still_listed_from_its_recovery_points(
    newhope: Run, points: tuple[Point, ...]
) -> None:
    answer = newhope("vms")

    assert answer.code == ExitCode.HOST_UNREACHABLE
    assert "? UNSEEN" in answer.out
    assert {exposure["vm"] for exposure in newhope("vms", "--json").document["unseen"]} == {"web", "db-1"}


def test_a_host_that_answered_before_keeps_its_vms_and_none_is_said_to_run(newhope: Run, place: Place) -> None:
    libvirt_settings = place.folder / "test-driver.xml"
    libvirt_settings.write_text(TEST_DRIVER)
    newhope("repo", "init", "--no-encryption")
    place.write(hosts=f'[hosts.coruscant]\nuri = "test://{libvirt_settings}"\n')
    before = newhope("vms")
    libvirt_settings.unlink()

    after = newhope("vms")
    one = newhope("vms", "web")

    assert "> RUN" in before.out
    assert "? STALE" in after.out and "> RUN" not in after.out
    assert "? STALE, was running" in one.out
    assert newhope("backup", "web", "--yes").code == ExitCode.HOST_UNREACHABLE


def test_points_are_listed_newest_first_without_any_host(newhope: Run, points: tuple[Point, ...]) -> None:
    answer = newhope("points")

    lines = answer.out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [[point.id[:8], point.manifest.vm.name] for point in points]
    assert "12 m 0" in lines[1] and "5 h 03 m" in lines[3]
    assert all(len(line) <= 80 for line in lines)


def test_points_of_one_vm(newhope: Run, points: tuple[Point, ...]) -> None:
    document = newhope("points", "web", "--json").document

    assert [point["id"] for point in document["points"]] == [points[0].id, points[2].id]
    assert document["points"][0]["vm"] == "web"
    assert document["points"][0]["size_bytes"] == 256 * 1024
    assert document["points"][0]["manifest"]["consistency"] == "filesystem"


@pytest.mark.parametrize(("name", "which"), [("web@latest", 0), ("web", 0), ("web@-1", 2), ("db-1@latest", 1)])
def test_a_point_is_found_by_what_people_call_it(
    newhope: Run, points: tuple[Point, ...], name: str, which: int
) -> None:
    assert newhope("points", "show", name, "--json").document["point"]["id"] == points[which].id


def test_a_point_is_found_by_the_first_digits_of_its_id_alone(newhope: Run, points: tuple[Point, ...]) -> None:
    assert newhope("points", "show", points[1].id[:8], "--json").document["point"]["id"] == points[1].id


def test_one_point_in_full(newhope: Run, points: tuple[Point, ...]) -> None:
    text = newhope("points", "show", "web").out

    assert "its file systems were frozen" in text
    assert "full: first recovery point" in text
    assert f"newhope restore web@{points[0].id[:8]} --to HOST" in text


def test_two_vms_of_one_name_must_be_told_apart_by_uuid(newhope: Run, place: Place, points: tuple[Point, ...]) -> None:
    uuid = "11111111-0000-4000-8000-000000000000"
    with Repository.open(place.vault, name="vault") as repository:
        other = make_point(repository, "web", age=timedelta(0), uuid=uuid)

    assert newhope("points", "show", "web@latest").code == ExitCode.CONFLICT
    assert newhope("points", "show", f"{uuid}@latest", "--json").document["point"]["id"] == other.id


def test_repo_init_and_info(newhope: Run, place: Place) -> None:
    created = newhope("repo", "init", "vault", "--no-encryption")
    again = newhope("repo", "init", "--no-encryption")
    info = newhope("repo", "info", "--json").document["repository"]

    assert created.code == ExitCode.OK and str(place.vault) in created.out
    assert again.code == ExitCode.CONFLICT
    assert (info["name"], info["points"], info["format_version"]) == ("vault", 0, 1)


def test_a_repository_is_readable_by_its_path_without_any_settings(
    newhope: Run, place: Place, points: tuple[Point, ...]
) -> None:
    place.settings_file.unlink()

    assert "3 recovery points of 2 VMs" in newhope("repo", "info", place.vault).out


def test_check_ends_with_its_own_status_when_something_fails(newhope: Run, points: tuple[Point, ...]) -> None:
    answer = newhope("check")
    document = newhope("check", "--json").document

    assert answer.code == ExitCode.FINDINGS
    assert "x FAIL" in answer.out and "fix" in answer.out
    assert document["fail"] == sum(finding["severity"] == "fail" for finding in document["findings"]) > 0


def test_doctor_names_each_need_with_its_purpose(newhope: Run) -> None:
    needs = newhope("doctor", "--json").document["needs"]

    assert {need["name"] for need in needs} >= {"qemu-img", "qemu-nbd"}
    assert all(need["mend"] and need["purpose"] for need in needs)


def test_doctor_looks_at_every_host_and_ends_with_its_own_status_for_one_that_is_dead(
    newhope: Run, place: Place
) -> None:
    place.write(hosts=place.dead() + place.live())

    answer = newhope("doctor")
    hosts = newhope("doctor", "--json").document["hosts"]

    rows = {line.split()[2]: line.split() for line in answer.out.splitlines() if line[2:6].strip() in ("OK", "FAIL")}
    assert rows["alderaan"][1] == "FAIL"
    assert rows["coruscant"][1] == "OK"
    assert "alderaan: it does not answer: " in answer.out
    assert [(host["host"], bool(host["faults"])) for host in hosts] == [("alderaan", True), ("coruscant", False)]
    assert answer.code == ExitCode.FINDINGS


def test_doctor_works_before_there_are_settings_and_tells_of_files_that_dead_jobs_left_for_no_vm(
    newhope: Run, place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place.write(hosts=place.live())
    folder = tmp_path / "cache" / "newhope" / "scratch"
    folder.mkdir(parents=True)
    left = scratch_file(folder, "be1c206f-e8b5-4f55-98cc-16aadc925c76")

    told = newhope("doctor").out
    dry = newhope("doctor", "--repair", "--dry-run")
    done = newhope("doctor", "--repair", "--yes")

    assert "coruscant: 1 file of dead backup jobs of VMs that are no longer there lies in" in told
    assert (dry.code, left.exists()) == (ExitCode.FINDINGS, False), dry.out + done.out
    assert "coruscant is in order: 1 put right." in done.out
    place.settings_file.unlink()
    assert "No host was looked at." in newhope("doctor").out


def test_no_colour_reaches_a_pipe(newhope_process: Run, points: tuple[Point, ...]) -> None:
    assert "\x1b" not in newhope_process("points").out + newhope_process("hosts").out


def test_options_stand_before_or_after_the_command(newhope: Run, points: tuple[Point, ...]) -> None:
    assert newhope("--json", "points").out == newhope("points", "--json").out == newhope("points", "list", "--json").out


def test_points_that_may_have_missed_a_write_are_marked_and_say_why(newhope: Run, place: Place) -> None:
    newhope("repo", "init", "--no-encryption")
    uuid = "6695eb01-f6a4-8304-79aa-97f2502e193f"
    with Repository.open(place.vault) as repository:
        whole = make_point(repository, "test", age=timedelta(hours=3), uuid=uuid)
        doubted = make_point(repository, "test", age=timedelta(hours=2), uuid=uuid, taken_over_from=whole.id)
        finder = make_point(repository, "test", age=timedelta(hours=1), uuid=uuid, contradicted=doubted.id)

    lines = {line[:8]: line for line in newhope("points").out.splitlines()}
    shown = newhope("points", "show", f"test@{doubted.id}").out
    documents = newhope("points", "--json").document["points"]
    vms = newhope("vms").out

    assert ["doubted" in lines[each.id[:8]] for each in (whole, doubted, finder)] == [False, True, False]
    assert f"test@{finder.id[:8]} found that its dirty bitmap had missed a write" in " ".join(shown.split())
    assert [each["doubt"] is not None for each in documents] == [False, True, False]
    assert "! test: 1 recovery point doubted; see newhope points test" in vms

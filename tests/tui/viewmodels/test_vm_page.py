import pytest
from msgspec import structs

from engine.hosts.model import AgentState, HostStatus
from engine.repository import ProofMark, ProofVerdict
from engine.repository.model import Consistency, FileRecord
from tests.builders import (
    GIB,
    ago,
    make_disk,
    make_disk_record,
    make_fleet,
    make_guest_point,
    make_host,
    make_level,
    make_point,
    make_repository,
    make_settings,
    make_vm,
    uuid_of,
)
from tests.tui.pictures import make_picture, row_of, texts
from tui.viewmodels.picture import VmView, find_view
from tui.viewmodels.text import plain_text
from tui.viewmodels.vm_page import facts_line, point_key, point_lines, point_table, proof_line, protection_line


def view_of(picture, name: str = "web") -> VmView:
    view = find_view(picture, name)
    assert view is not None
    return view


def test_the_machine_is_told_in_one_line() -> None:
    vm = make_vm(disks=(make_disk(), make_disk("vdb"), make_disk("sda", device="cdrom")), firmware="efi", tpm=True)
    picture = make_picture(make_fleet(hosts=[make_host(vms=[vm])]))

    text = plain_text(facts_line(view_of(picture)))

    assert text == "> RUN  2 vCPU  2.0 GiB  disks 2, 20 GiB  net default  agent connected  efi tpm"


def test_a_vm_that_no_host_has_says_so_instead_of_its_machine() -> None:
    picture = make_picture(make_fleet(points=[make_point("old")]))

    assert plain_text(facts_line(view_of(picture, "old"))) == "- GONE  no host has it now; its recovery points are kept"


def test_what_is_left_of_the_rpo_is_told() -> None:
    picture = make_picture(make_fleet(points=[make_point(age="20m")]))

    text = plain_text(protection_line(view_of(picture), picture))

    assert text.startswith("OK  newest ")
    assert text.endswith("(20m ago)  level gold, RPO 1h: 40m left")


def test_by_how_much_the_rpo_is_exceeded_is_told() -> None:
    picture = make_picture(make_fleet(points=[make_point(age="5h")]))

    assert plain_text(protection_line(view_of(picture), picture)).endswith("RPO 1h: exceeded by 4h00")


def test_a_vm_without_a_point_is_told_what_to_press() -> None:
    picture = make_picture()

    assert "B makes the first one" in plain_text(protection_line(view_of(picture), picture))
    assert "alderaan dies now, web is lost" in texts(point_table(view_of(picture), picture, 80).empty)[0]


def test_a_vm_without_a_level_is_not_called_late() -> None:
    picture = make_picture(make_fleet(points=[make_point(age="90d")]), settings=make_settings(levels=()))

    text = plain_text(protection_line(view_of(picture), picture))

    assert text.startswith("NONE")
    assert "exceeded" not in text


def test_points_are_newest_first_with_what_would_be_lost() -> None:
    picture = make_picture(
        make_fleet(points=[make_point(age="9h"), make_point(age="2h", consistency=Consistency.CRASH)])
    )

    table = point_table(view_of(picture), picture, 80)

    assert [row.cells[1].text for row in table.rows] == ["2h00", "9h00"]
    assert [row.cells[3].text for row in table.rows] == ["crash", "frozen"]


def test_a_moment_in_two_repositories_shows_both_copies() -> None:
    points = [make_point(age="2h"), make_point(age="2h", repository="attic"), make_point(age="3h")]
    picture = make_picture(make_fleet(points=points))

    table = point_table(view_of(picture), picture, 80)

    assert row_of(table, point_key(points[0]))["copies"] == "attic,vault"
    assert row_of(table, point_key(points[2]))["copies"] == "vault"


def test_the_point_in_full_tells_content_downtime_and_its_name() -> None:
    point = make_point(age="2h", method="cold", downtime_s=21.4, consistency_note="The guest had shut down cleanly.")
    picture = make_picture(make_fleet(points=[point]))

    said = "\n".join(texts(point_lines(point, view_of(picture), picture, 80)))

    assert "all since would be lost (2h00)" in said
    assert "The guest had shut down cleanly." in said
    assert "cold, 0:21 not running" in said
    assert f"web@{point.id[:8]} in vault" in said


@pytest.mark.parametrize(
    ("height", "expected"),
    [
        (
            6,
            "volumes host configuration 2.0 KiB, VM definition 1.0 KiB, virtual disks 1.0 GiB, virtual networks none,"
            " saved state none",
        ),
        (
            30,
            "volumes host configuration 2.0 KiB host, pool VM definition 1.0 KiB definition-live"
            " virtual disks 1.0 GiB vda virtual networks - none saved state - none",
        ),
    ],
)
def test_the_five_volumes_are_told_each_with_its_size_and_with_its_parts_where_there_is_room(
    height: int, expected: str
) -> None:
    kept = (("host", 1024), ("definition-live", 1024), ("pool", 1024))
    files = tuple(FileRecord(role, role, size_bytes, "0" * 64, 0) for role, size_bytes in kept)
    point = make_point(age="2h", files=files, disks=(make_disk_record(data_bytes=GIB),))
    picture = make_picture(make_fleet(points=[point]))

    said = " ".join(" ".join(texts(point_lines(point, view_of(picture), picture, 78, height))).split())

    assert expected in said


def test_a_point_that_may_have_missed_a_write_is_marked_and_says_why() -> None:
    whole = make_point(age="9h")
    taken_over = make_point(age="5h", disks=(make_disk_record(taken_over_from=whole.id),))
    finder = make_point(age="2h", disks=(make_disk_record(contradicted=taken_over.id),))
    picture = make_picture(make_fleet(points=[finder, taken_over, whole]))

    table = point_table(view_of(picture), picture, 80)
    said = " ".join(" ".join(texts(point_lines(taken_over, view_of(picture), picture, 80))).split())

    assert [row.cells[3].text for row in table.rows] == ["frozen", "! doubted", "frozen"]
    assert f"web@{finder.id[:8]} found that its dirty bitmap had missed a write" in said


def test_an_agent_that_does_not_answer_stands_out() -> None:
    vm = make_vm(agent=AgentState.ABSENT)
    picture = make_picture(make_fleet(hosts=[make_host(vms=[vm])]))

    assert "agent absent" in plain_text(facts_line(view_of(picture)))


def test_a_stale_host_marks_the_state_of_its_vms() -> None:
    picture = make_picture(make_fleet(hosts=[make_host(status=HostStatus.STALE, vms=[make_vm()])]))

    assert plain_text(facts_line(view_of(picture))).startswith("? RUN")


def test_files_of_a_guest_are_listed_with_a_sign_of_their_own_and_protect_nothing() -> None:
    files = make_guest_point("web", moment=ago("5m"))
    picture = make_picture(make_fleet(points=[make_point(age="2h"), files]))
    view = view_of(picture)

    table = point_table(view, picture, 80)
    lines = texts(point_lines(files, view, picture, 78))

    assert [row_of(table, row.key)["consistency"] for row in table.rows] == ["# files", "frozen"]
    assert row_of(table, point_key(files))["method"] == "guest"
    assert row_of(table, point_key(files))["loss"] == "-"
    assert any("no VM comes back from it" in text for text in lines)
    assert any(f"newhope files web@{files.id[:8]}" in text for text in lines)
    assert "exceeded" in plain_text(protection_line(view, picture))


def test_how_far_a_vm_is_proven_is_told_with_what_its_level_asks() -> None:
    point = make_point(age="20m")
    level = make_level("gold", prove_every_s=7 * 86400)
    mark = ProofMark(uuid_of("web"), point.id, ago("9d"), ProofVerdict.ANSWERED, "x")

    def line_of(*proofs: ProofMark) -> str:
        fleet = make_fleet(points=[point], repositories=[make_repository(proofs=proofs)])
        picture = make_picture(fleet, settings=make_settings(levels=[level]))
        assert ("never proven" in "".join(texts(point_lines(point, view_of(picture), picture, 70)))) is not bool(proofs)
        return plain_text(proof_line(view_of(picture), picture))

    assert line_of().startswith("! never proven  level gold asks every 7d")
    assert line_of(mark).startswith("! proven too long ago, 9d")
    failed = structs.replace(mark, verdict=ProofVerdict.SILENT, at=ago("2h"))
    assert line_of(failed, mark).startswith("x failed, 2h")


def test_where_nobody_asks_for_proofs_nothing_is_said_of_them() -> None:
    picture = make_picture(make_fleet(points=[make_point()]))

    assert plain_text(proof_line(view_of(picture), picture)) == ""

from datetime import timedelta

from engine.jobs import JobState
from engine.restore import Aside, AtEnd, Phase
from engine.restore.journal import Mark
from engine.restore.model import RestoredDisk
from tests.builders import GIB, NOW
from tests.tui.pictures import make_job, make_picture, make_restore, row_of, texts
from tui.viewmodels.fleet_rows import summary_line
from tui.viewmodels.restore_rows import commit_lines, counts_line, restore_page, restore_table, undo_lines
from tui.viewmodels.text import plain_text

ASIDE = Aside("alderaan", "uuid", "web", "web-original-1a2b", "uuid-2", runs=True)
DONE = make_restore("0000aaaa", created=NOW - timedelta(hours=1))
KEPT = make_restore(
    "0000bbbb",
    phase=Phase.KEPT,
    created=NOW - timedelta(hours=2),
    keep_until=NOW + timedelta(hours=3),
    request={"at_end": AtEnd.COMMIT, "aside": ASIDE, "ticket": "INC-7"},
)
BROKEN = make_restore("0000cccc", phase=Phase.UNDER_WAY, created=NOW - timedelta(hours=3))


def test_what_waits_for_somebody_comes_first_and_says_until_when() -> None:
    picture = make_picture(restores=[DONE, KEPT, BROKEN])

    table = restore_table(picture, 79)

    assert [row.key for row in table.rows] == ["0000bbbb", "0000cccc", "0000aaaa"]
    assert row_of(table, "0000bbbb")["state"] == "! KEPT"
    assert row_of(table, "0000bbbb")["left"] == "3h00"
    assert row_of(table, "0000cccc")["state"] == "x BROKEN"
    assert "WAIT FOR YOU 2" in plain_text(counts_line(picture))
    assert "restores 2 wait" in plain_text(summary_line(picture))


def test_one_whose_job_lives_is_not_broken_and_waits_for_nobody() -> None:
    picture = make_picture(restores=[BROKEN], jobs=[make_job(7)])

    assert row_of(restore_table(picture, 79), "0000cccc")["state"] == "> RUNS"
    assert "WAIT FOR YOU 0" in plain_text(counts_line(picture))
    over = make_picture(restores=[BROKEN], jobs=[make_job(7, state=JobState.LOST)])
    assert row_of(restore_table(over, 79), "0000cccc")["state"] == "x BROKEN"


def test_words_and_faults_choose_rows() -> None:
    picture = make_picture(restores=[DONE, KEPT, BROKEN])

    assert [row.key for row in restore_table(picture, 79, wanted="inc-7").rows] == ["0000bbbb"]
    assert len(restore_table(picture, 79, faults_only=True).rows) == 2
    assert "No restore matches" in " ".join(texts(restore_table(picture, 79, wanted="nothing").empty))


def test_the_page_tells_what_it_cost_what_it_made_and_what_can_be_done() -> None:
    disk = RestoredDisk("vda", "/pool/web-vda.qcow2", "qcow2", GIB, GIB // 2, "root", verified=True)
    marks = (
        Mark("write:vda", "write vda", NOW, NOW + timedelta(seconds=75)),
        Mark("start", "start it", NOW + timedelta(seconds=80)),
    )
    whole = make_restore(
        "0000bbbb",
        phase=Phase.KEPT,
        disks=(disk,),
        marks=marks,
        warnings=("its agent is silent",),
        original_off=NOW,
        up=NOW + timedelta(seconds=41),
        request={"aside": ASIDE, "reason": "its disk lies", "ticket": "INC-7"},
    )

    said = texts(restore_page(whole, make_picture(restores=[whole]), 78))
    text = " ".join(" ".join(said).split())

    assert "C keeps it for good; U takes it back" in text
    assert "written in the 10:00 before it was begun" in text
    assert "0:41 without the VM" in text
    assert "its disk lies INC-7" in text
    assert "web-original-1a2b on alderaan" in text
    assert "read again and equal" in text
    assert any(line.startswith("ok") and line.endswith("1:15") for line in said)
    assert any(line.startswith("begun") for line in said)
    assert all(len(line) <= 78 for line in said)


def test_the_questions_say_what_is_lost_and_what_stays() -> None:
    assert "is lost with it" in " ".join(texts(undo_lines(KEPT, 76)))
    assert "--delete-original" in " ".join(texts(commit_lines(KEPT, 76)))

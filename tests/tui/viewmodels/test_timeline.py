from datetime import UTC, timedelta

from engine.jobs import JobState
from engine.repository import ProofMark, ProofVerdict
from engine.repository.model import Consistency, Point
from tests.builders import NOW, ago, make_guest_point, make_point, uuid_of
from tests.tui.pictures import make_job, texts
from tui.viewmodels.text import plain_text
from tui.viewmodels.timeline import painted, strip, timeline_lines

DAY_S, HOUR_S = 86400, 3600
CRASH, FILESYSTEM, OFF = Consistency.CRASH, Consistency.FILESYSTEM, Consistency.OFF


def days(points: list[Point], *, rpo_s: int | None = None, jobs: tuple = (), buckets: int = 7) -> str:
    return strip(points, jobs, NOW, buckets=buckets, bucket_s=DAY_S, rpo_s=rpo_s, zone=UTC)


def test_each_day_has_the_letter_of_its_point() -> None:
    points = [
        make_point(age="2d", consistency=Consistency.OFF),
        make_point(age="1d"),
        make_point(age="1h", consistency=Consistency.CRASH),
    ]

    assert days(points) == "....ofc"


def test_the_best_point_of_a_day_is_the_one_that_shows() -> None:
    points = [
        make_point(age="1h", consistency=Consistency.CRASH),
        make_point(age="2h", consistency=Consistency.FILESYSTEM),
    ]

    assert days(points)[-1] == "f"


def test_a_day_without_a_point_is_missed_only_if_the_level_asks_for_one() -> None:
    points = [make_point(age="5d"), make_point(age="1h")]

    assert days(points, rpo_s=HOUR_S) == ".f!!!!f"
    assert days(points, rpo_s=7 * DAY_S) == ".f....f"
    assert days(points, rpo_s=None) == ".f....f"


def test_today_is_not_missed_yet_and_before_the_first_point_nothing_is() -> None:
    assert days([make_point(age="2d")], rpo_s=HOUR_S) == "....f!."
    assert days([], rpo_s=HOUR_S) == "......."


def test_a_failed_backup_shows_where_there_is_no_point() -> None:
    failed = make_job(state=JobState.FAIL, finished=ago("1d"))
    overtaken = make_job(8, state=JobState.FAIL, finished=ago("2d"))

    assert days([make_point(age="2d")], jobs=(failed, overtaken)) == "....fx."


def test_what_is_older_than_the_strip_is_not_squeezed_into_it() -> None:
    assert days([make_point(age="30d")]) == "......."


def test_a_point_of_this_hour_is_in_the_last_bucket() -> None:
    now = NOW + timedelta(minutes=30)

    letters = strip(
        [make_point(age=""), make_point(age="3h")], (), now, buckets=6, bucket_s=HOUR_S, rpo_s=None, zone=UTC
    )

    assert letters == "..f..f"


def test_letters_keep_their_order_when_they_are_painted() -> None:
    assert plain_text(painted("..ff!x")) == "..ff!x"
    assert plain_text(painted("..f", gap=" ")) == ". . f"


def test_every_line_fits_and_the_strips_end_now() -> None:
    for width in (58, 79, 139):
        lines = texts(timeline_lines((make_point(),), (), NOW, width, rpo_s=HOUR_S, zone=UTC))

        assert all(len(text) <= width for text in lines)
        assert lines[0].rstrip().endswith("now")
        assert lines[1].endswith("f|")
        assert lines[1].index("|") - 1 == lines[0].index("now")


def test_files_of_a_guest_show_only_where_nothing_else_is_to_be_said() -> None:
    points = [make_guest_point(moment=ago(age)) for age in ("6d", "3d", "2d", "1h")] + [make_point(age="5d")]

    assert days(points) == "gf.gg.g"
    assert days(points, rpo_s=HOUR_S) == "gf!!!!g"


def test_a_day_whose_point_was_proven_has_a_sign_behind_its_letter() -> None:
    points = (make_point("web", age="1h"), make_point("web", age="2d"))
    proofs = [
        ProofMark(uuid_of("web"), points[1].id, ago("30m"), ProofVerdict.SILENT, "b"),
        ProofMark(uuid_of("web"), points[1].id, ago("1d"), ProofVerdict.ANSWERED, "a"),
        ProofMark(uuid_of("web"), points[0].id, ago("20m"), ProofVerdict.ANSWERED, "c"),
    ]

    plain = texts(timeline_lines(points, (), NOW, 79, rpo_s=None, zone=UTC))[1]
    marked = texts(timeline_lines(points, (), NOW, 79, rpo_s=None, zone=UTC, proofs=proofs))[1]

    assert plain.endswith("f . f|")
    assert marked.endswith("f-. f+|")


def test_every_letter_is_told_and_the_signs_of_proofs_where_there_are_any() -> None:
    point = make_point("web", age="1h")
    proof = ProofMark(uuid_of("web"), point.id, ago("20m"), ProofVerdict.ANSWERED, "c")

    plain = texts(timeline_lines((point,), (), NOW, 79, rpo_s=None, zone=UTC))
    marked = texts(timeline_lines((point,), (), NOW, 79, rpo_s=None, zone=UTC, proofs=(proof,)))

    assert plain[4].strip() == "o off  m memory  f frozen  c crash  x fail  ! missed  g files  . none"
    assert marked[:-1] == [plain[0], marked[1], *plain[2:]]
    assert "+ proven to boot  - failed its proof  ? open" in marked[5]

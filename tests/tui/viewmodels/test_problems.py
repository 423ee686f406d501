from engine.errors import NewhopeError
from engine.jobs import Failure, JobState
from tests.builders import NOW, ago
from tests.tui.pictures import make_job, texts
from tui.viewmodels.problems import Problem, from_error, from_jobs, problem_line, problem_lines, problem_table
from tui.viewmodels.text import plain_text


def test_an_error_keeps_its_three_sentences() -> None:
    problem = from_error(NewhopeError("It broke.", next_step="mend it", untouched="All else."), "key", NOW)

    assert [text.split()[0] for text in texts(problem_lines(problem, 78))] == ["WHAT", "UNTOUCHED", "NEXT"]


def test_a_defect_is_told_as_one_and_not_as_the_operators_mistake() -> None:
    assert from_error(KeyError("x"), "key", NOW).what.startswith("newhope has a defect: KeyError")


def test_failed_and_lost_jobs_of_the_last_day_are_problems() -> None:
    jobs = [
        make_job(1, state=JobState.FAIL, finished=ago("1h"), failure=Failure("full.", "all", "free", 8)),
        make_job(2, state=JobState.LOST, heartbeat=ago("2h")),
        make_job(3, state=JobState.FAIL, finished=ago("3d")),
        make_job(4, state=JobState.DONE, finished=ago("1h")),
        make_job(5),
    ]

    assert [problem.key for problem in from_jobs(jobs, NOW)] == ["job-1", "job-2"]


def test_the_line_has_the_newest_and_how_many_there_are() -> None:
    old = Problem("a", ago("2h"), "old", "", "")
    new = Problem("b", ago("1h"), "new", "", "")

    assert "new" in plain_text(problem_line((old, new), NOW))
    assert plain_text(problem_line((old, new), NOW)).endswith("[!] 2 problems")
    assert problem_line((), NOW) == ()


def test_the_list_is_newest_first() -> None:
    problems = (Problem("a", ago("2h"), "old", "", ""), Problem("b", ago("1h"), "new", "", ""))

    assert [row.key for row in problem_table(problems, NOW).rows] == ["b", "a"]
    assert problem_table((), NOW).empty

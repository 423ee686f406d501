from tests.builders import NOW, make_settings
from tests.tui.pictures import busy_fleet, make_picture, texts
from tui.viewmodels.check_rows import counts_line, finding_key, finding_lines, finding_table
from tui.viewmodels.picture import Picture
from tui.viewmodels.text import plain_text


def test_findings_come_worst_first_and_fine_ones_only_when_asked_for() -> None:
    picture = make_picture(busy_fleet())

    faults = [row.cells[0].text for row in finding_table(picture, 80).rows]
    everything = [row.cells[0].text for row in finding_table(picture, 80, faults_only=False).rows]

    assert faults[0] == "x FAIL"
    assert "+ OK" not in faults
    assert everything[-1] == "+ OK"
    assert faults == sorted(faults, key=["x FAIL", "! WARN", "? UNKN"].index)


def test_a_finding_in_full_has_why_evidence_and_what_to_do() -> None:
    picture = make_picture(busy_fleet())
    worst = next(found for found in picture.findings if found.subject == "build")

    said = [text.split()[0] for text in texts(finding_lines(worst, 200))]

    assert said[:2] == ["FAIL", "WHY"]
    assert "NEXT" in said


def test_every_finding_has_a_key_of_its_own() -> None:
    keys = [finding_key(finding) for finding in make_picture(busy_fleet()).findings]

    assert len(set(keys)) == len(keys)


def test_the_counts_have_words() -> None:
    assert plain_text(counts_line(make_picture(busy_fleet()))).startswith("FAIL ")


def test_checks_wait_for_the_first_answer() -> None:
    assert "LOADING" in texts(finding_table(Picture(make_settings(), NOW), 80).empty)[0]


def test_a_filter_that_finds_nothing_says_how_to_clear_it() -> None:
    said = texts(finding_table(make_picture(busy_fleet()), 80, wanted="zebra").empty)

    assert said == ["No finding matches zebra.", "Esc clears the filter."]

from engine.restore import Aside, Phase, commit_means, standing, undo_means
from engine.restore.journal import MadeVolume
from tests.tui.pictures import make_restore

ASIDE = Aside("alderaan", "uuid", "web", "web-original-1a2b", "uuid-2", runs=True)


def test_one_whose_job_died_is_interrupted_and_goes_on_or_is_taken_back() -> None:
    found = standing(make_restore(phase=Phase.UNDER_WAY), alive=False)

    assert (found.word, found.interrupted, found.resumes, found.undoes, found.commits) == (
        "interrupted",
        True,
        True,
        True,
        False,
    )
    assert found.next_step == "newhope restores resume 0a1b2c3d, or undo 0a1b2c3d"


def test_while_its_job_lives_nothing_can_be_done_but_to_follow_it() -> None:
    found = standing(make_restore(phase=Phase.UNDER_WAY), alive=True)

    assert (found.word, found.next_step) == ("under way", "newhope jobs follow 7")
    assert not (found.resumes or found.undoes or found.commits)


def test_one_that_is_kept_waits_for_a_decision_whether_a_job_lives_or_not() -> None:
    for alive in (True, False):
        found = standing(make_restore(phase=Phase.KEPT), alive=alive)

        assert (found.undoes, found.commits, found.resumes) == (True, True, False)


def test_an_end_that_was_interrupted_can_only_be_begun_again() -> None:
    undoing = standing(make_restore(phase=Phase.UNDOING), alive=False)
    committing = standing(make_restore(phase=Phase.COMMITTING), alive=False)

    assert (undoing.undoes, undoing.commits, committing.undoes, committing.commits) == (True, False, False, True)
    assert standing(make_restore(phase=Phase.UNDONE), alive=False).next_step == ""


def test_undoing_says_what_is_removed_what_is_lost_and_what_comes_back() -> None:
    made = (MadeVolume("write:vda", "default", "web-vda.qcow2"),)
    said = " ".join(undo_means(make_restore(phase=Phase.KEPT, made=made, request={"aside": ASIDE})))

    assert "VM web-restored on coruscant is switched off" in said
    assert "web-vda.qcow2 in pool default is deleted" in said
    assert "since the restore is lost" in said
    assert "web-original-1a2b on alderaan becomes web again" in said
    assert commit_means(make_restore()) == ()

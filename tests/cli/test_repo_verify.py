"""`newhope repo verify`, from the command line to the exit status."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import ExitCode
from engine.repository import Point, Stage, VerifyProgress
from tests.cli.conftest import Place, Run


def pack_of(place: Place) -> Path:
    """The newest pack: what older ones hold, later points may share."""
    packs = (path for path in place.vault.glob("packs/*/*") if path.is_file())
    return max(packs, key=lambda path: path.stat().st_mtime_ns)


@pytest.mark.parametrize("extent", [[], ["--quick"], ["--sample", "10"], ["--full"]])
def test_a_sound_repository_says_so(newhope: Run, points: tuple[Point, ...], extent: list[str]):
    answer = newhope("repo", "verify", *extent)

    assert answer.code == ExitCode.OK
    assert "+ SOUND  vault: 3 recovery points" in answer.out


def test_a_lost_pack_is_named_with_the_point_and_the_range_it_hurts(newhope: Run, place: Place, points: tuple[Point]):
    victim = pack_of(place)
    victim.unlink()

    answer = newhope("repo", "verify", "vault")

    assert answer.code == ExitCode.REPOSITORY
    assert f"x LOSS   packs/{victim.parent.name}/{victim.name}: it is missing" in answer.out
    assert answer.out.count("hurts ") == 1
    assert "vda: 1.0 MiB of 1.0 MiB in 1 range: 0+1048576" in answer.out
    assert "x DAMAGED  vault" in answer.out


def test_a_flipped_bit_is_found_by_reading_everything_only(newhope: Run, place: Place, points: tuple[Point, ...]):
    victim = pack_of(place)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)

    assert newhope("repo", "verify", "--quick").code == ExitCode.OK
    assert newhope("repo", "verify", "--full").code == ExitCode.REPOSITORY
    # From now on it is known.
    assert newhope("repo", "verify", "--quick").code == ExitCode.REPOSITORY


def test_as_json_it_is_one_document(newhope: Run, place: Place, points: tuple[Point, ...]):
    pack_of(place).unlink()

    answer = newhope("repo", "verify", "--full", "--json")

    found = answer.document["verification"]
    assert answer.code == ExitCode.REPOSITORY
    assert found["sound"] is False
    assert found["findings"][0]["severity"] == "loss"
    assert found["findings"][0]["points"][0]["vm"] in ("web", "db-1")
    assert "vda" in {loss["name"] for loss in found["losses"]}
    assert found["losses"][0]["ranges"][0].keys() == {"offset", "length"}


def test_the_plan_is_shown_and_nothing_is_done(newhope: Run, place: Place, points: tuple[Point, ...]):
    answer = newhope("repo", "verify", "--full", "--dry-run")
    document = newhope("repo", "verify", "--full", "--dry-run", "--json").document

    assert answer.code == ExitCode.OK
    assert "3 packs" in answer.out
    assert document["plan"]["packs_to_read"] == document["plan"]["never_read"] == 3
    assert not (place.vault / "records").exists()


def test_a_repository_in_no_settings_file_is_named_by_its_path(newhope: Run, place: Place, points: tuple[Point, ...]):
    place.settings_file.unlink()

    assert newhope("repo", "verify", place.vault).code == ExitCode.OK


def test_two_extents_cannot_be_meant(newhope: Run):
    for options in (["--quick", "--full"], ["--full", "--sample", "5"], ["--anew"], ["--sample", "0"]):
        assert newhope("repo", "verify", *options).code == ExitCode.USAGE


def test_where_there_is_no_repository_it_says_so(newhope: Run):
    answer = newhope("repo", "verify")

    assert answer.code == ExitCode.REPOSITORY
    assert answer.labels == ["what", "untouched", "next"]


def test_without_settings_it_runs_here_and_an_interrupted_one_keeps_what_it_has_done(
    newhope: Run, place: Place, points: tuple[Point, ...], monkeypatch: pytest.MonkeyPatch
):
    place.settings_file.unlink()

    def interrupt(view: object, progress: VerifyProgress) -> None:
        if progress.stage is Stage.PACKS and progress.done:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("engine.cli.repo_verify._ProgressView.tell", interrupt)
        stopped = newhope("repo", "verify", place.vault, "--full")

    assert stopped.code == ExitCode.INTERRUPTED
    plan = newhope("repo", "verify", place.vault, "--full", "--dry-run")
    assert "goes on with" in plan.out
    assert "2 packs" in plan.out

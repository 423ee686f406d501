"""`newhope files POINT PATH --put-back`: show what will be done, ask, and start the job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from engine.cli.failures import Usage
from engine.cli.invocation import Invocation
from engine.errors import ExitCode

if TYPE_CHECKING:
    from engine.repository import Point
    from engine.restore import PointFiles, PutBackPlan


class Choices(Struct, frozen=True):
    """What the options say."""

    path: str
    as_path: str | None
    repository: str | None
    yes: bool
    follow: bool
    dry_run: bool


def put_files_back(invocation: Invocation, point: Point, files: PointFiles, choices: Choices) -> ExitCode:
    """Plan, show, ask, do."""
    from engine.cli import printing
    from engine.cli.confirmation import confirm
    from engine.cli.documents import plain
    from engine.cli.following import tell_launched, watch
    from engine.cli.launching import launch_put_back
    from engine.cli.named import find_vm, refuse_silent_host
    from engine.cli.opened_repository import is_place
    from engine.restore import PutBackRequest, plan_put_back, suffix_now

    if is_place(choices.repository):
        raise Usage(
            "Files are put back by a job, which needs a repository of the settings.",
            next_step="Name the repository in the settings, or use --get.",
        )
    own = "/" + choices.path.strip("/")
    try:
        f"{own}{choices.as_path}".encode()
    except UnicodeEncodeError:
        raise Usage(
            "A path that is not UTF-8 cannot be named to a guest's agent.",
            next_step="Put back the folder that it is in.",
        ) from None
    fleet = invocation.fleet()
    vm = find_vm(fleet, point.manifest.vm.uuid)
    refuse_silent_host(fleet, vm.name, vm.host)
    request = PutBackRequest(
        repository=point.repository,
        vm_uuid=vm.uuid,
        vm=vm.name,
        host=vm.host,
        point_id=point.id,
        path=own,
        as_path=choices.as_path or own,
        suffix=suffix_now(),
    )
    plan = plan_put_back(files, vm, request)
    if invocation.json and choices.dry_run:
        printing.show_json({"plan": plain(plan)})
    elif not invocation.json:
        _show(plan, point)
    if choices.dry_run:
        return ExitCode.OK
    if not choices.yes and not confirm(invocation, f"Put them back into {vm.name} now?"):
        printing.say("Nothing was done.")
        return ExitCode.CANCELLED
    with invocation.journal() as journal:
        job = launch_put_back(invocation.settings, journal, request)
        return watch(invocation, journal, job.id) if choices.follow else tell_launched(invocation, journal, job)


def _show(plan: PutBackPlan, point: Point) -> None:
    from engine.cli import printing
    from engine.cli.wording import local, since

    request = plan.request
    moment = point.manifest.moment
    printing.say(f"{request.path} of {local(moment)}, {since(moment)} ago, into the running guest of {request.vm}:")
    for number, step in enumerate(plan.steps, 1):
        printing.say(f"  {number:>2}  {step}")

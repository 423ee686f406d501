"""`newhope files POINT PATH --put-back`: show what will be done, ask, and start the job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.cli.failures import Usage
from engine.cli.invocation import Invocation
from engine.errors import ExitCode

if TYPE_CHECKING:
    from engine.cli.files import Wanted
    from engine.point_files import OpenedFiles, Place
    from engine.repository import Point
    from engine.restore import PutBackPlan


def put_files_back(invocation: Invocation, opened: OpenedFiles, place: Place, wanted: Wanted) -> ExitCode:
    """Plan, show, ask, do."""
    from engine.cli import printing
    from engine.cli.confirmation import confirm
    from engine.cli.documents import plain
    from engine.cli.following import tell_launched, watch
    from engine.cli.launching import launch_put_back

    plan = _plan(invocation, opened, place, wanted)
    if invocation.json and wanted.dry_run:
        printing.show_json({"plan": plain(plan)})
    elif not invocation.json:
        _show(plan, place, opened.point)
    if wanted.dry_run:
        return ExitCode.OK
    vm = plan.request.vm
    if not wanted.yes and not confirm(invocation, f"Put them back into {vm} now?"):
        printing.say("Nothing was done.")
        return ExitCode.CANCELLED
    with invocation.journal() as journal:
        job = launch_put_back(invocation.settings, journal, plan.request)
        return watch(invocation, journal, job.id) if wanted.follow else tell_launched(invocation, journal, job)


def _plan(invocation: Invocation, opened: OpenedFiles, place: Place, wanted: Wanted) -> PutBackPlan:
    from engine.cli.named import find_vm, refuse_silent_host
    from engine.cli.opened_repository import is_place
    from engine.restore import PutBackRequest, own_place, plan_put_back, suffix_now

    if is_place(wanted.repository):
        raise Usage(
            "Files are put back by a job, which needs a repository of the settings.",
            next_step="Name the repository in the settings, or use --get.",
        )
    path = f"/{place.path.decode(errors='surrogateescape')}"
    as_path = wanted.as_path or own_place(opened, place)
    try:
        f"{path}{as_path}".encode()
    except UnicodeEncodeError:
        raise Usage(
            "A path that is not UTF-8 cannot be named to a guest's agent.",
            next_step="Put back the folder that it is in.",
        ) from None
    point = opened.point
    fleet = invocation.fleet()
    vm = find_vm(fleet, point.manifest.vm.uuid)
    refuse_silent_host(fleet, vm.name, vm.host)
    request = PutBackRequest(
        repository=point.repository,
        vm_uuid=vm.uuid,
        vm=vm.name,
        host=vm.host,
        point_id=point.id,
        path=path,
        as_path=as_path,
        suffix=suffix_now(),
        volume=place.volume,
    )
    return plan_put_back(opened.on(place.volume), vm, request)


def _show(plan: PutBackPlan, place: Place, point: Point) -> None:
    from engine.cli import printing
    from engine.cli.wording import local, since

    request = plan.request
    moment = point.manifest.moment
    printing.say(f"{place.text} of {local(moment)}, {since(moment)} ago, into the running guest of {request.vm}:")
    for number, step in enumerate(plan.steps, 1):
        printing.say(f"  {number:>2}  {step}")

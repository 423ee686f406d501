"""From a plan to a job: what is started, under which lock, and what to say should it be killed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress

import msgspec
from msgspec import structs

from engine import backup, restore
from engine.cli.command_line import with_config
from engine.cli.knob_words import words_of
from engine.cli.opened_repository import named
from engine.cli.wording import count
from engine.errors import NotFound
from engine.fleet import keys_to_hand
from engine.jobs import Job, Journal, Knobs, launch
from engine.point_files import GetRequest
from engine.repository import PointKind
from engine.requirements import ProofDue
from engine.settings import Method, Settings
from engine.settings.duration import format_duration
from engine.settings.model import SHUTDOWN_TIMEOUT_S

BACKUP = "backup"
BACKUPS = "backups"
RESTORE = "restore"
PROOFS = "proofs"
PUT_BACK = "put-back"
GET = "get-files"
SETTLE = "settle"


def job_command(settings: Settings) -> list[str]:
    """What starts a job's process; its id is the last argument."""
    return [sys.executable, "-m", "engine.cli", "--config", str(settings.file.absolute()), "run-job"]


def keys_for(settings: Settings, *names: str) -> bytes:
    """What a job is handed that opens these repositories, as far as this process knows it."""
    return keys_to_hand(named(lambda: settings, name) for name in names)


def _start(
    settings: Settings,
    journal: Journal,
    kind: str,
    subject: str,
    host: str,
    spec: object,
    *,
    lock: str | None,
    again: str,
    untouched: str,
    repositories: Sequence[str] = (),
    knobs: Knobs | None = None,
) -> Job:
    """Start a job of its own that knows the keys of these repositories; raises `Conflict` for a lock that is held."""
    return launch(
        journal,
        kind,
        subject,
        host,
        msgspec.json.encode(spec),
        lock=lock,
        argv_prefix=job_command(settings),
        again=with_config(settings.file, again),
        untouched=untouched,
        handed=keys_for(settings, *repositories),
        knobs=knobs,
    )


def launch_backup(settings: Settings, journal: Journal, request: backup.Request) -> Job:
    """Start a backup as a job of its own; raises `Conflict` while another one works on the VM."""
    words = ["newhope", "backup", request.vm, "--host", request.host, "--method", request.method.value]
    words += ["--full"] if request.full else []
    if request.method is Method.COLD and request.shutdown_timeout_s != SHUTDOWN_TIMEOUT_S:
        words += ["--shutdown-timeout", format_duration(request.shutdown_timeout_s)]
    if request.kind is PointKind.GUEST:
        words = ["newhope", "backup", request.vm, "--guest-files", "--host", request.host]
    return _start(
        settings,
        journal,
        BACKUP,
        request.vm,
        request.host,
        request,
        lock=backup.lock_of(request),
        again=shlex.join([*words, "--repository", request.repository]),
        untouched="Every earlier recovery point is as it was; a half one is never listed.",
        repositories=(request.repository,),
        # What a guest sends comes at its own speed: what is not taken would pile up in libvirt's client, in memory.
        knobs=Knobs() if request.kind is PointKind.VM else None,
    )


def launch_backups(
    settings: Settings, journal: Journal, requests: Sequence[backup.Request], *, again: str = "newhope backup --all"
) -> Job:
    """Start one job that backs up several VMs in this order, side by side as far as the settings let it."""
    hosts = {request.host for request in requests}
    return _start(
        settings,
        journal,
        BACKUPS,
        count(len(requests), "VM"),
        hosts.pop() if len(hosts) == 1 else "several",
        tuple(requests),
        lock=None,
        again=again,
        untouched="Recovery points that were finished are kept, and a backup that was under way goes on by itself.",
        repositories=[request.repository for request in requests],
    )


def launch_restore(settings: Settings, journal: Journal, plan: restore.RestorePlan, knobs: Knobs | None = None) -> Job:
    """Start exactly the restore that was planned; raises `Conflict` while another one makes a VM of that name there."""
    request, usual = plan.request, restore.usual_streams(plan.request)
    begins = knobs or Knobs()
    again = shlex.join([*shlex.split(plan.command), *words_of(begins, usual)])
    begins = structs.replace(begins, streams=begins.streams or usual)
    return _start_restore(settings, journal, request, begins, again=again, untouched=f"{plan.untouched} ")


def launch_resume(settings: Settings, journal: Journal, entry: restore.Entry) -> Job:
    """Let an interrupted restore go on; raises `Conflict` while a job works on it."""
    again = f"newhope restores resume {entry.id}"
    return _start_restore(settings, journal, entry.request, _knobs_again(journal, entry), again=again, untouched="")


def _start_restore(
    settings: Settings, journal: Journal, request: restore.Request, knobs: Knobs, *, again: str, untouched: str
) -> Job:
    return _start(
        settings,
        journal,
        RESTORE,
        request.name,
        request.to_host,
        request,
        lock=restore.lock_of(request),
        again=again,
        untouched=f"{untouched}What it had made on {request.to_host} is kept, and taken back by"
        f" `newhope restores undo {request.id}`.",
        repositories=(request.repository,),
        knobs=knobs,
    )


def launch_proofs(settings: Settings, journal: Journal, wanted: Sequence[ProofDue], *, lock: str) -> Job:
    """Start one job that proves the points of several VMs, one by one; raises `Conflict` beside another one."""
    return _start(
        settings,
        journal,
        PROOFS,
        count(len(wanted), "VM"),
        "several",
        tuple(wanted),
        lock=lock,
        again="newhope prove --due",
        untouched="What was proven is kept. A proof that was under way goes on and takes its VM away by itself.",
        repositories=[due.repository for due in wanted],
    )


def launch_put_back(settings: Settings, journal: Journal, request: restore.PutBackRequest) -> Job:
    """Start exactly what was planned; raises `Conflict` while another job is at work inside that guest."""
    point = f"{request.vm}@{request.point_id[:16]}"
    place = f"{request.volume}:{request.path}" if request.volume else request.path
    words = ["newhope", "files", point, place, "--put-back", "--as", request.as_path]
    return _start(
        settings,
        journal,
        PUT_BACK,
        request.vm,
        request.host,
        request,
        lock=restore.lock_of_put_back(request),
        again=shlex.join([*words, "--repository", request.repository]),
        untouched=f"What had one of their names is still in {request.vm}, under its name or with {request.suffix}.",
        repositories=(request.repository,),
        knobs=Knobs(),
    )


def launch_get(settings: Settings, journal: Journal, request: GetRequest) -> Job:
    """Start to write files to this machine."""
    point = f"{request.vm}@{request.point_id[:16]}"
    words = ["newhope", "files", point, request.place.text, "--get", str(request.destination)]
    return _start(
        settings,
        journal,
        GET,
        request.vm,
        "here",
        request,
        lock=None,
        again=shlex.join([*words, "--overwrite", "--repository", request.repository]),
        untouched=f"What is in {request.destination} is whole, file by file; the rest is missing.",
        repositories=(request.repository,),
        knobs=Knobs(),
    )


def _knobs_again(journal: Journal, entry: restore.Entry) -> Knobs:
    """What the interrupted job was told last, except to stand still."""
    begins = Knobs(streams=restore.usual_streams(entry.request))
    with suppress(NotFound):
        begins = journal.job(entry.job_id).knobs or begins
    return structs.replace(begins, paused=False)


def launch_settlement(
    settings: Settings, journal: Journal, entry: restore.Entry, settlement: restore.Settlement
) -> Job:
    """Commit or undo a restore; raises `Conflict` while a job works on it. No repository is needed for it."""
    end = f"newhope restores {settlement.end.value} {entry.id}"
    return _start(
        settings,
        journal,
        SETTLE,
        entry.request.name,
        entry.request.to_host,
        settlement,
        lock=restore.lock_of(entry.request),
        again=f"{end} --delete-original" if settlement.delete_original else end,
        untouched=f"What was not done yet stands in the restore's journal: newhope restores show {entry.id}.",
    )

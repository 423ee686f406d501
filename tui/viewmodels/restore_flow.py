"""The restore flow as a value: which step, what was chosen, and what each step shows.

    1 Point  2 Target  3 Mapping  4 Checks  5 Plan  6 Confirm

Whatever the operator leaves open is decided by the engine's plan, so that from any step on the plan can be seen, and
what runs is the decided request of exactly the plan that was shown.
"""

from __future__ import annotations

from enum import IntEnum

from msgspec import Struct, structs

from engine.fleet import CheckState, FitnessCheck, HostFitness, Verdict, nearest_machine
from engine.hosts.model import HostFacts, HostStatus
from engine.repository.model import Point
from engine.restore import MacChoice, Mode, NetworkMapping, Request, RestorePlan, hosts_by_fitness, open_warnings
from tui.viewmodels.figures import lost, moment, size
from tui.viewmodels.picture import Picture, host_word
from tui.viewmodels.restore_plan import MARKS
from tui.viewmodels.text import (
    Block,
    Column,
    Line,
    Row,
    Span,
    Table,
    Tone,
    bare,
    clipped,
    labelled,
    line,
    quiet,
    strong,
)
from tui.viewmodels.vm_page import CONSISTENCY_WORDS


class Stage(IntEnum):
    """The steps, in their order."""

    POINT = 1
    TARGET = 2
    MAPPING = 3
    CHECKS = 4
    PLAN = 5
    CONFIRM = 6


class Draft(Struct, frozen=True):
    """What has been chosen so far. Empty and None mean: as the engine suggests."""

    vm_uuid: str
    vm: str
    point: Point | None = None
    to_host: str = ""
    name: str = ""
    pool: str = ""
    networks: tuple[NetworkMapping, ...] = ()
    macs: MacChoice = MacChoice.AUTO
    start: bool = True
    instant: bool = False
    mode: Mode = Mode.BESIDE
    machine: str = ""
    cpu: str = ""
    reason: str = ""
    ticket: str = ""
    accepted: tuple[str, ...] = ()
    """Keys of the warnings that were accepted by name, of exactly this choice."""

    def request(self) -> Request | None:
        """The request so far; None until there is a point and a host."""
        if self.point is None or not self.to_host:
            return None
        return Request(
            repository=self.point.repository,
            vm_uuid=self.vm_uuid,
            point_id=self.point.id,
            to_host=self.to_host,
            name=self.name,
            pool=self.pool,
            networks=self.networks,
            macs=self.macs,
            start=self.start,
            instant=self.instant,
            mode=self.mode,
            machine=self.machine,
            cpu=self.cpu,
            reason=self.reason,
            ticket=self.ticket,
            accepted=self.accepted,
        )


def with_host(draft: Draft, host: str) -> Draft:
    """The draft for another host: what was chosen for the last one may not exist there."""
    if host == draft.to_host:
        return draft
    return structs.replace(draft, to_host=host, name="", pool="", networks=(), machine="", cpu="", accepted=())


def with_accepted(draft: Draft, check: FitnessCheck) -> Draft:
    """The draft with a warning accepted, or no longer."""
    others = tuple(key for key in draft.accepted if key != check.key)
    return structs.replace(draft, accepted=others if check.key in draft.accepted else (*others, check.key))


_VERDICTS = {
    Verdict.FITS: Span("+ FITS", Tone.GOOD),
    Verdict.FITS_WITH_CHANGES: Span("! CHANGES", Tone.WARN),
    Verdict.DOES_NOT_FIT: Span("x NO", Tone.BAD),
}


# --------------------------------------------------------------------------- what is always there


def title(draft: Draft, picture: Picture) -> str:
    """Act, VM, moment and target: what is being done to what."""
    at = f" @ {moment(draft.point.manifest.moment, picture.now)}" if draft.point else ""
    to = f" → {draft.to_host}" if draft.to_host else ""
    return f"RESTORE {draft.vm}{at}{to}{f' as {draft.name}' if draft.name else ''}"


def rail_line(stage: Stage) -> Line:
    """The steps in one line, for a terminal that has no room for `rail`."""
    parts: list[Span] = []
    for step in Stage:
        tone = Tone.HERE if step is stage else Tone.PLAIN if step < stage else Tone.QUIET
        parts += [Span(f" {step.value} {step.name.capitalize()} ", tone), Span(" ")]
    return tuple(parts)


def rail(draft: Draft, plan: RestorePlan | None, stage: Stage, picture: Picture, width: int) -> Block:
    """The steps, where the operator is, and what was decided in each."""
    said = {
        Stage.POINT: _said_point(draft, picture),
        Stage.TARGET: f"{draft.to_host}, {_MODE_NOTES[draft.mode]}" if draft.to_host else "",
        Stage.MAPPING: _said_mapping(draft, plan),
        Stage.CHECKS: _said_checks(plan),
        Stage.PLAN: f"{len(plan.steps)} steps, {size(plan.size_bytes)} to write" if plan else "",
        Stage.CONFIRM: "",
    }
    lines: list[Line] = []
    for step in Stage:
        here = step is stage
        word = "here" if here else "done" if step < stage else "next"
        if step is Stage.CHECKS and plan is not None and not here:
            word = "FAIL" if plan.blocked else "OPEN" if open_warnings(plan.checks, draft.accepted) else word
        tone = Tone.HERE if here else Tone.PLAIN if step < stage else Tone.QUIET
        lines.append(
            clipped(
                line(
                    Span(f" {step.value} {step.name.capitalize():<9}", tone),
                    Span(f" {word:<6}", _WORD_TONES.get(word, Tone.QUIET)),
                    Span(said[step], Tone.PLAIN if step <= stage else Tone.QUIET),
                ),
                width,
            )
        )
    return tuple(lines)


_WORD_TONES = {"FAIL": Tone.BAD, "OPEN": Tone.WARN}


def _said_point(draft: Draft, picture: Picture) -> str:
    if draft.point is None:
        return ""
    manifest = draft.point.manifest
    loss = lost((picture.now - manifest.moment).total_seconds())
    how = CONSISTENCY_WORDS[manifest.consistency]
    return f"{moment(manifest.moment, picture.now)} {manifest.method}, {how}; what came after it is lost ({loss})"


def _said_mapping(draft: Draft, plan: RestorePlan | None) -> str:
    if plan is None:
        return ""
    if not plan.request.defines:
        return f"name {plan.request.name}, pool {plan.request.pool}, disks only"
    nets = ",".join(mapping.to for mapping in plan.request.networks) or "no network"
    start = "start" if plan.request.start else "do not start"
    return f"name {plan.request.name}, pool {plan.request.pool}, net {nets}, {start}"


def _said_checks(plan: RestorePlan | None) -> str:
    if plan is None:
        return ""
    states = [check.state for check in plan.checks]
    counts = ((CheckState.PASS, "pass"), (CheckState.WARN, "warn"), (CheckState.FAIL, "fail"))
    return ", ".join(f"{states.count(state)} {word}" for state, word in counts)


# --------------------------------------------------------------------------- 2 Target


def ranked_hosts(picture: Picture, point: Point) -> tuple[HostFitness, ...]:
    """Every host with its fitness for this VM, the fittest first."""
    return hosts_by_fitness(picture.settings, picture.fleet, point) if picture.fleet else ()


def target_table(picture: Picture, point: Point, width: int) -> Table:
    """Hosts ranked by how well the VM fits there, each with its first reason against."""
    columns = [
        Column("host", "HOST", 13),
        Column("fit", "FIT", 9),
        Column("state", "STATE", 9),
        Column("memory", "MEM FREE", 9, right=True),
        Column("disk", "DISK FREE", 9, right=True),
        Column("why", "WHY", width - 59, grows=True),
    ]
    if width < 78:
        columns = [column for column in columns if column.key not in ("memory", "disk")]
    rows = tuple(
        Row(fit.host, tuple(_target_cell(column.key, fit, picture, point) for column in columns))
        for fit in ranked_hosts(picture, point)
    )
    empty = (
        line(strong("No host is known yet."), quiet("  Hosts are being asked.")),
        line(quiet("If this stays so: newhope hosts")),
    )
    return Table(tuple(columns), rows, empty)


def _target_cell(key: str, fit: HostFitness, picture: Picture, point: Point) -> Span:
    snapshot = picture.snapshot(fit.host)
    if key == "host":
        return Span(fit.host)
    if key == "fit":
        return _VERDICTS[fit.verdict]
    if key == "state":
        return host_word(snapshot)
    if key == "why":
        against = against_of(fit)
        home = "the original is here" if fit.host == point.manifest.vm.host else "nothing speaks against it"
        return Span(against[0].evidence, Tone.PLAIN) if against else Span(home, Tone.QUIET)
    online = snapshot is not None and snapshot.status is HostStatus.ONLINE
    if snapshot is None or not online or snapshot.facts is None:
        return quiet("-")
    if key == "memory":
        return Span(size(snapshot.facts.memory_free_bytes))
    return Span(size(max((pool.available_bytes for pool in snapshot.pools if pool.active), default=0)))


def against_of(fit: HostFitness) -> tuple[FitnessCheck, ...]:
    """What speaks against a host, the worst first."""
    bad = [check for check in fit.checks if check.flawed]
    return tuple(sorted(bad, key=lambda check: check.state is not CheckState.FAIL))


def target_lines(fit: HostFitness | None, picture: Picture, width: int) -> Block:
    """The host under the cursor: each reason, and what would remove it."""
    if fit is None:
        return ()
    snapshot = picture.snapshot(fit.host)
    body: list[Line] = []
    if snapshot and snapshot.facts:
        facts = snapshot.facts
        accel = "KVM" if facts.kvm else "emulation"
        text = f"{facts.cpus} CPUs ({accel}), {size(facts.memory_bytes)}, QEMU {facts.qemu_version}, {facts.arch}"
        body += labelled(fit.host, text, width, label_width=12)
    for check in against_of(fit):
        mark = MARKS[check.state]
        body += labelled(bare(mark), f"{check.name}: {check.evidence}", width, tone=mark.tone, label_width=12)
        if check.remedy:
            body += labelled("next", check.remedy, width, label_width=12)
        if check.meaning:
            body += labelled("or else", check.meaning, width, label_width=12, tone=Tone.QUIET)
    if not against_of(fit):
        body += labelled(
            "PASS", f"All {len(fit.checks)} checks of the host pass.", width, tone=Tone.GOOD, label_width=12
        )
    return tuple(body)


# --------------------------------------------------------------------------- 3 Mapping


def mapping_table(draft: Draft, plan: RestorePlan, picture: Picture, width: int) -> Table:
    """What the restored VM will be called and connected to; every field has a safe value already."""
    columns = (
        Column("field", "FIELD", 12),
        Column("value", "VALUE", 22),
        Column("note", "WHERE IT COMES FROM", width - 40, grows=True),
    )
    request, facts = plan.request, (draft.point.manifest.vm if draft.point else None)
    rows = [
        _field("name", request.name, "chosen" if draft.name else _name_note(request, plan.vm)),
        _field("pool", request.pool, "chosen" if draft.pool else f"the pool of {request.to_host}"),
    ]
    if request.defines:
        rows += [_network_field(mapping, draft, request) for mapping in request.networks]
        rows.append(_field("MACs", request.macs.value, _mac_note(plan, facts.macs if facts else ())))
        rows.append(_field("start", _start_word(request), _START_NOTES[_start_word(request)]))
    rows.append(_field("mode", request.mode.value, _MODE_NOTES[request.mode]))
    flawed = {check.name for check in plan.checks if check.flawed}
    if facts and (draft.machine or "machine type" in flawed):
        note = "chosen" if draft.machine else f"its own, which {request.to_host} does not have"
        rows.append(_field("machine", request.machine or facts.machine, note))
    if facts and (draft.cpu or "CPU" in flawed):
        note = "chosen" if draft.cpu else f"its own, which {request.to_host} cannot give"
        rows.append(_field("CPU", request.cpu or facts.cpu_model or facts.cpu_mode, note))
    rows.append(_field("reason", request.reason or "-", "why it is done, for the report"))
    rows.append(_field("ticket", request.ticket or "-", "number of the incident, for the report"))
    return Table(columns, tuple(rows))


_START_NOTES = {
    "yes": "then its guest agent is asked",
    "no": "it stays off",
    "at once": "over the point; its disks move then",
}


def _start_word(request: Request) -> str:
    return "at once" if request.instant else "yes" if request.start else "no"


_MODE_NOTES = {
    Mode.BESIDE: "a new VM; the original is never touched",
    Mode.REPLACE: "in its place; the original is kept aside",
    Mode.DISKS: "its disks only; no VM is defined",
    Mode.TEST: "reaches no network; removed after a day",
}


def _field(name: str, value: str, note: str) -> Row:
    return Row(name, (Span(name), Span(value, Tone.STRONG), Span(note, Tone.QUIET)))


def _network_field(mapping: NetworkMapping, draft: Draft, request: Request) -> Row:
    nics = draft.point.manifest.vm.nics if draft.point else ()
    had = nics[mapping.nic].rstrip(":") if mapping.nic < len(nics) else "?"
    note = f"as it was: {had}"
    if any(given.nic == mapping.nic for given in draft.networks):
        note = "chosen"
    elif request.mode is Mode.TEST:
        note = f"a test is isolated; it was: {had}"
    return _field(f"network {mapping.nic}", mapping.to, note)


def _name_note(request: Request, original: str) -> str:
    if not request.defines:
        return "the volumes are called after it"
    if request.aside is not None:
        return f"the original becomes {request.aside.kept_name}"
    if request.name == original:
        return "the original is gone: its own name"
    return "the original stays: a new name beside it"


def _mac_note(plan: RestorePlan, old: tuple[str, ...]) -> str:
    if not plan.request.new_macs:
        return "it has no network card"
    return "the old addresses" if plan.request.new_macs == old else "new: " + ", ".join(plan.request.new_macs)


TYPED = {
    "name": "name of the restored VM",
    "reason": "why it is done, in a few words",
    "ticket": "number of the incident, such as INC-4711",
}
"""Fields that are typed, each with what is asked for."""


def typed_so_far(field: str, plan: RestorePlan) -> str:
    """What stands in a field that is typed."""
    return {"name": plan.request.name, "reason": plan.request.reason, "ticket": plan.request.ticket}[field]


def choices(field: str, draft: Draft, plan: RestorePlan, picture: Picture) -> tuple[str, ...]:
    """The values a field can take; empty for one that is typed."""
    snapshot = picture.snapshot(plan.request.to_host)
    if field == "pool":
        return tuple(pool.name for pool in snapshot.pools if pool.active) if snapshot else ()
    if field.startswith("network "):
        known = [network.name for network in snapshot.networks if network.active] if snapshot else []
        current = plan.request.networks[int(field.split()[1])].to
        return tuple(dict.fromkeys([*known, "user", "none", current]))
    if field == "MACs":
        return tuple(choice.value for choice in MacChoice)
    if field in ("machine", "CPU"):
        return _hardware(field, draft, snapshot.facts if snapshot else None)
    if field == "mode":
        return tuple(mode.value for mode in Mode)
    return tuple(_START_NOTES) if field == "start" else ()


def _hardware(field: str, draft: Draft, host: HostFacts | None) -> tuple[str, ...]:
    """Its own, and what comes nearest on the host."""
    facts = draft.point.manifest.vm if draft.point else None
    if facts is None or host is None:
        return ()
    if field == "machine":
        nearest = nearest_machine(facts.machine, host.machines)
        return (facts.machine, nearest) if nearest else ()
    own = facts.cpu_model or facts.cpu_mode
    return (own, *(mode for mode in ("host-model", "maximum") if mode in host.cpu_modes and mode != own))


def next_choice(field: str, draft: Draft, plan: RestorePlan, picture: Picture) -> Draft:
    """The draft with the field's next value."""
    values = choices(field, draft, plan, picture)
    if not values:
        return draft
    request = plan.request
    current = {
        "pool": request.pool,
        "MACs": request.macs.value,
        "start": _start_word(request),
        "mode": request.mode.value,
        "machine": request.machine,
        "CPU": request.cpu,
    }.get(field)
    if current is None:
        current = request.networks[int(field.split()[1])].to
    if field in ("machine", "CPU") and not current:
        current = values[0]
    place = values.index(current) if current in values else -1
    return with_value(field, values[(place + 1) % len(values)], draft)


def with_value(field: str, value: str, draft: Draft) -> Draft:
    """The draft with a field set; what was accepted was of the choice before, whatever the reason for it."""
    if field in ("reason", "ticket"):
        said = " ".join(value.split())
        return structs.replace(draft, reason=said) if field == "reason" else structs.replace(draft, ticket=said)
    draft = structs.replace(draft, accepted=())
    if field in ("machine", "CPU"):
        facts = draft.point.manifest.vm if draft.point else None
        own = "" if facts is None else facts.machine if field == "machine" else facts.cpu_model or facts.cpu_mode
        chosen = "" if value == own else value
        return structs.replace(draft, machine=chosen) if field == "machine" else structs.replace(draft, cpu=chosen)
    if field == "name":
        return structs.replace(draft, name=value.strip())
    if field == "pool":
        return structs.replace(draft, pool=value)
    if field == "MACs":
        return structs.replace(draft, macs=MacChoice(value))
    if field == "start":
        return structs.replace(draft, start=value != "no", instant=value == "at once")
    if field == "mode":
        # A name that was suggested for one mode is not that of another.
        return structs.replace(draft, mode=Mode(value), name="", networks=())
    nic = int(field.split()[1])
    others = tuple(mapping for mapping in draft.networks if mapping.nic != nic)
    return structs.replace(draft, networks=(*others, NetworkMapping(nic, value)))

"""A VM of which nobody knows whether its recovery points bring it back, though its level asks; or they did not."""

from __future__ import annotations

from collections.abc import Iterator

from engine.fleet import ProofStanding, ProofState, proof_standing, proofs_by_vm
from engine.repository import ProofVerdict
from engine.resilience.finding import Finding, Severity
from engine.resilience.scene import Scene, SceneVm
from engine.resilience.wording import age_in_words, command
from engine.settings import format_duration

CHECK = "not-proven"
_FIRST_AN_AGENT = "let a guest agent run in it, back it up, "
_SEVERITY = {
    ProofState.FAILED: Severity.FAIL,
    ProofState.NEVER: Severity.WARN,
    ProofState.LATE: Severity.WARN,
    ProofState.OPEN: Severity.UNKNOWN,
    ProofState.PROVEN: Severity.OK,
}


def check(scene: Scene) -> Iterator[Finding]:
    """One finding for each VM that was proven once, or whose level asks for it, and that has a recovery point."""
    proofs = proofs_by_vm(scene.fleet)
    for vm in scene.vms:
        standing = proof_standing(proofs.get(vm.uuid, ()), vm.level, scene.now)
        if not vm.points or standing.state is ProofState.NOT_ASKED:
            continue
        if standing.state is ProofState.PROVEN:
            age = age_in_words(standing.age_s or 0.0)
            yield Finding(CHECK, Severity.OK, vm.label, f"{vm.label} was proven {age} ago.", vms=(vm.uuid,))
        else:
            yield _flaw(vm, standing)


def _flaw(vm: SceneVm, standing: ProofStanding) -> Finding:
    age = age_in_words(standing.age_s or 0.0)
    asked_s = vm.level.prove_every_s if vm.level is not None else None
    asks = f"its level {vm.level.name} asks for {format_duration(asked_s)}" if vm.level and asked_s else ""
    mute = standing.last is not None and standing.last.verdict is ProofVerdict.STARTED
    what = {
        ProofState.FAILED: f"The last proof of {vm.label}, {age} ago, failed.",
        ProofState.NEVER: f"{vm.label} was never proven; {asks}.",
        ProofState.LATE: f"The last proof of {vm.label} is {age} old; {asks}.",
    }.get(
        standing.state,
        f"The last proof of {vm.label}, {age} ago, could not tell whether it {'booted' if mute else 'is well'}.",
    )
    evidence: tuple[str, ...] = ()
    if standing.last is not None:
        evidence = (f"proof of point {standing.last.point_id[:8]}: {standing.last.verdict}",)
        if standing.failed > 1:
            evidence += (f"the last {standing.failed} proofs failed",)
    show = command("newhope", "points", "show", f"{vm.name}@{standing.last.point_id[:8]}") if standing.last else ""
    again = command("newhope", "prove", vm.point_name)
    why = {
        ProofState.FAILED: "A restore of it now may not bring it back.",
        ProofState.OPEN: "Its guest has no agent: it was only watched from outside."
        if mute
        else "It booted, and its agent may not run the checks of its level.",
    }.get(standing.state, "Until a recovery point was booted and asked, it is only a promise.")
    return Finding(
        check=CHECK,
        severity=_SEVERITY[standing.state],
        subject=vm.label,
        what=what,
        why=why,
        evidence=evidence,
        fix=(f"see what it came to: {show}", f"{_FIRST_AN_AGENT if mute else ''}then {again}") if show else (again,),
        vms=(vm.uuid,),
    )

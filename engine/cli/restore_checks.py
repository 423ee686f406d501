"""The checks of a restore, and hosts ranked by fitness, as people read them at 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from engine.cli import printing, states
from engine.cli.table import Column
from engine.fleet import FitnessCheck, HostFitness
from engine.restore import RestorePlan, open_warnings


def show_ranking(hosts: Sequence[HostFitness], chosen: str) -> None:
    """Every host, the fittest first; then, for each that does not simply fit, why, the remedy, and what it means."""
    columns = (Column("HOST"), Column("FIT"), Column("WHY", folds=True))
    rows = [
        (
            f"{each.host} *" if each.host == chosen else each.host,
            each.verdict.value,
            each.reason or "nothing speaks against it",
        )
        for each in hosts
    ]
    printing.show_table(columns, rows)
    printing.say("* the fittest, which is taken here; another one: --to HOST")
    for each in hosts:
        against = [check for check in each.checks if check.flawed]
        if against and each.host != chosen:
            printing.say()
            printing.say(f"{each.host}, if you choose it all the same:")
            for check in against:
                printing.say_below(
                    f"{states.of_check(str(check.state)).text}  {check.name}: {check.evidence}", indent=2
                )
                _say_remedy(check)
    printing.say()


def show_checks(plan: RestorePlan) -> None:
    """Every check with its evidence; below, for each that did not pass, what to do and what it means to go on."""
    rows = [(states.of_check(str(check.state)), check.name, check.evidence) for check in plan.checks]
    printing.show_table((Column("CHECK"), Column("OF"), Column("EVIDENCE", folds=True)), rows)
    for check in plan.checks:
        if check.flawed:
            printing.say()
            printing.say(f"{states.of_check(str(check.state)).text}  {check.name}")
            _say_remedy(check)
    wanted = open_warnings(plan.checks, plan.request.accepted)
    if wanted:
        keys = ",".join(check.key for check in wanted)
        printing.say()
        printing.say(f"To be accepted by name, if you go on: --accept {keys}")
    printing.say()


def _say_remedy(check: FitnessCheck) -> None:
    if check.remedy:
        printing.say_below(f"to do: {check.remedy}", indent=8)
    if check.meaning:
        printing.say_below(f"or else: {check.meaning}", indent=8)

"""What is due, what will be and what is left out, as `newhope backup --due` and `newhope prove --due` show it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from engine.cli import printing
from engine.cli.table import Column
from engine.cli.wording import age, local
from engine.requirements import Later, LeftOut


def show_due(
    due: Iterable[tuple[str, str, str, str]], later: Iterable[Later], left_out: Iterable[LeftOut], now: datetime
) -> None:
    """Print it; `due` has VM, host, level and why of each."""
    columns = (
        Column("VM", gives_way=True),
        Column("HOST", gives_way=True),
        Column("LEVEL", gives_way=True),
        Column("DUE", right=True),
        Column("WHY", gives_way=True),
    )
    rows = [(vm, host, level, "now", why) for vm, host, level, why in due]
    rows += [
        (
            found.vm,
            found.host,
            found.level,
            "" if found.due_at is None else f"in {age((found.due_at - now).total_seconds())}",
            found.why if found.due_at is None else f"{found.why}; at {local(found.due_at)}",
        )
        for found in later
    ]
    if rows:
        printing.show_table(columns, rows)
    for found in left_out:
        printing.say(f"- left out {found.vm} on {found.host}: {found.why}")

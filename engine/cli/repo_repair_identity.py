"""`newhope repo repair` where nothing can be opened: newhope-repository is damaged or gone, and is put back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli.invocation import Invocation
from engine.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.repository import IdentityCopy, IdentityPlan
    from engine.settings import Repository as RepositorySettings


LARGEST_FILE = 64 << 10


def identity_in_need(invocation: Invocation, name: str | None) -> RepositorySettings | None:
    """The repository of that name, if its identity is damaged or gone; None if it can be opened, or is none at all."""
    from engine.cli.opened_repository import named
    from engine.repository import RepositoryMissing, identity_damage, storage_at

    kept = named(lambda: invocation.settings, name)
    try:
        return kept if identity_damage(storage_at(kept.location)) is not None else None
    except RepositoryMissing:
        # Said better by who opens it.
        return None


def put_back(
    invocation: Invocation, kept: RepositorySettings, sources: Iterable[str], *, yes: bool, dry_run: bool
) -> ExitCode:
    """Show what is wrong with the file and what it will say, ask, and put it back. The rest is another repair's."""
    from engine.cli import printing
    from engine.cli.confirmation import confirm
    from engine.repository import apply_identity, storage_at

    storage = storage_at(kept.location)
    plan = _planned(invocation, kept, sources)
    if invocation.json and (dry_run or not yes):
        printing.show_json({"repair": {"identity": _document(plan, done=False, kept=None)}})
        return ExitCode.REPOSITORY
    if not invocation.json:
        _show(plan)
    if dry_run:
        return ExitCode.REPOSITORY
    if not yes and not confirm(invocation, f"Put the file back so, in {plan.location}?"):
        printing.say("Nothing was done.")
        return ExitCode.CANCELLED
    aside = apply_identity(storage, plan)
    if invocation.json:
        printing.show_json({"repair": {"identity": _document(plan, done=True, kept=aside)}})
        return ExitCode.OK
    where = f"; the damaged one is {aside}" if aside else ""
    printing.say(f"DONE  newhope-repository is back{where}.")
    printing.say(f"Now look at the rest: newhope repo repair {kept.name}")
    return ExitCode.OK


def _planned(invocation: Invocation, kept: RepositorySettings, sources: Iterable[str]) -> IdentityPlan:
    from engine.cli.passphrase_prompt import prompt_here
    from engine.fleet import is_bound_to_be_encrypted, secret_of
    from engine.repository import plan_identity, storage_at

    copies = [_copy(invocation, source) for source in sources]
    return plan_identity(
        storage_at(kept.location),
        copies,
        kept.name,
        lambda _id, _name: secret_of(kept, prompt_here()),
        expect_encrypted=is_bound_to_be_encrypted(kept),
    )


def _copy(invocation: Invocation, source: str) -> IdentityCopy:
    """What `--from` names: a copy of the file, or a repository that has one."""
    from engine.cli.opened_repository import is_place, named
    from engine.repository import IdentityCopy, storage_at

    if is_place(source) and "://" not in source and Path(source).is_file():
        with Path(source).open("rb") as file:
            return IdentityCopy(source, file.read(LARGEST_FILE))
    kept = named(lambda: invocation.settings, source)
    return IdentityCopy(f"the repository {kept.name}", storage_at(kept.location).read("newhope-repository"))


def _show(plan: IdentityPlan) -> None:
    from engine.cli import printing

    printing.say(f"{plan.what}\n\n1  put back  newhope-repository")
    for line in plan.does:
        printing.say(f"   - {line}")
    printing.say("   original: what there is of it is kept in quarantine/")
    printing.say("\nIt will say:\n" + plan.content.decode().rstrip())


def _document(plan: IdentityPlan, *, done: bool, kept: str | None) -> dict[str, object]:
    import json

    return {
        "what": plan.what,
        "does": list(plan.does),
        "content": json.loads(plan.content),
        "done": done,
        "kept": kept,
    }

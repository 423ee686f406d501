"""Asking for a passphrase at the terminal, which does not show what is typed."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from engine.cli.failures import Usage

if TYPE_CHECKING:
    from engine.fleet import Prompt
    from engine.repository import Passphrase
    from engine.settings import Repository

SHORTEST = 8
TRIES = 3


def prompt_here() -> Prompt | None:
    """What asks at this terminal; None where there is none."""
    return ask if sys.stdin.isatty() else None


def ask(question: str) -> Passphrase | None:
    """The answer to a question; None for Enter alone, or the end of the input."""
    from engine.repository import Passphrase

    try:
        typed = getpass.getpass(question)
    except EOFError:
        return None
    return Passphrase(os.fsencode(typed)) if typed else None


def ask_for_what_is_missing(repositories: Iterable[Repository]) -> None:
    """Ask for the passphrases that nothing else gives, before these repositories are opened all at once."""
    from engine.fleet import ask_for_passphrases

    prompt = prompt_here()
    if prompt is not None:
        ask_for_passphrases(repositories, prompt)


def typed_twice(kept: Repository, otherwise: str) -> Passphrase:
    """A new passphrase from the terminal. `otherwise` is the next step where there is no terminal."""
    prompt = prompt_here()
    if prompt is None:
        raise Usage(
            f"The repository {kept.name} needs a passphrase, and there is neither one that is kept for it nor a"
            " terminal to ask at.",
            next_step=otherwise,
        )
    print(  # noqa: T201
        f"Whoever has lost the passphrase has lost what is in {kept.name}. Six random words are a good one.",
        file=sys.stderr,
    )
    for _ in range(TRIES):
        first = prompt(f"New passphrase of the repository {kept.name}: ")
        if first is None:
            break
        if len(first.value) < SHORTEST:
            print(f"That is too short: at least {SHORTEST} letters.", file=sys.stderr)  # noqa: T201
            continue
        if prompt("Once more: ") == first:
            return first
        print("These were two different ones.", file=sys.stderr)  # noqa: T201
    raise Usage("No passphrase was agreed on.", next_step="run the command again.")


def refuse_short(passphrase: Passphrase) -> Passphrase:
    """The passphrase, unless anybody could guess it."""
    if len(passphrase.value) < SHORTEST:
        raise Usage(
            f"The passphrase is shorter than {SHORTEST} letters.",
            next_step="take six random words, or 20 random letters and digits.",
        )
    return passphrase

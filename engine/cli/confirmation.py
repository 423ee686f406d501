"""Asking before anything is changed. Enter alone never confirms."""

from __future__ import annotations

import click

from engine.cli.failures import Usage
from engine.cli.invocation import Invocation


def confirm(invocation: Invocation, question: str) -> bool:
    """Ask a yes-or-no question whose answer without a word is no. Raises `Usage` where nobody can answer."""
    _refuse_without_operator(invocation)
    return click.confirm(question, default=False)


def confirm_by_name(invocation: Invocation, question: str, name: str) -> bool:
    """Let a name be typed, for what interrupts people's work. Raises `Usage` where nobody can answer."""
    _refuse_without_operator(invocation)
    typed = click.prompt(f"{question} Type {name} to go on", default="", show_default=False)
    return typed.strip() == name


def _refuse_without_operator(invocation: Invocation) -> None:
    if not invocation.can_ask:
        raise Usage(
            "This has to be confirmed, and there is no terminal to ask at.",
            next_step="add --yes to go on without being asked, or --dry-run to see the plan only.",
        )

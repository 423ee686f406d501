"""The one list of what an operator can do: the keys, the footer, the command palette and `?` all read it.

Upper case opens a plan or, inside a confirmation, executes it. Whether an action is possible now, and why not, is the
screen's to say (`why_not`); an action is greyed then, never hidden, and pressing it tells the reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct


class Place(StrEnum):
    """Where an action applies."""

    FLEET = "Fleet"
    VM = "VM"
    BACKUP = "Backup"
    RESTORE = "Restore"
    FILES = "Files"
    RESTORES = "Restores"
    CONFIRM = "Confirm"
    WHAT_NOW = "What now"
    JOBS = "Jobs"
    JOB = "Job"
    CHECKS = "Checks"
    PROBLEMS = "Problems"
    HELP = "Help"


class Action(Struct, frozen=True):
    """Something that can be done. The screen has a method `action_ID`."""

    id: str
    keys: tuple[str, ...]
    """Textual's names of the keys, the one to show first."""
    shown: str
    """The key as it is written."""
    label: str
    help: str
    places: frozenset[Place]
    rank: int = 0
    """Its place in the footer, from the left; 0 keeps it out."""


_EVERYWHERE = frozenset(Place) - {Place.CONFIRM, Place.WHAT_NOW}
_TABLES = frozenset({Place.FLEET, Place.JOBS, Place.CHECKS, Place.RESTORES})
_LISTS = frozenset(Place)


def _action(
    id: str,  # noqa: A002 - it is the action's id
    keys: str,
    shown: str,
    label: str,
    help: str,  # noqa: A002 - it is the action's help
    places: Iterable[Place],
    rank: int = 0,
) -> Action:
    return Action(id, tuple(keys.split()), shown, label, help, frozenset(places), rank)


ACTIONS: tuple[Action, ...] = (
    _action("open", "enter", "Enter", "open", "Open what is under the cursor. It never starts anything.",
            {Place.FLEET, Place.FILES, Place.JOBS, Place.RESTORES}, 1),
    _action("onward", "enter", "Enter", "next", "Go on to the next step. It never starts anything.",
            {Place.BACKUP, Place.RESTORE}, 1),
    _action("previous", "h left backspace", "h", "back a step", "Go back to the step before; what was chosen stays.",
            {Place.RESTORE}, 2),
    _action("to_plan", "P", "P", "plan", "Go straight to the plan, with the suggested values for what is left open.",
            {Place.RESTORE}, 3),
    _action("change", "space", "Space", "change",
            "Change the field under the cursor to its next value; accept the warning under it by its name.",
            {Place.RESTORE}, 4),
    _action("backup", "B", "B", "backup", "Plan a backup of the VM under the cursor: hot, cold, paused or with memory.",
            {Place.FLEET, Place.VM}, 3),
    _action("restore", "R", "R", "restore", "Plan a restore: which point, which host, under which name.",
            {Place.FLEET, Place.VM}, 2),
    _action("files", "f", "f", "files", "Look at the files in the point under the cursor, and get some.",
            {Place.VM}, 4),
    _action("fold", "h left backspace", "h", "close", "Close the folder under the cursor, or the one that it is in.",
            {Place.FILES}, 2),
    _action("get", "S", "S", "save here", "Write what is under the cursor to this machine; asks where, plan first.",
            {Place.FILES}, 3),
    _action("put_back", "P", "P", "put back", "Put what is under the cursor back into the running guest; plan first.",
            {Place.FILES}, 4),
    _action("undo_restore", "U", "U", "undo", "Take a restore back, its VM and disks included; asks first.",
            {Place.RESTORES}, 2),
    _action("commit_restore", "C", "C", "commit", "Keep a restore for good; asks first.", {Place.RESTORES}, 3),
    _action("resume_restore", "R", "R", "resume", "Go on with a restore that was interrupted; asks first.",
            {Place.RESTORES}, 4),
    _action("execute", "E", "E", "EXECUTE", "Start what is shown. Only here, and only with this key.",
            {Place.CONFIRM}, 1),
    _action("execute", "E", "E", "DO IT", "Do what is under the cursor. Only with this key.", {Place.WHAT_NOW}, 1),
    _action("keep", "escape", "Esc", "cancel", "Go back; nothing is started.", {Place.CONFIRM}, 2),
    _action("keep", "escape", "Esc", "stop", "Make no recovery point now.", {Place.WHAT_NOW}, 2),
    _action("what_now", "A", "A", "what now", "Answer what is done with a guest that did not shut down.",
            {Place.JOB}, 1),
    _action("cancel_job", "C", "C", "cancel job", "Ask the job to stop at a safe place; asks first.",
            {Place.JOBS, Place.JOB}, 2),
    _action("pause_job", "space", "Space", "pause/go on",
            "Let the job stand still, or go on; it keeps its locks and its place.",
            {Place.JOBS, Place.JOB}, 3),
    _action("slower", "less_than_sign", "<", "slower", "Let the job move fewer bytes a second.", {Place.JOB}, 4),
    _action("faster", "greater_than_sign", ">", "faster", "Let it move more; without a limit after the last step.",
            {Place.JOB}, 5),
    _action("fewer_streams", "minus", "-", "fewer streams", "Let a restore move fewer pieces at once.", {Place.JOB}),
    _action("more_streams", "plus equals_sign", "+", "more streams", "Let a restore move more pieces at once.",
            {Place.JOB}),
    _action("priority", "t", "t", "priority", "Low, normal, high: jobs give way to those of higher priority.",
            {Place.JOB}),
    _action("filter", "slash", "/", "filter", "Show only rows with these words; !word leaves rows out.",
            _TABLES, 4),
    _action("filter", "slash", "/", "search", "Show only names with these words; Enter searches all folders for them.",
            {Place.FILES}, 5),
    _action("faults", "f", "f", "faults", "Show only what needs you, or everything again.", _TABLES, 5),
    _action("sort", "s", "s", "sort", "Put the rows in order again, worst first; they never move by themselves.",
            {Place.FLEET, Place.CHECKS}),
    _action("mode_fleet", "1", "1", "fleet", "Hosts and VMs, with the age of their newest recovery point.",
            _EVERYWHERE - {Place.FLEET}, 7),
    _action("mode_jobs", "2", "2", "jobs", "What runs and what ran; jobs go on without the console.",
            _EVERYWHERE - {Place.JOBS}, 8),
    _action("mode_checks", "3", "3", "checks", "What would hurt: single points of failure, each with its fix.",
            _EVERYWHERE - {Place.CHECKS}, 9),
    _action("mode_restores", "4", "4", "restores", "Restores that wait for you, and what became of the others.",
            _EVERYWHERE - {Place.RESTORES}, 10),
    _action("problems", "exclamation_mark", "!", "problems", "Everything that went wrong, until you dismiss it.",
            _EVERYWHERE - {Place.PROBLEMS}),
    _action("dismiss_problem", "d", "d", "dismiss", "Take the problem under the cursor off the list.",
            {Place.PROBLEMS}, 1),
    _action("dismiss_all", "D", "D", "dismiss all", "Empty the list.", {Place.PROBLEMS}, 2),
    _action("go_back", "escape", "Esc", "back", "Back to where you came from; clears a filter first.",
            _EVERYWHERE - _TABLES, 6),
    _action("go_back", "escape", "Esc", "clear", "Clear the filter; with none, back to the fleet.", _TABLES),
    _action("copy_id", "y", "y", "copy id", "Copy the name or id of what is under the cursor.",
            _TABLES | {Place.VM, Place.FILES, Place.JOB}),
    _action("copy_command", "Y", "Y", "copy CLI", "Copy the shell command that does the same.",
            _TABLES | {Place.VM, Place.FILES, Place.BACKUP, Place.RESTORE, Place.JOB}, 6),
    _action("refetch", "ctrl+r", "^r", "ask again", "Ask the hosts and repositories again now.", _EVERYWHERE),
    _action("pause", "p", "p", "pause", "Hold the picture still, or let it go on.", _EVERYWHERE - {Place.HELP}),
    _action("mouse", "M", "M", "mouse", "Mouse on or off; off leaves selecting text to your terminal.", _EVERYWHERE),
    _action("down", "j", "j", "down", "Down a row; also the arrow key.", _LISTS),
    _action("up", "k", "k", "up", "Up a row; also the arrow key.", _LISTS),
    _action("first", "g home", "g", "first", "To the first row.", _LISTS),
    _action("last", "G end", "G", "last", "To the last row.", _LISTS),
    _action("half_down", "ctrl+d", "^d", "half a page down", "Half a page down.", _LISTS),
    _action("half_up", "ctrl+u", "^u", "half a page up", "Half a page up.", _LISTS),
    _action("other_pane", "tab", "Tab", "pane", "To the next pane.", _EVERYWHERE),
    _action("palette", "ctrl+p", "^p", "palette", "Find an action by its words.", _EVERYWHERE),
    _action("help", "question_mark", "?", "keys", "This sheet.", _EVERYWHERE - {Place.HELP}, 11),
    _action("quit_console", "q", "q", "quit", "Leave the console. Jobs go on; newhope jobs shows them.",
            _EVERYWHERE, 12),
)  # fmt: skip


def actions_of(place: Place) -> tuple[Action, ...]:
    """What can be done at a place, footer actions first."""
    here = [action for action in ACTIONS if place in action.places]
    return tuple(sorted(here, key=lambda action: action.rank or 99))

"""A restore's report as people read it."""

from __future__ import annotations

from engine.restore.model import RestoreReport

_MIB = 1024**2


def as_markdown(report: RestoreReport) -> str:
    """The report as a Markdown page, complete without anything else at hand."""
    took_s = (report.finished - report.started).total_seconds()
    lost_s = (report.started - report.moment).total_seconds()
    lines = [
        f"# Restore of {report.vm} as {report.restored_as} on {report.host}",
        "",
        f"{report.sentence}.",
        "",
        "| | |",
        "|---|---|",
        f"| recovery point | {report.point}, of {report.moment:%Y-%m-%d %H:%M:%S} UTC |",
        f"| data lost | what was written in the {lost_s / 60:.0f} minutes before the restore began |",
        f"| started | {report.started:%Y-%m-%d %H:%M:%S} UTC by {report.operator or 'unknown'} |",
        f"| took | {took_s:.1f} s for {report.size_bytes / _MIB:.0f} MiB |",
        f"| new UUID | {report.uuid} |",
        f"| command | `{report.command}` |",
        "",
        "## Steps",
        "",
        "| step | seconds |",
        "|---|---|",
        *(f"| {step.title} | {step.seconds:.1f} |" for step in report.steps),
        "",
        "## Checks",
        "",
        "| check | state | evidence |",
        "|---|---|---|",
        *(f"| {check.name} | {check.state.upper()} | {check.evidence} |" for check in report.checks),
    ]
    if report.lost:
        lines += ["", "## Lost, and zero in the restored disks", "", "| disk | offset | bytes |", "|---|---|---|"]
        lines += [f"| {each.disk} | {each.offset} | {each.length} |" for each in report.lost]
    if report.warnings:
        lines += ["", "## To look at", "", *(f"- {warning}" for warning in report.warnings)]
    return "\n".join(lines) + "\n"

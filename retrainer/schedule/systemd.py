"""The systemd units: the training service and its timer, and the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retrainer.schedule.command import ScheduledCommand
    from retrainer.schedule.expression import Expression

SERVICE = "retrainer.service"
TIMER = "retrainer.timer"
SERVER = "retrainer-api.service"
FOLDER = "/etc/systemd/system"


def service(command: ScheduledCommand, user: str) -> str:
    """Return the service that runs `train --fetch --if-due` once."""
    lines = [*_head("Retrain the prediction models that are due"), "Type=oneshot", *_execution(command, user)]
    return "\n".join(lines) + "\n"


def server(command: ScheduledCommand, user: str) -> str:
    """Return the service that keeps the server running; runs that it started continue when it stops.

    It restarts without limit: at boot, the database may start later.
    """
    head = _head("The REST API of the prediction models", "StartLimitIntervalSec=0")
    lines = [*head, *_execution(command, user), "Restart=on-failure", "RestartSec=5", "KillMode=process"]
    lines += ["", "[Install]", "WantedBy=multi-user.target"]
    return "\n".join(lines) + "\n"


def timer(expression: Expression, jitter_minutes: int = 0) -> str:
    """Return the timer; it catches up on a time missed while the machine was off.

    Args:
        jitter_minutes: the longest delay; systemd chooses one for the machine and the timer.
    """
    lines = ["[Unit]", "Description=Schedule for retraining the prediction models", "", "[Timer]"]
    lines += [f"OnCalendar={calendar}" for calendar in expression.calendar()]
    if jitter_minutes:
        lines += [f"RandomizedDelaySec={jitter_minutes}min", "FixedRandomDelay=true"]
    lines += ["Persistent=true", "", "[Install]", "WantedBy=timers.target"]
    return "\n".join(lines) + "\n"


def _head(description: str, *more: str) -> list[str]:
    unit = ["[Unit]", f"Description={description}", "Wants=network-online.target", "After=network-online.target"]
    return [*unit, *more, "", "[Service]"]


def _execution(command: ScheduledCommand, user: str) -> list[str]:
    lines = [f"User={user}"]
    if command.env_file is not None:
        lines.append(f"EnvironmentFile={str(command.env_file).replace('%', '%%')}")
    return [*lines, f"ExecStart={command.systemd_command()}", "NoNewPrivileges=yes"]

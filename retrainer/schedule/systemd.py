"""The systemd units: a service with its timer, and the server's."""

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
    """Return the service: one `train --if-due`."""
    lines = [*_head("Retrain the prediction models that are due"), "Type=oneshot", *_how_it_runs(command, user)]
    return "\n".join(lines) + "\n"


def server(command: ScheduledCommand, user: str) -> str:
    """Return the service that keeps a server running; the runs that it started go on when it stops.

    It is tried again for ever: at boot, a database may come later than it.
    """
    head = _head("The REST API of the prediction models", "StartLimitIntervalSec=0")
    lines = [*head, *_how_it_runs(command, user), "Restart=on-failure", "RestartSec=5", "KillMode=process"]
    lines += ["", "[Install]", "WantedBy=multi-user.target"]
    return "\n".join(lines) + "\n"


def timer(expression: Expression) -> str:
    """Return the timer; a time that passed while the machine was off is caught up."""
    lines = ["[Unit]", "Description=Retrain the prediction models that are due, by the clock", "", "[Timer]"]
    lines += [f"OnCalendar={calendar}" for calendar in expression.calendar()]
    lines += ["Persistent=true", "", "[Install]", "WantedBy=timers.target"]
    return "\n".join(lines) + "\n"


def _head(description: str, *more: str) -> list[str]:
    unit = ["[Unit]", f"Description={description}", "Wants=network-online.target", "After=network-online.target"]
    return [*unit, *more, "", "[Service]"]


def _how_it_runs(command: ScheduledCommand, user: str) -> list[str]:
    lines = [f"User={user}"]
    if command.environment is not None:
        lines.append(f"EnvironmentFile={str(command.environment).replace('%', '%%')}")
    return [*lines, f"ExecStart={command.systemd_command()}", "NoNewPrivileges=yes"]

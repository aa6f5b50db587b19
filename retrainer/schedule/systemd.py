"""A systemd service and its timer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retrainer.schedule.command import UnattendedCommand
    from retrainer.schedule.expression import Expression

SERVICE = "retrainer.service"
TIMER = "retrainer.timer"
FOLDER = "/etc/systemd/system"


def service(command: UnattendedCommand, user: str) -> str:
    """Return the service: one `train --if-due`."""
    lines = ["[Unit]", "Description=Retrain the prediction models that are due"]
    lines += ["Wants=network-online.target", "After=network-online.target"]
    lines += ["", "[Service]", "Type=oneshot", f"User={user}"]
    if command.environment is not None:
        lines.append(f"EnvironmentFile={str(command.environment).replace('%', '%%')}")
    lines += [f"ExecStart={command.systemd_command()}", "NoNewPrivileges=yes"]
    return "\n".join(lines) + "\n"


def timer(expression: Expression) -> str:
    """Return the timer; a time that passed while the machine was off is caught up."""
    lines = ["[Unit]", "Description=Retrain the prediction models that are due, by the clock", "", "[Timer]"]
    lines += [f"OnCalendar={calendar}" for calendar in expression.calendar()]
    lines += ["Persistent=true", "", "[Install]", "WantedBy=timers.target"]
    return "\n".join(lines) + "\n"

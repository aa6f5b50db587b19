"""Groups of commands that suggest one for an unknown name, but never one that deletes."""

from __future__ import annotations

from typing import Any

from typer.core import TyperArgument, TyperGroup

from retrainer.errors import UsageError, did_you_mean

DESTRUCTIVE = {"prune", "restore-backup", "delete"}  # commands; a misspelled word must not lead to them
SYNONYMS = {
    "run": "train",
    "retrain": "train",
    "runs": "history",
    "log": "history",
    "logs": "history",
    "list": "versions",
    "models": "versions",
    "forecast": "predict",
    "undo": "rollback",
    "new": "init",
}


def _usage(self: TyperArgument, ctx: Any) -> list[str]:  # noqa: ARG001  the signature of the method
    name = self.metavar or self.name
    return [(name if self.required else f"[{name}]") + ("..." if self.nargs != 1 else "")]


# Typer writes an argument as `{FILE}` in the usage, and as `FILE <list[Path]>` below.
TyperArgument.get_usage_pieces = _usage  # type: ignore[method-assign]
TyperArgument.display_type_rich = lambda *_, **__: None  # type: ignore[method-assign]


class SuggestingGroup(TyperGroup):
    """A group whose suggestions are safe to follow."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command that the arguments start with.

        Raises:
            UsageError: there is none of this name.
        """
        name = args[0]
        if name in self.commands or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        meant = SYNONYMS.get(name)
        suggestion = (
            f"Did you mean '{meant}'?"
            if meant in self.commands
            else did_you_mean(name, self.commands.keys() - DESTRUCTIVE)
        )
        help_line = f"`{ctx.command_path} --help` shows the commands"
        raise UsageError(f"unknown command '{name}'", hint=f"{suggestion} {help_line}".strip())

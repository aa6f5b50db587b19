"""Back up a project to one file, and restore it.

A backup is a SQLite database with the project's tables and all model files, whichever database the project uses. It can
be restored to either, and read with any SQLite tool. Its last line is the SHA-256 of everything before it.
"""

from retrainer.backup.file_format import Backup
from retrainer.backup.restoring import restore_backup
from retrainer.backup.writing import back_up

__all__ = ["Backup", "back_up", "restore_backup"]

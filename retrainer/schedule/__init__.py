"""When runs are made: what is due, and the line or unit by which cron or systemd asks for it."""

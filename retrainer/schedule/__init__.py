"""Scheduling: whether a model type is due, and the crontab line or systemd units that ask for it."""

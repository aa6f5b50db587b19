"""The commands: each parses its arguments, makes one call, and prints one result."""

"""Feeds every reader with files, command lines and stores that nobody meant: `make fuzz` (see `__main__`)."""

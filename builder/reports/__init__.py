"""A BuildRecord, and the build while it runs, made readable: terminal, log, build.json, HTML page."""

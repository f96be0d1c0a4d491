"""Codes of diagnostics, what each means, and how diagnostics are shown."""

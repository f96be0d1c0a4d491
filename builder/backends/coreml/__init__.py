"""Coreml."""

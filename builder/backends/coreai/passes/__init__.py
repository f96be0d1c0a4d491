"""Rewrites of an exported program before coreai-torch converts it, in place, one file each."""

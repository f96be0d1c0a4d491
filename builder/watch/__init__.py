"""Builds again whenever something changes that a build reads, and shows the report while it does."""

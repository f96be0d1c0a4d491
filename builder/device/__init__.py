"""Measurements on devices: a folder to take to a Mac, what comes back from it, and what that says of a build."""

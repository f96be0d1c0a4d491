"""Core AI (`.aimodel`): conversion, compression, seal, execution and description by Apple's `coreai-core` wheel.

Everything that imports coreai runs in a child process (`child.py`), since Apple's library ends its process on a damaged
file and hangs after a fork; `adapter.py` alone names what is private in it.
"""

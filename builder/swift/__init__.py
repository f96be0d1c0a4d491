"""A Swift package around an artifact: its typed interface, the code that runs it, and tests with golden numbers."""

"""Core AI in the runtime: reads an `.aimodel` without Apple's packages and runs it in torch."""

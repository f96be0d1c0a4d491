"""What an artifact costs: multiply-accumulates, bytes and memory by operator, counted from its program."""

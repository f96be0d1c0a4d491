"""What values each operator of an ML program can have, from what its inputs declare: interval arithmetic."""

"""What probably keeps a Core ML model off the Neural Engine, or slows it there, read from the file alone."""

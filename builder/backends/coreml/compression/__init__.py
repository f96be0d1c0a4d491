"""Methods that make the weights of a Core ML model smaller, one file a method."""

"""What prevents a conversion: found in the captured graph, with its place in the code, and a remedy."""

"""The PyTorch side of a build: the model as the app calls it, and what is known of it."""

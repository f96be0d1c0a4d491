"""The content-addressed store and the keys of its entries."""

"""Factories of small models that the shipped recipes build; each shows how a factory of your own may look."""

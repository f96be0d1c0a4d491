"""Search: builds of one recipe with many settings, chosen by what earlier ones measured, until the best are known."""

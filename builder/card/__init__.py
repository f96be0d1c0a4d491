"""The model card of an artifact, and its publication on the Hugging Face Hub."""

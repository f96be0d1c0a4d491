"""What a detector's arrays are called, inside the artifact and by the app (no torch here)."""

CANDIDATES = ("raw_confidence", "raw_coordinates")
"""What the program gives the stage of non-maximum suppression."""
DECODED = ("scores", "boxes")
"""What it gives where the recipe wants raw arrays."""
THRESHOLDS = ("iouThreshold", "confidenceThreshold")
"""The inputs of that stage, which the app may leave out."""
DETECTED = ("confidence", "coordinates")
"""Its outputs, by the names that Vision looks for."""
PARTS = ("decode_boxes", "choose_boxes", "propose_boxes", "pool_boxes")
"""The modules of ours around a detector, which compute in float32: a trace names each by its own name alone."""

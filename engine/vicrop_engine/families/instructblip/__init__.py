"""InstructBLIP: one square input for a picture, read together with the question."""

"""InstructBLIP: a Q-Former reads the question with the picture, and its queries are the picture's tokens."""

"""The questions of the published method, which every family puts into its own template."""

ASKED = "{question} Answer the question using a single word or phrase."
GENERAL_QUESTION = "Write a general description of the image."

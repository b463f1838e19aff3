"""The model families: what each makes of a picture, and what stands for it in a prompt."""

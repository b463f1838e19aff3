"""SmolVLM, SmolVLM2 and Idefics3: pictures in tiles, a SigLIP tower, pixel shuffle, a Llama decoder."""

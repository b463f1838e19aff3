"""SmolVLM2, SmolVLM and Idefics3: SigLIP's tower on tiles, a pixel shuffle, a Llama decoder."""

"""SmolVLM2, SmolVLM and Idefics3: a picture in tiles, and the whole of it as the last one."""

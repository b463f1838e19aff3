"""LLaVA-1.5: one square picture, a CLIP tower and a two-layer projector before a Llama or Mistral decoder."""

"""Build time: makes an engine directory from a LLaVA checkpoint. Needs torch; the runtime never does."""

"""Build time: makes an engine directory from a checkpoint. Needs torch; the runtime never does."""

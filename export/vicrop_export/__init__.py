"""Build time: turns a LLaVA checkpoint into an engine directory. Needs torch; the runtime never imports it."""

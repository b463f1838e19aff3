"""The engine behind HTTP: OpenAI's vision requests, metrics and a page to try it on."""

"""OpenAI's chat requests and answers, whole and in chunks."""

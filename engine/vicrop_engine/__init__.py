"""vicrop-engine: answer questions about pictures with a second look at the place the model looked at."""

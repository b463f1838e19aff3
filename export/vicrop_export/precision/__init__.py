"""How weights are stored and multiplied in each precision."""

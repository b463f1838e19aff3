"""Who may ask, and with what: keys, host names, limits, pictures from strangers."""

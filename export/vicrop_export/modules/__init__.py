"""The modules that become graphs, of each target."""

"""Measurements of an engine: profiles, load, calibration, layers."""

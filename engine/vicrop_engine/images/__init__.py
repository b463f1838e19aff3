"""Pictures: decoded, placed, prepared for the vision tower, cut into tiles."""

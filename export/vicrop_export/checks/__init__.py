"""What a build holds its graphs against: transformers, plain rounding, float32, the published flow."""

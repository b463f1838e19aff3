"""Many requests at once on one engine: who computes when, what is shared, and answers decoded together."""

"""bytes → Config: parse, check, name every problem with its place."""

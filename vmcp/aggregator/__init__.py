"""The handler in the middle: what a method means over the table of the call."""

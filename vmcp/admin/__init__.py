"""A running vmcp looked at and told what to do: a UNIX socket and, by choice, a port of this machine, beside the listener."""

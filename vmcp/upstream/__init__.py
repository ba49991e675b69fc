"""Towards the backends: connections, negotiation, discovery, calls."""

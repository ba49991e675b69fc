"""Towards the clients: the listener, the door, sessions, and the runtime that puts the house together."""

"""Layers around the handler, each a function from handler to handler. ``call.PLACES`` has their order."""

"""Authorization by Cedar policies: read, checked and decided. Pure; the Cedar engine is loaded when a file asks for it."""

"""With which credential a request goes to a backend: vmcp's own, or the caller's; one module for each step to it."""

"""HTTP that vmcp asks on its own account: issuers, token endpoints, key sets; never what a client sends or a backend answers."""

"""What must outlive a request, perhaps a node."""

"""Config + catalogs → RoutingTable. Pure: the same input gives the same table."""

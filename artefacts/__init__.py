"""Ground floor: what every room shares. User errors, typed recipes, finished-or-absent output folders, manifests."""

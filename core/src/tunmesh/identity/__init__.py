"""Who a node is and what a mesh shares: the node key, the secrets and what is derived from them."""

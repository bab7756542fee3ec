"""The page: what an operator sees and orders, in a browser. A process of the operator's own, on loopback only."""

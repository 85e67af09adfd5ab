"""From new reviews to a new champion: train, compare, try in the shadow, on a share of the traffic, and promote."""

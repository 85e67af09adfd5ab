"""From new reviews to a new champion: train, compare, try in shadow, then on a share of the traffic, and promote."""

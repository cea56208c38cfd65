"""Memory, communication and step time of a layout, without a cluster."""

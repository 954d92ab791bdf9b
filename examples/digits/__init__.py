"""A classifier of handwritten digits, composed of two deployments."""

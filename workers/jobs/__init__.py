"""Jobs: durable requests with a lifecycle, and the ports through which they are stored and announced."""

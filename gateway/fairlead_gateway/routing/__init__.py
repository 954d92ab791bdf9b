"""Routing: names, trust, queues, picking a replica, retries, broadcasts."""

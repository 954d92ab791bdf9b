"""The gateway's doors: each turns its protocol into the router's one call shape and back."""

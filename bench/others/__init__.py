"""The same echo in the frameworks of others, as their documentation has one write it, and how they are started."""

"""What the gateway measures, and the page on which one scrape finds what all processes have measured."""

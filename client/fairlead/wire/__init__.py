"""The wire: frames, sessions, links, codecs and errors. What a client in another language would have to rewrite."""

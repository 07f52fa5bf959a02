"""What a browser sees: pages drawn on the server, the same to read with and without JavaScript."""

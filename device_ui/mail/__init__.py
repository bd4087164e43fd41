"""What the firmware asks for: an event taken, kept, and mailed. Of this room the web process sees `client` alone."""

"""What a browser sees. This room reads and writes settings and reaches the mail hook by `mail.client` alone."""

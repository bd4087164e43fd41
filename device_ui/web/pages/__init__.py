"""One file a page; show and update are two small functions."""

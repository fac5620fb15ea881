"""What flaskfleet's modules share on a host. Standard library only, Python 3.9 or newer."""

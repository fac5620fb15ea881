"""What flaskfleet's plugins share on the controller."""

"""What a user's settings say: built into objects, checked, refused in one line that names the field."""

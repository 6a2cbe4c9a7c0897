"""What finished runs do when their input changes, what they look at, and how long they take."""

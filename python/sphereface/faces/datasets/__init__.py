"""Data sets and models that come from elsewhere: fetching and checking them."""

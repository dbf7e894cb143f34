"""Whole jobs on data that comes with the installed packages; ``sphereface demo`` runs them."""

"""What `make gpu` and `make gpu-pack` are made of; the driver's part needs only Python."""
